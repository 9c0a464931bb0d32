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

from ..evaluation.ranks import gain
from ..evaluation.significance import benjamini_hochberg, holm, metric_of_users, paired_difference
from .study import ASKED, ERROR, TESTED

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
        Convention -> the plan's ``compared`` metric of each user, the mean over the seeds.
    ranks : list of DataFrame
        As ``evaluation.ranks`` gives them, one per seed.
    beyond : dict of str to float
        The measures of ``evaluation.beyond``, means over the seeds.
    curve : list of dict
        The learning curve of the first seed.
    valid_metric : str
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
    valid_metric: str
    seconds: float
    memory_gib: float
    parameters: int
    settings: dict
    faults: tuple


def collect(home, plan):
    """The ``Finding`` of every entry of a plan on every data set, whether or not there is one to speak of."""
    return [
        _finding(Path(home), dataset, one.name, plan) for dataset in plan.datasets for one in plan.entries
    ]


def _finding(home, dataset, name, plan):
    folders = {seed: home / dataset / name / f"seed-{seed}" for seed in plan.seeds}
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
            (kind, metric): [float(gain(frame[column], metric).mean()) for frame in ranks]
            for kind, column in COLUMNS.items()
            for metric in plan.metrics
        },
        users={kind: _mean_of_seeds(ranks, plan.compared, column) for kind, column in COLUMNS.items()},
        ranks=ranks,
        beyond={
            key: float(np.mean([outcome["beyond_accuracy"][key] for outcome in outcomes]))
            for key in (outcomes[0]["beyond_accuracy"] if outcomes else ())
            if all(key in outcome["beyond_accuracy"] for outcome in outcomes)
        },
        curve=outcomes[0]["curve"] if outcomes else [],
        valid_metric=str(given[0].get("valid_metric", "")) if given else "",
        seconds=float(np.mean([outcome["seconds"] for outcome in outcomes])) if outcomes else 0.0,
        memory_gib=max((outcome["peak_memory_gib"] for outcome in outcomes), default=0.0),
        parameters=max((outcome["parameters"] for outcome in outcomes), default=0),
        settings={key: value for key, value in given[0].items() if key != "seed"} if given else {},
        faults=faults,
    )


def _json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _mean_of_seeds(ranks, metric, column):
    """A metric of each user, the mean over frames of ranks."""
    if not ranks:
        return pd.Series(dtype=float)
    return pd.concat([metric_of_users(frame, metric, column) for frame in ranks], axis=1).mean(axis=1)


def differences(findings, pairs, kind="masked"):
    """A row for each pair of entries of one data set: the first minus the second, with intervals, tests, corrections.

    Pairs that were not tested on the same users, or not at all, are left out; one user says nothing.
    """
    users, rows = {found.name: found.users[kind] for found in findings}, []
    for ours, other in pairs:
        if len(users[ours]) > 1 and users[ours].index.equals(users[other].index):
            found = paired_difference(users[ours].to_numpy(), users[other].to_numpy())
            rows.append({"model": ours, "against": other, **vars(found)})
    table = pd.DataFrame(rows)
    if len(table):
        table["holm"], table["false_discovery"] = holm(table["p"]), benjamini_hochberg(table["p"])
    return table


def spread(values):
    """Mean and standard deviation over seeds; None for the second where there is one seed."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
