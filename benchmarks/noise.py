"""What random items in the histories cost each of some runs, as a table and a picture.

``python -m benchmarks.noise runs/HIER runs/RAG --picture noise.png``

The runs were made with ``--disturb_histories="[0.1,0.3,0.5]"``; runs of one model with several seeds are put together.
"""

import json
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import _rows
from recbole_llm.errors import ArtifactError

METRIC = "ndcg@10"


def kept(runs):
    """By model, {share of random items: [NDCG@10 of each run, as a share of that without them]}."""
    found, first = {}, None
    for run in runs:
        (outcome, *_) = json.loads((Path(run) / "metrics.json").read_text(encoding="utf-8"))["outcomes"]
        data = json.loads((Path(run) / "manifest.json").read_text(encoding="utf-8"))["dataset"]
        first = first or data
        if data != first:
            raise ArtifactError(
                f"{run} was run on {data['name']}, {runs[0]} on {first['name']} or other files of it; give runs on the "
                "same data"
            )
        if not outcome.get("disturbed"):
            raise ArtifactError(
                f'{run} has no disturbed histories; run it with --disturb_histories="[0.1,0.3,0.5]"'
            )
        whole = outcome["test"]["masked"][METRIC]
        of_model = found.setdefault(outcome["name"], {0.0: []})
        of_model[0.0].append(1.0)
        for share, ranks in outcome["disturbed"].items():
            of_model.setdefault(float(share), []).append(ranks["masked"][METRIC] / whole)
    return found


def draw(found, path):
    """Lines with the spread over seeds, the share of random items below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for model, by_share in found.items():
        shares = sorted(by_share)
        means = [np.mean(by_share[share]) for share in shares]
        spread = [np.std(by_share[share], ddof=1) if len(by_share[share]) > 1 else 0 for share in shares]
        axes.errorbar(
            [100 * s for s in shares],
            [100 * m for m in means],
            [100 * s for s in spread],
            label=model,
            marker="o",
            capsize=3,
        )
    axes.set(
        xlabel="random items for 100 events of a history", ylabel="NDCG@10 that is left, %", ylim=(0, 105)
    )
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main():
    """Read the runs, print, draw."""
    arguments = _rows.parser(__doc__)
    arguments.add_argument("runs", nargs="+", type=Path)
    arguments.add_argument("--picture", type=Path)
    options = arguments.parse_args()
    found = kept(options.runs)
    table = Table(title="NDCG@10 that is left, of that without random items")
    shares = sorted(set().union(*found.values()))
    for column in ("model", "runs", *(f"{share:.0%}" for share in shares)):
        table.add_column(column, justify="left" if column == "model" else "right")
    for model, by_share in found.items():
        left = (f"{np.mean(by_share[share]):.1%}" if share in by_share else "-" for share in shares)
        table.add_row(model, str(len(by_share[0.0])), *left)
    Console(width=120).print(table)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    if options.picture:
        draw(found, options.picture)


if __name__ == "__main__":
    main()
