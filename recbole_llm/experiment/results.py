"""What the trainings of a study found, put together: means over seeds, and differences user by user.

A difference is taken between the means over the seeds of each user's metric, so that it speaks of the users and of the
seeds at hand; the standard deviation beside a mean speaks of the seeds. Two models are compared on the seeds that both
have, where both were tested on the same targets. Corrections for many comparisons are over all differences of one data
set under one convention.
"""

import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from ..config import literal
from ..evaluation.leaks import Leaks
from ..evaluation.protocol import KEPT
from ..evaluation.ranks import gain
from ..evaluation.significance import (
    ONE_USER,
    benjamini_hochberg,
    holm,
    metric_of_users,
    paired_difference,
)
from .study import ASKED, ERROR, LOG, TESTED, VALIDATED

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
    shortened : dict of str to dict
        How many events of each history were told -> metric -> its mean over the seeds, history masked.
    curve : list of dict
        The learning curve of the first seed.
    valid_metric : str
    seconds, memory_gib, parameters, frozen : float
        Of a training: the mean over the seeds, the most, the number of weights that learn and of those that do not.
    texts : dict of str to dict
        Field -> the manifest of the text vectors that the first seed read.
    remarks : tuple of str
        What the model of the first seed has to say of itself, such as which encoder stood in for another.
    settings : dict
        What all seeds were trained with, defaults among it; what they were given where an older version kept no more.
    protocol : dict
        The settings that say how the first seed's data were split, as ``evaluation.protocol.split`` takes them.
    leaks : Leaks or None
        What the first seed's training part knew of the test part; None where it is not kept.
    commits : tuple of str
        The commit of the code that trained each seed, shortened.
    unrecorded : tuple of str
        The trainings of which an older version did not keep with what settings and on what data they were begun.
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
    shortened: dict
    curve: list
    valid_metric: str
    seconds: float
    memory_gib: float
    parameters: int
    frozen: int
    texts: dict
    remarks: tuple
    settings: dict
    protocol: dict
    leaks: Leaks | None
    commits: tuple
    unrecorded: tuple
    faults: tuple

    @cached_property
    def targets(self):
        """Seed -> (P, 2) tokens of user and item of each target, in the order of the tokens."""
        order = ["user", "item"]
        return {
            seed: frame[order].astype(str).sort_values(order).to_numpy()
            for seed, frame in zip(self.seeds, self.ranks, strict=True)
        }


def collect(home, plan):
    """The ``Finding`` of every entry of a plan on every data set, whether or not there is one to speak of."""
    return [
        _finding(Path(home), dataset, one.name, plan) for dataset in plan.datasets for one in plan.entries
    ]


def _finding(home, dataset, name, plan):
    folders = {seed: home / dataset / name / f"seed-{seed}" for seed in plan.seeds}
    done = {seed: folder for seed, folder in folders.items() if (folder / TESTED).is_file()}
    outcomes = [_json(folder / "metrics.json")["outcomes"][0] for folder in done.values()]
    ranks = [pd.read_parquet(folder / "ranks.parquet") for folder in done.values()]
    asked = [_json(folder / ASKED) for folder in done.values()]
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
        shortened=_shortened(outcomes),
        curve=outcomes[0]["curve"] if outcomes else [],
        valid_metric=str(asked[0]["given"].get("valid_metric", "")) if asked else "",
        seconds=float(np.mean([outcome["seconds"] for outcome in outcomes])) if outcomes else 0.0,
        memory_gib=max((outcome["peak_memory_gib"] for outcome in outcomes), default=0.0),
        parameters=max((outcome["parameters"] for outcome in outcomes), default=0),
        frozen=max((outcome.get("frozen", 0) for outcome in outcomes), default=0),
        texts=_texts(done),
        remarks=tuple(outcomes[0].get("remarks", ())) if outcomes else (),
        settings=_settings(asked[0]) if asked else {},
        protocol=_protocol(outcomes[0], asked[0]["given"]) if outcomes else {},
        leaks=Leaks(**outcomes[0]["leaks"]) if outcomes and outcomes[0].get("leaks") else None,
        commits=tuple(_commit(_json(folder / TESTED).get("git")) for folder in done.values()),
        unrecorded=_unrecorded(home / dataset / name, folders, plan.trials[name]),
        faults=(*_faults_of_trials(home / dataset / name, plan.trials[name]), *_faults_of_seeds(folders)),
    )


def _shortened(outcomes):
    """The masked metrics of histories cut short, means over some finished trainings of one entry."""
    if not outcomes:
        return {}
    return {
        length: {
            metric: float(np.mean([outcome["shortened"][length]["masked"][metric] for outcome in outcomes]))
            for metric in found["masked"]
        }
        for length, found in outcomes[0].get("shortened", {}).items()
    }


def _protocol(outcome, given):
    """How the data of a finished training were split; an older one knows what it was given alone."""
    return outcome.get("protocol") or {key: literal(given[key]) for key in KEPT if key in given}


def _settings(asked):
    """What a training was made with, its seed left out."""
    found = asked.get("settings", asked["given"])
    return {key: value for key, value in found.items() if key != "seed" and value is not None}


def _commit(git):
    """The commit of a manifest as a page names it."""
    return f"{git['commit'][:7]}{' with changes' * git['dirty']}" if git else "one not known"


def _unrecorded(home, folders, count):
    """The names of the trainings whose settings were not written down when they were begun."""
    every = [*(home / f"trial-{number}" for number in range(count)), *folders.values()]
    begun = [folder for folder in every if (folder / ASKED).is_file()]
    return tuple(folder.name for folder in begun if "settings" not in _json(folder / ASKED))


def _texts(done):
    """What the first of some finished trainings read of texts."""
    of_models = [_json(folder / TESTED)["texts"] for folder in done.values()]
    return next(iter(of_models[0].values()), {}) if of_models else {}


def _faults_of_trials(home, count):
    """What went wrong in each trial that was begun and is not finished; a line each."""
    folders = [home / f"trial-{number}" for number in range(count)]
    return [
        f"{folder.name}: {_fault(folder)}"
        for folder in folders
        if (folder / ASKED).is_file() and not (folder / VALIDATED).is_file()
    ]


def _faults_of_seeds(folders):
    """What went wrong in each training with a seed that is not finished; a line each."""
    return [
        f"{folder.name}: {_fault(folder) if (folder / ASKED).is_file() else 'not begun, for every trial failed'}"
        for folder in folders.values()
        if not (folder / TESTED).is_file()
    ]


def _fault(folder):
    """The error that a process left; one that a signal ended leaves none."""
    place = folder / ERROR
    said = place.read_text(encoding="utf-8") if place.is_file() else ""
    return said.splitlines()[0] if said else f"its process ended without a word; see {folder / LOG}"


def _json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _mean_of_seeds(ranks, metric, column):
    """A metric of each user, the mean over frames of ranks."""
    if not ranks:
        return pd.Series(dtype=float)
    return pd.concat([metric_of_users(frame, metric, column) for frame in ranks], axis=1).mean(axis=1)


def differences(findings, pairs, metric, kind="masked"):
    """A row for each pair of entries of one data set: the first minus the second, with intervals, tests, corrections.

    The pairs of ``left_out`` have none.
    """
    of, rows = {found.name: found for found in findings}, []
    for names in pairs:
        ours, other = map(of.get, names)
        if obstacle(ours, other) is None:
            shared = _seeds_of_both(ours, other)
            values = [_of_seeds(found, shared, metric, COLUMNS[kind]).to_numpy() for found in (ours, other)]
            rows.append({"model": ours.name, "against": other.name, **vars(paired_difference(*values))})
    table = pd.DataFrame(rows)
    if len(table):
        table["holm"], table["false_discovery"] = holm(table["p"]), benjamini_hochberg(table["p"])
    return table


def left_out(findings, pairs):
    """(first, second, why) of each pair of entries of one data set that cannot be compared."""
    of = {found.name: found for found in findings}
    found = [(*names, obstacle(*map(of.get, names))) for names in pairs]
    return [each for each in found if each[2]]


def obstacle(ours, other):
    """Why two findings cannot be compared, in words; None where they can be."""
    seeds = _seeds_of_both(ours, other)
    if not seeds:
        return "no seed was tested with both"
    for seed in seeds:
        targets, theirs = ours.targets[seed], other.targets[seed]
        if not np.array_equal(targets, theirs):
            same = (Counter(map(tuple, targets)) & Counter(map(tuple, theirs))).total()
            users = [set(each[:, 0]) for each in (targets, theirs)]
            return (
                f"they were tested on other targets: of {len(targets):,} and {len(theirs):,}, {same:,} are the same; "
                f"of {len(users[0]):,} and {len(users[1]):,} users, {len(users[0] & users[1]):,}"
            )
    return ONE_USER if len(set(ours.targets[seeds[0]][:, 0])) == 1 else None


def _seeds_of_both(ours, other):
    return [seed for seed in ours.seeds if seed in other.seeds]


def _of_seeds(found, seeds, metric, column):
    """A metric of each user, the mean over some of a finding's seeds."""
    return _mean_of_seeds([found.ranks[found.seeds.index(seed)] for seed in seeds], metric, column)


def spread(values):
    """Mean and standard deviation over seeds; None for the second where there is one seed."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
