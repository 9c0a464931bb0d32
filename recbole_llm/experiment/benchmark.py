"""Models beside models: each tuned on the validation part with the same number of trials, tested once for each seed.

    recbole-llm benchmark --models=Pop,SASRec,SASRec-strong,LLMSeqRec --datasets=ml-100k --seeds=2020,2021 --trials=4

Run again after it was stopped, the same command goes on where it was. The first trial of a search is the model's
defaults; the others are drawn from ``properties/sweep/<name>.yaml``. ``--trials=LLMSeqRec:1,SASRec-strong:4`` gives
each model its own number. The test part is read by the tuned models alone.

``--models=SRGNN,LLM4SBR-SRGNN``: a wrapper is named with what it wraps, and compared with that. The page shows the
``metrics`` that are asked for; differences are of ``--compare=ndcg@10``.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from ..config import literal
from ..errors import SettingError
from ..evaluation.ranks import GAINS
from ..model import get_model
from ..train.build import alike, configure, known_to
from ..train.run import VALIDATION, embed
from . import page, results, study
from .space import draws, entry

SPLIT = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
PROTOCOL = {  # of every training, unless the user asks for another
    "eval_args": SPLIT,
    "metrics": ["Recall", "NDCG"],
    "topk": [10],
    "valid_metric": "NDCG@10",
    "mask_history": True,
}
STRONG = "SASRec-strong"  # stands in every table: a gain over weak baselines is none
MODELS = "Pop,ItemKNN,BPR,FPMC,GRU4Rec,SASRec,SASRec-strong,LLMSeqRec"


@dataclass(frozen=True)
class Plan:
    """What a benchmark trains.

    Attributes
    ----------
    entries : tuple of Entry
    datasets : tuple of str
    seeds : tuple of int
    trials : dict of str to int
        Of each entry's search on each data set, its defaults among them; 1 where an entry's space is empty.
    ours : str or None
        The entry that the others are compared with; None: each wrapper with what it wraps.
    metrics : tuple of str
        Those of the page, e.g. ``ndcg@10``, the ``compared`` one first.
    shared : dict
        Settings of every training whose model knows them, as a command line gives them.
    """

    entries: tuple
    datasets: tuple
    seeds: tuple
    trials: dict
    ours: str | None
    metrics: tuple
    shared: dict

    @property
    def compared(self):
        """The metric that differences are of."""
        return self.metrics[0]

    @property
    def pairs(self):
        """(ours, theirs) of each difference."""
        names = [one.name for one in self.entries]
        if self.ours is None:
            return tuple((one.name, one.over) for one in self.entries if one.over in names)
        return tuple((self.ours, name) for name in names if name != self.ours)


def plan_from(given):
    """The ``Plan`` that a command line asks for; keys that are not the benchmark's own go to every training.

    Raises
    ------
    SettingError
        For an unknown model, an empty list, a number that is none.
    """
    given = dict(given)
    asked = _words(given.pop("models", MODELS), "models")
    datasets = _words(given.pop("datasets", "ml-100k"), "datasets")
    seeds = _numbers(given.pop("seeds", "2020,2021,2022"), "seeds")
    trials = given.pop("trials", "4")
    with_strong = _yes(given.pop("strong", "True"), "strong") and STRONG not in asked
    names = (*asked, STRONG) if with_strong else asked
    metrics = _metrics(given, given.pop("compare", None))
    if "seed" in given:
        raise SettingError("seed is that of one training; a benchmark takes --seeds")
    entries = tuple(entry(name) for name in names)
    for one in entries:
        get_model(one.model)
        get_model(entry(one.over or one.name).model)
    ours = given.pop("ours", None)
    if ours is None and not any(one.over in names for one in entries):
        ours = "LLMSeqRec" if "LLMSeqRec" in names else asked[-1]
    if ours not in (None, *names):
        raise SettingError(f"ours is {ours}, expected one of the models, {', '.join(names)}")
    return Plan(entries, datasets, seeds, _trials_of(entries, trials), ours, metrics, given)


def _trials_of(entries, text):
    """How many trials each entry has: one number for all, or ``name:number`` for each that has a space."""
    searched = [one.name for one in entries if one.space]
    if ":" not in text:
        (number,) = _numbers(text, "trials")
        numbers = dict.fromkeys(searched, number)
    else:
        pairs = [word.partition(":") for word in _words(text, "trials")]
        numbers = {name: _numbers(number, "trials")[0] for name, _, number in pairs}
        if set(numbers) != set(searched):
            raise SettingError(
                f"trials names {', '.join(numbers)}, expected each model that has a space: {', '.join(searched)}"
            )
    if min(numbers.values(), default=1) < 1:
        raise SettingError(f"trials is {text}, expected 1 or more; 1 tests the defaults")
    return {one.name: numbers.get(one.name, 1) for one in entries}


def _metrics(shared, compared):
    """The metrics of a page: those of the trainings that ranks tell, the compared one before the others."""
    names, topk = (literal(shared.get(key, PROTOCOL[key])) for key in ("metrics", "topk"))
    names, topk = ([found] if isinstance(found, str | int) else found for found in (names, topk))
    asked = [f"{name.lower()}@{k}" for name in names for k in topk if name.lower() in GAINS]
    if not asked:  # others are not told from ranks
        asked = [f"{name}@{k}" for name in ("ndcg", "recall") for k in topk]
    first = compared.lower() if compared else "ndcg@10" if "ndcg@10" in asked else asked[0]
    if first not in asked:
        raise SettingError(f"compare is {compared}, expected one of the metrics, {', '.join(asked)}")
    return (first, *(metric for metric in asked if metric != first))


def _yes(text, key):
    if str(text).lower() not in ("true", "false"):
        raise SettingError(f"{key} is {text!r}, expected True or False")
    return str(text).lower() == "true"


def _words(text, key):
    found = [word.strip() for word in str(text).strip("[]()").split(",") if word.strip()]
    if not found or len(set(found)) < len(found):
        raise SettingError(
            f"{key} is {text!r}, expected names with commas between, each once, e.g. --{key}=a,b"
        )
    return tuple(found)


def _numbers(text, key):
    words = _words(text, key)
    if not all(word.isdigit() for word in words):
        raise SettingError(f"{key} is {text!r}, expected whole numbers with commas between")
    return tuple(map(int, words))


def run(plan, home, workers=2, ray_address=None):
    """Search, train and test all of ``plan`` in the folder ``home``, then write its page; returns the page's path."""
    home = Path(home)
    _refuse_unknown(plan)
    planned = [(one, data, _settings(one, data, plan)) for data in plan.datasets for one in plan.entries]
    searches = [_trials(*each, plan) for each in planned]
    study.complete([cell for trials in searches for cell in trials], home, workers, ray_address)
    finals = []
    for (one, data, settings), trials in zip(planned, searches, strict=True):
        chosen = best_of(trials, home)
        if chosen is not None:  # where every trial failed nothing is tested, and the page says so
            tuned = settings | chosen
            finals += [study.Cell(f"{data}/{one.name}/seed-{n}", tuned | {"seed": n}) for n in plan.seeds]
    study.complete(finals, home, workers, ray_address)
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
    shared = known_to(one.model, dataset, plan.shared, one.keys)
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
