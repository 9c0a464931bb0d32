"""A search of one model's settings by Ray Tune: poor trials end early, and the best alone reads the test part, once.

    recbole-llm tune --model=LLMSeqRec --dataset=ml-100k --trials=12 [--search=optuna] [--workers=2] [--out=tune]

The first trial is the model's defaults; the others are drawn from ``properties/sweep/<model>.yaml`` or ``--space``. All
are validated and stopped as ``train`` does it. They report after every validation, and ASHA goes on with the best third
of those that came as far; the defaults come to their end in any case, for the best is compared with them. Liam Li et
al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, https://arxiv.org/abs/1810.05934. A trial is a
run like any other, so that a search that was stopped goes on, with ``--resume=<folder>``, in the middle of its epochs.
"""

import itertools
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
import yaml
from rich.console import Console
from rich.table import Table

from ..config import literal, read_files, read_yaml
from ..errors import SettingError
from ..evaluation.manifest import write_bytes, write_json
from ..model import get_model
from ..train import run
from ..train.build import configured, known_to
from . import ray_tune
from .benchmark import taken_over
from .on_ray import share
from .space import check, draws, entry
from .study import TESTED

ASKED, BEST, TABLE = "sweep.json", "best.yaml", "trials.csv"
SEARCHES = ("random", "grid", "optuna")
OWN = ("baseline", "run_path", "run_name", "show_progress", "resume")  # of a trial; no settings of its model


@dataclass(frozen=True)
class Sweep:
    """What a search trains.

    Attributes
    ----------
    given : dict
        Settings of every trial, as a command line gives them.
    space : dict
        What the search may vary, as ``space`` has it.
    trials : int
        The defaults among them; a grid has as many as it has points.
    search : {"random", "grid", "optuna"}
    grace : int or None
        Epochs that every trial is given; None: a fifth of all, one at least, for at a tenth a slow start looks bad.
    workers : int
        Trials at a time.
    cpus, gpus : float
        Of one trial; a GPU may be shared.
    """

    given: dict
    space: dict
    trials: int = 12
    search: str = "random"
    grace: int | None = None
    workers: int = 2
    cpus: float = 1.0
    gpus: float = 0.0


def plan_from(given):
    """The ``Sweep`` that a command line asks for; keys that are not the search's own go to every trial.

    Raises
    ------
    SettingError
        If a key, a value or the space cannot be used; nothing was trained then.
    """
    given = dict(given)
    kinds = {"trials": _count, "grace": _count, "workers": _count, "cpus": share, "gpus": share}
    own = {key: kind(key, given.pop(key)) for key, kind in kinds.items() if key in given}
    if "search" in given:
        own["search"] = given.pop("search")
    file = given.pop("space", None)
    given = {"model": "LLMSeqRec"} | read_files(given.pop("config_files", "").split()) | given
    if "dataset" not in given:
        raise SettingError("--dataset not given; e.g. --model=LLMSeqRec --dataset=ml-100k")
    one = entry(given["model"])
    get_model(one.model)  # a name that nobody knows is refused with the nearest
    if one.like:  # a key that the other model alone knows is taken over as far as this one has its like
        shared = {key: value for key, value in given.items() if key not in ("model", "dataset")}
        theirs, ours = (known_to(model, given["dataset"], shared) for model in (one.like, one.model))
        given = {key: value for key, value in given.items() if key in ours or key not in theirs}
        given = taken_over(one, theirs | {"dataset": given["dataset"]}) | one.keys | given
    given = one.keys | given | {"model": one.model, "baseline": "None"}
    sweep = Sweep(given, _space(file) if file else one.space, **own)
    if not sweep.space:
        raise SettingError(
            "there is nothing to vary: give --space=<file>.yaml with lines such as dropout: [0.1, 0.3]"
        )
    if sweep.search not in SEARCHES:
        raise SettingError(f"search is {sweep.search}, expected one of {', '.join(SEARCHES)}")
    example = {key: value for drawn in draws(sweep.space, 2, 0) for key, value in drawn.items()}
    config = configured(given | example)  # refuses unknown keys, those of the space too
    if config["eval_step"] < 1:
        raise SettingError("eval_step is 0, but a search chooses by the validation part: set it to 1")
    if (sweep.grace or 1) > config["epochs"]:
        raise SettingError(
            f"grace is {sweep.grace}, expected at most the {config['epochs']} epochs of a trial"
        )
    _points(sweep, config)  # refuses a grid of ranges
    return sweep


def _count(key, text):
    try:
        count = int(text)
    except ValueError:
        raise SettingError(f"{key} is {text!r}, expected a number") from None
    if count < 1:
        raise SettingError(f"{key} is {text}, expected 1 or more")
    return count


def _space(file):
    if not Path(file).is_file():
        raise SettingError(f"space: no file {file}; give a YAML file with lines such as dropout: [0.1, 0.3]")
    space = read_yaml(Path(file))
    check(space)
    return space


def _points(sweep, config):
    """What is tried: the defaults, then a random search's draws or the points of a grid; Optuna draws its own."""
    defaults = {key: config[key] for key in sweep.space}
    if sweep.search == "optuna":
        return [defaults]
    if sweep.search == "random":
        found = draws(sweep.space, sweep.trials, int(sweep.given.get("seed", config["seed"])))[1:]
    else:
        ranges = [key for key, values in sweep.space.items() if not isinstance(values, list)]
        if ranges:
            raise SettingError(
                f"a grid needs lists, but {', '.join(ranges)} has a range; use --search=random or optuna"
            )
        found = [
            dict(zip(sweep.space, each, strict=True)) for each in itertools.product(*sweep.space.values())
        ]
    return [defaults, *(point for point in found if point != defaults)]


def run_sweep(sweep, home, ray_address=None):
    """Search, test the best and leave ``best.yaml``, ``trials.csv`` and the run ``best`` in ``home``; returns the last.

    Raises
    ------
    SettingError
        If ``home`` holds another search, or no trial was finished.
    """
    home = Path(home).resolve()
    _ask(sweep, home)
    if torch.cuda.is_available() and not sweep.gpus:
        print("The trials train without a GPU; --gpus=0.5 would give each half of one")
    config = configured(sweep.given)
    if getattr(get_model(sweep.given["model"]), "reads_text", lambda config: False)(config):
        run.embed(
            [f"--{key}={value}" for key, value in sweep.given.items()]
        )  # once, not in all trials at once
    points = _points(sweep, config)
    tried = ray_tune.search(
        sweep, points, trial, home, config["epochs"], ray_address, again=not _chosen(home)
    )
    found = _table(tried, points[0], config["epochs"])
    write_bytes(home / TABLE, found.to_csv(index=False).encode())
    if found["validation"].isna().all():
        raise SettingError(
            f"none of {len(found)} trials was finished; the first said: {found['error'].iloc[0]}"
        )
    best = tried[found.index[0]]
    _write_best(home / BEST, sweep.given | best.drawn, found, config["valid_metric"])
    _show(found, home)
    return _test(sweep.given | best.drawn, best.folder, home)


def resumed(home):
    """The ``Sweep`` that was begun in ``home``."""
    place = Path(home) / ASKED
    if not place.is_file():
        raise SettingError(f"resume: no {place}; give the folder of a search, its --out")
    return Sweep(**json.loads(place.read_text(encoding="utf-8")))


def _ask(sweep, home):
    """Write down what is searched, once; refuse to go on with another search in its place."""
    home.mkdir(parents=True, exist_ok=True)
    if not (home / ASKED).is_file():
        write_json(home / ASKED, asdict(sweep))
    elif asdict(resumed(home)) != json.loads(json.dumps(asdict(sweep))):
        raise SettingError(
            f"{home} holds another search; go on with it by --resume={home}, or give another --out"
        )


def trial(drawn, given, folder, report):
    """Train with the settings ``drawn`` in ``folder``, from where it was left; ``report`` what is found as it is found.

    ``report`` takes a dict: the epochs so far, and the best of the validation metric until then.
    """

    def after_validation(trainer):
        report({"epochs": trainer.curve[-1]["epoch"] + 1, "validation": float(trainer.best_valid_score)})

    drawn = {key: value for key, value in drawn.items() if value is not None}  # a default that is not set
    run.validate(given | drawn | _places(Path(folder)), after_validation, keep_weights=True)


def _places(folder):
    """The keys that let a run begin, or go on, in ``folder``."""
    places = {"run_path": str(folder.parent), "run_name": folder.name, "show_progress": False}
    return places | ({"resume": str(folder)} if (folder / run.SETTINGS).is_file() else {})


def _table(tried, defaults, epochs):
    """A row per trial, the best first: its settings, what it found and how it ended."""
    rows = []
    for one in tried:
        done = one.report.get("epochs", 0)
        whole = done >= epochs or (one.folder / run.VALIDATION).is_file()
        rows.append(
            one.drawn
            | {
                "trial": one.folder.name,
                "defaults": one.drawn == defaults,
                "validation": None if one.error else one.report.get("validation"),
                "epochs": done,
                "ended": "failed" if one.error else "whole" if whole else "early",
                "error": one.error,
            }
        )
    table = pd.DataFrame(rows)
    table["validation"] = table["validation"].astype(float)
    return table.sort_values("validation", ascending=False, na_position="last")


def _write_best(path, given, found, metric):
    """What ``--config_files`` takes to train the best trial again."""
    defaults = found["validation"][found["defaults"]].dropna()
    beside = f", the defaults {defaults.iloc[0]:.4f}" if len(defaults) else ""
    best = found["validation"].iloc[0]
    said = f"# The best of {len(found)} trials: {metric} {best:.4f} on the validation part{beside}.\n"
    keys = {key: literal(value) for key, value in given.items() if key not in OWN}
    keys = {key: value for key, value in keys.items() if value is not None}
    write_bytes(path, (said + yaml.safe_dump(keys, sort_keys=False)).encode())


def _show(found, home):
    """The trials on the screen, the best first."""
    table = Table(
        title=f"{len(found)} trials, {(found['ended'] == 'early').sum()} ended early; {home / TABLE}"
    )
    shown = found.drop(columns=["error", "defaults"])
    for name in shown:
        table.add_column(name)
    for row in shown.itertuples(index=False):
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row))
    Console().print(table)
    for name, error in found[found["ended"] == "failed"][["trial", "error"]].itertuples(index=False):
        Console(highlight=False).print(f"{name} failed: {error}", markup=False)


def _chosen(home):
    """Whether the best was chosen before; then no trial that failed is tried again, for the choice stands."""
    return (home / "best").is_dir()


def _test(given, trained, home):
    """Let the best trial end its training, if it did not, and read the test part; the others' weights go."""
    folder = home / "best"
    if not _chosen(home):
        shutil.copytree(trained, home / ".best", dirs_exist_ok=True)
        (home / ".best").rename(folder)
    if not (folder / TESTED).is_file():
        run.run(given | _places(folder))
    for weights in (home / ray_tune.TRIALS).glob("*/checkpoint"):
        shutil.rmtree(weights)
    return folder
