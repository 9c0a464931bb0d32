"""What the texts are worth: LLMSeqRec beside itself without text, with the texts of other items, and with noise.

``python -m benchmarks.controls [--dataset ml-100k] [--data_path FOLDER] [--seed N]``

Each is trained alike, from the same seed, and compared user by user on the test part: NDCG@10, seen items masked, 95 %
interval of a paired bootstrap.
"""

import pandas as pd

from benchmarks import _rows
from recbole_llm.evaluation.significance import compare
from recbole_llm.train.run import main as run

CONTROLS = {
    "no text": {"fusion": "id_only"},
    "texts of other items": {"text_control": "shuffled"},
    "noise for texts": {"text_control": "random"},
}


def main():
    """Train the model and its controls, compare, print."""
    arguments = _rows.parser(__doc__)
    arguments.add_argument("--dataset", default="ml-100k")
    arguments.add_argument(
        "--data_path", default="dataset", help="folder that holds <dataset>/<dataset>.inter"
    )
    arguments.add_argument("--seed", type=int, default=2020)
    options = arguments.parse_args()
    given = {"model": "LLMSeqRec", "dataset": options.dataset, "data_path": options.data_path}
    given |= {"seed": options.seed, "baseline": None}

    def ranks(keys):
        folder = run([f"--{key}={value}" for key, value in (given | keys).items()])
        return pd.read_parquet(folder / "ranks.parquet")

    full, rows = ranks({}), []
    for name, keys in CONTROLS.items():
        found = compare(full, ranks(keys))
        measure = (
            f"full against {name}: {found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f}), p {found.p:.4f}"
        )
        rows.append(_rows.Row(measure, found.ours, found.theirs, 1.0, "NDCG@10"))
    _rows.show(f"{options.dataset}, seed {options.seed}, {found.users:,} users", rows, options.json)


if __name__ == "__main__":
    main()
