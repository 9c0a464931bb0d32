"""What the trainings of a study found, put together: means over seeds, and differences user by user.

A difference is taken between the means over the seeds of each user's metric, so that it speaks of the users and of the
seeds at hand; the standard deviation beside a mean speaks of the seeds. Corrections for many comparisons are over all
differences of a data set.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..evaluation.ranks import metrics_from
from ..evaluation.significance import benjamini_hochberg, holm, ndcg_of_users, paired_difference
from .study import ASKED, ERROR, TESTED

METRICS = ("ndcg@10", "recall@10")
COLUMNS = {"masked": "rank_masked", "unmasked": "rank"}


@dataclass(frozen=True)
class Finding:
    """What the trainings of one entry on one data set found.

    Attributes
    ----------
    dataset, name : str
    seeds : tuple of int
        Those whose training is finished.
    metrics : dict of (str, str) to list of float
        (convention, metric) -> a value per seed.
    users : dict of str to Series
        Convention -> NDCG@10 of each user, the mean over the seeds.
    ranks : list of DataFrame
        As ``evaluation.ranks`` gives them, one per seed.
    beyond : dict of str to float
        The measures of ``evaluation.beyond``, means over the seeds.
    curve : list of dict
        The learning curve of the first seed.
    metric : str
        What was validated.
    seconds, memory_gib, parameters : float
        Of a training: the mean over the seeds, the most, the number of weights.
    settings : dict
        What all seeds were given.
    faults : tuple of str
        What went wrong, training by training.
    """

    dataset: str
    name: str
    seeds: tuple
    metrics: dict
    users: dict
    ranks: list
    beyond: dict
    curve: list
    metric: str
    seconds: float
    memory_gib: float
    parameters: int
    settings: dict
    faults: tuple


def collect(home, datasets, names, seeds):
    """The ``Finding`` of every entry on every data set, whether or not there is one to speak of."""
    return [_finding(Path(home), dataset, name, seeds) for dataset in datasets for name in names]


def _finding(home, dataset, name, seeds):
    folders = {seed: home / dataset / name / f"seed-{seed}" for seed in seeds}
    done = {seed: folder for seed, folder in folders.items() if (folder / TESTED).is_file()}
    faults = tuple(
        f"{folder.name}: {(folder / ERROR).read_text(encoding='utf-8').splitlines()[0]}"
        for folder in sorted((home / dataset / name).glob("*"))
        if (folder / ERROR).is_file()
    )
    outcomes = [_json(folder / "metrics.json")["outcomes"][0] for folder in done.values()]
    ranks = [pd.read_parquet(folder / "ranks.parquet") for folder in done.values()]
    given = [_json(folder / ASKED)["given"] for folder in done.values()]
    return Finding(
        dataset=dataset,
        name=name,
        seeds=tuple(done),
        metrics={
            (kind, metric): [float(metrics_from(frame[column], [10])[metric]) for frame in ranks]
            for kind, column in COLUMNS.items()
            for metric in METRICS
        },
        users={kind: _mean_of_seeds(ranks, column) for kind, column in COLUMNS.items()},
        ranks=ranks,
        beyond={
            key: float(np.mean([outcome["beyond_accuracy"][key] for outcome in outcomes]))
            for key in (outcomes[0]["beyond_accuracy"] if outcomes else ())
            if all(key in outcome["beyond_accuracy"] for outcome in outcomes)
        },
        curve=outcomes[0]["curve"] if outcomes else [],
        metric=str(given[0].get("valid_metric", "")) if given else "",
        seconds=float(np.mean([outcome["seconds"] for outcome in outcomes])) if outcomes else 0.0,
        memory_gib=max((outcome["peak_memory_gib"] for outcome in outcomes), default=0.0),
        parameters=max((outcome["parameters"] for outcome in outcomes), default=0),
        settings={key: value for key, value in given[0].items() if key != "seed"} if given else {},
        faults=faults,
    )


def _json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _mean_of_seeds(ranks, column):
    """NDCG@10 of each user, the mean over frames of ranks."""
    if not ranks:
        return pd.Series(dtype=float)
    return pd.concat([ndcg_of_users(frame, column) for frame in ranks], axis=1).mean(axis=1)


def differences(findings, ours, kind="masked"):
    """A row for each other entry of one data set: ours minus it, with intervals, tests and their corrections.

    Entries that were not tested on the same users as ours, or not at all, are left out; one user says nothing.
    """
    first = next(found for found in findings if found.name == ours)
    rows = []
    for other in findings:
        same = (
            other is not first
            and len(first.users[kind]) > 1
            and first.users[kind].index.equals(other.users[kind].index)
        )
        if same:
            found = paired_difference(first.users[kind].to_numpy(), other.users[kind].to_numpy())
            rows.append({"against": other.name, **vars(found)})
    table = pd.DataFrame(rows)
    if len(table):
        table["holm"], table["false_discovery"] = holm(table["p"]), benjamini_hochberg(table["p"])
    return table


def spread(values):
    """Mean and standard deviation over seeds; None for the second where there is one seed."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
