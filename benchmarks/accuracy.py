"""LLMSeqRec on ml-1m or amazon-beauty, 2 cores: accuracy beside published figures, time and memory.

``python -m benchmarks.accuracy --dataset ml-1m --data_path FOLDER [--refit] [--seed N]``

The published figures (eSASRec, https://arxiv.org/abs/2508.06450, leave-one-out, every item ranked, seen items masked)
were reached by training on the validation items too; ``--refit`` does the same and is compared under its own name.
"""

import json
from time import perf_counter

from benchmarks import _rows
from recbole_llm.train.run import main as run

PUBLISHED = {
    "ml-1m": {"ndcg@10": 0.1772, "recall@10": 0.3133},
    "amazon-beauty": {"ndcg@10": 0.0523, "recall@10": 0.0928},
}
ASKED = {
    "ml-1m": {"ndcg@10": 0.175, "recall@10": 0.305},
    "amazon-beauty": {"ndcg@10": 0.058, "recall@10": 0.096},
}


def main():
    """Train, test and print."""
    arguments = _rows.parser(__doc__)
    arguments.add_argument("--dataset", choices=sorted(PUBLISHED), default="amazon-beauty")
    arguments.add_argument(
        "--data_path", default="dataset", help="folder that holds <dataset>/<dataset>.inter"
    )
    arguments.add_argument("--seed", type=int, default=2020)
    arguments.add_argument("--refit", action="store_true", help="afterwards train on training + validation")
    options = arguments.parse_args()
    given = {"model": "LLMSeqRec", "dataset": options.dataset, "data_path": options.data_path}
    given |= {"seed": options.seed, "refit": options.refit}
    started = perf_counter()
    folder = run([f"--{key}={value}" for key, value in given.items()])
    minutes = (perf_counter() - started) / 60
    outcomes = json.loads((folder / "metrics.json").read_text())["outcomes"]
    rows = [_rows.Row("whole job, embedding included (60 at most)", minutes, None, None, "minutes")]
    rows.append(_rows.Row("peak memory (3 at most)", outcomes[0]["peak_memory_gib"], None, None, "GiB"))
    for outcome in outcomes:
        for metric, published in PUBLISHED[options.dataset].items():
            asked = published if "refit" in outcome["name"] else ASKED[options.dataset][metric]
            measure = f"{outcome['name']}: test {metric}, history masked"
            rows.append(_rows.Row(measure, outcome["test"]["masked"][metric], published, asked, "value"))
    _rows.show(f"{options.dataset}, seed {options.seed}; theirs: eSASRec as published", rows, options.json)


if __name__ == "__main__":
    main()
