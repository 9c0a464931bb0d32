"""Models beside models: each tuned on the validation part with the same number of trials, tested once for each seed.

    recbole-llm benchmark --models=Pop,SASRec,SASRec-strong,LLMSeqRec --datasets=ml-100k --seeds=2020,2021 --trials=4

Run again after it was stopped, the same command goes on where it was. The first trial of a search is the model's
defaults; the others are drawn from ``properties/sweep/<name>.yaml``. ``--trials=LLMSeqRec:1,SASRec-strong:4`` gives
each model its own number. The test part is read by the tuned models alone.

``--models=SRGNN,LLM4SBR-SRGNN``: a wrapper is named with what it wraps, and compared with that. The page shows the
``metrics`` that are asked for; differences are of ``--compare=ndcg@10``. Other keys, and those of ``--config_files``,
go to every training, and no search varies them. On a Ray cluster (``--ray_address``) a training takes ``--cpus=1`` and
``--gpus=0``; 0.5 lets two share a GPU.
"""

import json
from pathlib import Path

from ..errors import SettingError
from ..evaluation.manifest import write_json
from ..llm.on_ray import connect
from ..model import get_model
from ..train.build import alike, configure, known_to
from ..train.run import VALIDATION, embed
from . import page, results, study
from .plan import PROTOCOL
from .space import draws, entry

PLACES = ("data_path", "raw_path")  # of the data; where it lay when a training was begun matters to none
CHOSEN = "chosen.json"  # what a search chose, once a training with a seed was begun


def run(plan, home, workers=2, cluster=None):
    """Search, train and test all of ``plan`` in the folder ``home``, then write its page; returns the page's path.

    ``workers`` trainings at a time run on this machine; on an ``on_ray.Cluster``, as many as that says.
    """
    home = Path(home)
    if home.exists() and not home.is_dir():
        raise SettingError(f"out is {home}, which is a file; give a folder")
    _refuse_unknown(plan)
    if cluster:
        # before anything is embedded or trained: there may be no Ray, or nobody there
        connect(cluster.address)
    planned = [(one, data, _settings(one, data, plan)) for data in plan.datasets for one in plan.entries]
    searches = [_trials(*each, plan) for each in planned]
    tests = [home / data / one.name / f"seed-{n}" for one, data, _ in planned for n in plan.seeds]
    places = {key: plan.shared.get(key) for key in PLACES}
    for folder in (*tests, *(home / cell.name for trials in searches for cell in trials)):
        if (folder / study.ASKED).is_file():
            study.refuse_changed(folder, places)
    later = sum(not (folder / study.TESTED).is_file() for folder in tests)
    study.complete([cell for trials in searches for cell in trials], home, workers, cluster, later=later)
    finals = []
    for (one, data, settings), trials in zip(planned, searches, strict=True):
        chosen = _choice(trials, home, home / data / one.name)
        if chosen is not None:  # where every trial failed nothing is tested, and the page says so
            tuned = settings | chosen
            finals += [study.Cell(f"{data}/{one.name}/seed-{n}", tuned | {"seed": n}) for n in plan.seeds]
    study.complete(finals, home, workers, cluster)
    found = results.collect(home, plan)
    return page.write(home, found, plan)


def _refuse_unknown(plan):
    """Refuse a shared key that no model of the plan knows."""
    models = [(one.model, one.keys) for one in plan.entries] + [
        (one.like, {}) for one in plan.entries if one.like
    ]
    known = {key for model, keys in models for key in known_to(model, plan.datasets[0], plan.shared, keys)}
    for key in plan.shared.keys() - known:
        model = plan.entries[0].model  # says which key comes near
        configure(model, {"model": model, "dataset": plan.datasets[0], key: plan.shared[key]})


def _settings(one, dataset, plan):
    """The settings of an entry on a data set before its search; refused here, before anything is trained, if wrong."""
    shared = known_to(one.model, dataset, plan.shared_with(one), one.keys)
    settings = PROTOCOL | {"dataset": dataset} | shared
    if one.over:
        inner = entry(one.over)
        settings |= _trained_as(one, configure(inner.model, _settings(inner, dataset, plan)))
    if one.like:
        settings |= taken_over(
            one, PROTOCOL | {"dataset": dataset} | known_to(one.like, dataset, plan.shared)
        )
    settings |= {"model": one.model, "baseline": "None"} | one.keys | shared
    example = {key: value for drawn in draws(one.space, 2, 0) for key, value in drawn.items()}
    config = configure(one.model, settings | example)
    if set(config["eval_args"]["mode"].values()) != {"full"} or config["saved"] is False:
        raise SettingError(
            "a benchmark compares the ranks of all items: set eval_args' mode to full and leave saved True"
        )
    if plan.trials.get(one.name, 1) > 1 and config["eval_step"] < 1:
        raise SettingError(
            "eval_step is 0, but a search chooses by the validation part: set it to 1, or trials to 1"
        )
    if getattr(get_model(one.model), "reads_text", lambda config: False)(config):
        embed([f"--{key}={value}" for key, value in settings.items()])  # once, not in every training at once
    return settings


def taken_over(one, given):
    """The keys with which an entry has data, size, rows, optimiser and stopping of the model that it is ``like``."""
    return _trained_as(one, configure(one.like, given | {"model": one.like}))


def _trained_as(one, beside):
    found = alike(one.model, beside, one.keys)
    texts = ("text_",) if one.over else ()  # what is wrapped may read none
    return {key: value for key, value in found.items() if value is not None and not key.startswith(texts)}


def _trials(one, dataset, settings, plan):
    """The cells of an entry's search; none where there is nothing to choose."""
    count = plan.trials[one.name]
    if count == 1:
        return []
    fixed = settings | {"seed": plan.seeds[0]}
    return [
        study.Cell(f"{dataset}/{one.name}/trial-{n}", fixed | drawn, tested=False)
        for n, drawn in enumerate(draws(one.space, count, plan.seeds[0]))
    ]


def _choice(trials, home, folder):
    """``best_of`` the trials of an entry's ``folder``; the choice stands while there are trainings that have it.

    Otherwise a trial that had failed, and wins when it is tried again, would give them other settings on their way.
    """
    place = folder / CHOSEN
    if place.is_file() and any(folder.glob(f"seed-*/{study.ASKED}")):
        before = json.loads(place.read_text(encoding="utf-8"))
        if before["trials"] == len(trials):
            return before["given"]
    chosen = best_of(trials, home)
    if trials and chosen is not None:
        write_json(place, {"trials": len(trials), "given": chosen})
    return chosen


def best_of(trials, home):
    """What the best trial on validation has beyond the first one; None where there are trials and none was finished."""
    if not trials:
        return {}
    done = [cell for cell in trials if (home / cell.name / VALIDATION).is_file()]
    if not done:
        return None
    scores = [
        json.loads((home / cell.name / VALIDATION).read_text(encoding="utf-8"))["score"] for cell in done
    ]
    best = done[scores.index(max(scores))]
    return {key: value for key, value in best.given.items() if trials[0].given.get(key) != value}
