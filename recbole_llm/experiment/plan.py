"""What a benchmark is to train, as a command line asks for it."""

from dataclasses import dataclass, replace

from ..config import check_metrics, literal, read_files
from ..errors import SettingError, meant
from ..evaluation.markdown import pretty
from ..evaluation.ranks import GAINS
from ..model import get_model
from .space import entry

SPLIT = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
PROTOCOL = {  # of every training, unless the user asks for another
    "eval_args": SPLIT,
    "metrics": ["Recall", "NDCG"],
    "topk": [10],
    "valid_metric": "NDCG@10",
    "mask_history": True,
}
STRONG = "SASRec-strong"  # stands in every table: a gain over weak baselines is none
INSTEAD = {  # keys of one training, which would stand in the place of every entry's own
    "model": "a benchmark takes --models, an ablation --model on the command line",
    "dataset": "a benchmark takes --datasets",
    "seed": "a benchmark takes --seeds",
    "baseline": "name it among --models",
    "resume": "the same command with the same --out goes on where it was",
    "refit": "give it to `recbole-llm train`",
    "run_path": "a benchmark takes --out",
    "run_name": "a benchmark takes --out",
    "nproc": "a benchmark takes --workers",
}
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
    switches : bool
        Whether the entries are one model's switches, each in the place of what ``shared`` says of its keys.
    between : tuple of (str, str)
        Entries that are compared with each other besides.
    """

    entries: tuple
    datasets: tuple
    seeds: tuple
    trials: dict
    ours: str | None
    metrics: tuple
    shared: dict
    switches: bool = False
    between: tuple = ()

    def shared_with(self, one):
        """The ``shared`` settings that an entry's trainings are given."""
        return {key: self.shared[key] for key in self.shared if not (self.switches and key in one.keys)}

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
        return (*((self.ours, name) for name in names if name != self.ours), *self.between)


def plan_from(given):
    """The ``Plan`` that a command line asks for; keys that are not the benchmark's own go to every training.

    So do those of ``config_files``, unless the command line has them too. No search varies a key that is given.

    Raises
    ------
    SettingError
        For an unknown model, an empty list, a number that is none, a metric that ranks do not tell, a key of one
        training.
    """
    given = dict(given)
    asked = words(given.pop("models", MODELS), "models")
    datasets = words(given.pop("datasets", "ml-100k"), "datasets")
    seeds = _numbers(given.pop("seeds", "2020,2021,2022"), "seeds")
    trials = given.pop("trials", "4")
    with_strong = _yes(given.pop("strong", "True"), "strong") and STRONG not in asked
    names = (*asked, STRONG) if with_strong else asked
    compared, ours = given.pop("compare", None), given.pop("ours", None)
    shared = read_files(given.pop("config_files", "").split()) | given
    for key, instead in INSTEAD.items():
        if key in shared:
            raise SettingError(f"{key} is that of one training; {instead}")
    metrics = _metrics(shared, compared)
    entries = tuple(_without(shared, entry(name)) for name in names)
    for one in entries:
        get_model(one.model)
        get_model(entry(one.over or one.name).model)
    if ours is None and not any(one.over in names for one in entries):
        ours = "LLMSeqRec" if "LLMSeqRec" in names else asked[-1]
    if ours not in (None, *names):
        raise SettingError(f"ours is {ours}, expected one of the models, {', '.join(names)}")
    return Plan(entries, datasets, seeds, _trials_of(entries, trials), ours, metrics, shared)


def _without(shared, one):
    """An entry whose search leaves alone what is given."""
    return replace(one, space={key: one.space[key] for key in one.space if key not in shared})


def _trials_of(entries, text):
    """How many trials each entry has: one number for all, or ``name:number`` for each that has a space."""
    searched = [one.name for one in entries if one.space]
    if ":" not in text:
        found = _numbers(text, "trials")
        if len(found) > 1:
            raise SettingError(
                f"trials is {text}, expected one number, or one for each model: <model>:<number>"
            )
        numbers = dict.fromkeys(searched, found[0])
    else:
        pairs = [word.partition(":") for word in words(text, "trials")]
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
    names, topk = (found if isinstance(found, list | tuple) else [found] for found in (names, topk))
    if not names or not all(isinstance(name, str) for name in names):
        raise SettingError(
            f"metrics is {shared['metrics']!r}, expected names, e.g. --metrics=['Recall','NDCG']"
        )
    check_metrics(names)
    if not topk or not all(isinstance(k, int) and k > 0 for k in topk):
        raise SettingError(f"topk is {shared['topk']!r}, expected whole numbers above 0, e.g. --topk=[5,10]")
    asked = [f"{name.lower()}@{k}" for name in names for k in topk if name.lower() in GAINS]
    if not asked:  # others stand in the report of each training alone
        raise SettingError(
            f"metrics names {', '.join(names)}, but models are compared by what ranks tell; name one of "
            f"{', '.join(map(pretty, GAINS))} too"
        )
    first = compared.lower() if compared else "ndcg@10" if "ndcg@10" in asked else asked[0]
    if first not in asked:
        raise SettingError(f"compare is {compared}; {meant(first, asked)}")
    return (first, *(metric for metric in asked if metric != first))


def _yes(text, key):
    if str(text).lower() not in ("true", "false"):
        raise SettingError(f"{key} is {text!r}, expected True or False")
    return str(text).lower() == "true"


def words(text, key):
    """The names of a list with commas between.

    Raises
    ------
    SettingError
        If there is none, or one stands twice.
    """
    found = [word.strip() for word in str(text).strip("[]()").split(",") if word.strip()]
    if not found or len(set(found)) < len(found):
        raise SettingError(
            f"{key} is {text!r}, expected names with commas between, each once, e.g. --{key}=a,b"
        )
    return tuple(found)


def _numbers(text, key):
    found = words(text, key)
    if not all(word.isascii() and word.isdigit() for word in found):
        raise SettingError(f"{key} is {text!r}, expected whole numbers with commas between")
    found = tuple(map(int, found))
    if len(set(found)) < len(found):
        raise SettingError(f"{key} is {text!r}, expected each number once")
    return found
