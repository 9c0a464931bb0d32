"""What random items in the histories cost each of some runs, as a table and a picture.

``python -m benchmarks.noise runs/HIER runs/RAG --picture noise.png``

The runs were made with ``--disturb_histories="[0.1,0.3,0.5]"``. Runs that differ by their seed alone are put together;
where runs of one model were given different settings, each kind has a line of its own that names them.
"""

import json
from itertools import dropwhile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import _rows
from recbole_llm.config import read_arguments
from recbole_llm.errors import ArtifactError

METRIC = "ndcg@10"
SETTINGS = ("settings.json", "cell.json")  # what a run was given: of a single one, of one of a benchmark's
ALONE = """
    seed model dataset data_path raw_path artifact_path checkpoint_dir run_path run_name resume saved show_progress
    use_gpu gpu_id nproc device_threads eval_batch_size disturb_histories shorten_histories baseline refit
""".split()  # keys that tell no two models apart


def settings_of(run):
    """What a run was given, as text by key, without what tells no two models apart; of a folder, that it was given.

    Raises
    ------
    ArtifactError
        If the run kept none.
    """
    for name in SETTINGS:
        if (Path(run) / name).is_file():
            given = json.loads((Path(run) / name).read_text(encoding="utf-8"))
            break
    else:  # a run that kept no weights kept no settings
        command = json.loads((Path(run) / "manifest.json").read_text(encoding="utf-8")).get("command", ())
        given = read_arguments(dropwhile(lambda word: not word.startswith("-"), command))
        if not given:
            raise ArtifactError(
                f"{run} does not say what it was given; expected {' or '.join(SETTINGS)}, or a command in its manifest"
            )
    given = given.get("given", given)  # a benchmark's file says more
    found = {key: str(value) for key, value in given.items() if key not in ALONE}
    return found | ({"start_from": "given"} if "start_from" in found else {})  # a folder of the same seed


def names_of(runs, models):
    """What each run is called: its model and those settings in which runs of this model differ."""
    settings = [settings_of(run) for run in runs]
    names = []
    for model, own in zip(models, settings, strict=True):
        alike = [other for other, name in zip(settings, models, strict=True) if name == model]
        differ = [key for key in sorted(set().union(*alike)) if len({other.get(key) for other in alike}) > 1]
        names.append(", ".join([model, *(f"{key} {own.get(key, 'by default')}" for key in differ)]))
    return names


def kept(runs):
    """By model and settings, {share of random items: [NDCG@10 of each run, as a share of that without them]}."""
    found, outcomes = {}, outcomes_of(runs)
    for name, outcome in zip(names_of(runs, [each["name"] for each in outcomes]), outcomes, strict=True):
        whole = outcome["test"]["masked"][METRIC]
        by_share = found.setdefault(name, {0.0: []})
        by_share[0.0].append(1.0)
        for share, ranks in outcome["disturbed"].items():
            by_share.setdefault(float(share), []).append(ranks["masked"][METRIC] / whole)
    return found


def outcomes_of(runs):
    """The first outcome of each run.

    Raises
    ------
    ArtifactError
        If runs are on different data, or have no disturbed histories.
    """
    found, first = [], None
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
        found.append(outcome)
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
