"""Ray Tune as a search of settings needs it: what is sampled, when a trial is stopped, how a search is restored."""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import SettingError
from ..llm.on_ray import connect
from .halving import Halving
from .on_ray import see_own_gpus
from .space import inside

RAY, TRIALS, REPORTS = "ray", "trials", "reports.json"
POINT = "point"  # what is sampled where the points are known beforehand: their numbers


@dataclass(frozen=True)
class Tried:
    """What Ray Tune says of one trial: its settings, its folder, its last report and its error, if it had one."""

    drawn: dict
    folder: Path
    report: dict
    error: str | None


def search(sweep, points, train, home, epochs, address=None, again=True):
    """Ray Tune's search of ``sweep``, from where ``home`` was left, as a list of ``Tried``.

    Parameters
    ----------
    sweep : sweep.Sweep
    points : list of dict
        What is tried: all of it, or, by Optuna, at first.
    train : function
        ``train(drawn, given, folder, report)``, in a process of its own.
    home : Path
        Its folder ``trials`` has a folder for each; in ``ray`` Ray pickles its own state;
        ``reports.json`` is what trials are ended by.
    epochs : int
        Of a whole trial.
    address : str, optional
        A Ray cluster; None: this machine.
    again : bool
        Try trials again that failed before.
    """
    connect(address or "local", log_to_driver=False)
    from ray import tune

    work = functools.partial(
        _trial,
        points=points,
        train=train,
        given=sweep.given,
        stand=os.getcwd(),
        folders=home / TRIALS,
        gpus=sweep.gpus,
    )
    trainable = tune.with_resources(work, {"cpu": sweep.cpus, "gpu": sweep.gpus})
    if tune.Tuner.can_restore(str(home / RAY)):
        tuner = tune.Tuner.restore(str(home / RAY), trainable, resume_errored=again)
    else:
        tuner = _new(sweep, points, trainable, home, epochs)
    return [
        Tried(
            _settings(result.config, points),
            home / TRIALS / Path(result.path).name,
            result.metrics or {},
            str(result.error).strip().splitlines()[-1] if result.error else None,
        )
        for result in tuner.fit()
    ]


def _scheduler(grace, epochs, points):
    """What Ray asks, after each report, whether a trial goes on."""
    from ray.tune.schedulers import FIFOScheduler

    class Sparing(FIFOScheduler):
        """``Halving`` that lets the defaults come to their end, for they are what the best is compared with."""

        halving = None  # Ray keeps a scheduler as it was made, and gives that to a search that it restores

        def on_trial_result(self, controller, trial, result):
            if "epochs" not in result:
                return self.CONTINUE
            if self.halving is None:
                # where the search lies now; it may have been moved
                home = Path(trial.remote_experiment_path).parent
                self.halving = Halving(grace, epochs, home / REPORTS)
            goes_on = self.halving.goes_on(_folder(trial), result["epochs"], result["validation"])
            return self.CONTINUE if goes_on or _settings(trial.config, points) == points[0] else self.STOP

    return Sparing()


def _new(sweep, points, trainable, home, epochs):
    from ray import tune

    if sweep.search == "optuna":
        space, searcher = _of_optuna(sweep, points)
    else:
        space, searcher = {POINT: tune.grid_search(list(range(len(points))))}, None
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="validation",
            mode="max",
            num_samples=sweep.trials if searcher else 1,
            search_alg=searcher,
            scheduler=_scheduler(sweep.grace or max(epochs // 5, 1), epochs, points),
            max_concurrent_trials=sweep.workers,
            reuse_actors=True,  # a new process spends seconds on imports
            trial_name_creator=functools.partial(_name, points=points),
            trial_dirname_creator=_folder,
        ),
        run_config=tune.RunConfig(name=RAY, storage_path=str(home)),
    )


def _folder(trial):
    return _called(trial.config, trial.trial_id)


def _called(config, trial_id):
    return f"trial-{config.get(POINT, trial_id)}"


def _name(trial, points):
    """What Ray's table calls a trial: its folder and, where the table has no columns for them, its settings."""
    drawn = _settings(trial.config, points).items() if POINT in trial.config else ()
    return " ".join([_folder(trial), *(f"{key}={value}" for key, value in drawn)])


def _settings(config, points):
    return points[config[POINT]] if POINT in config else dict(config)


def _trial(config, points, train, given, stand, folders, gpus):
    """One trial, in Ray's process; Ray's own folder for it is a temporary one, which a restored search would miss."""
    from ray import tune

    os.chdir(stand)
    see_own_gpus(gpus)
    folder = folders / _called(config, tune.get_context().get_trial_id())
    train(_settings(config, points), given, folder, tune.report)


def _after_defaults(search, defaults):
    """Ray's ``search`` after a first trial that it hears nothing of, for it takes no values outside its space."""

    class AfterDefaults(search):
        first = None  # the trial of the defaults

        def suggest(self, trial_id):
            if self.first is None:
                self.first = trial_id
                return dict(defaults)
            return super().suggest(trial_id)

        def on_trial_result(self, trial_id, result):
            if trial_id != self.first:
                super().on_trial_result(trial_id, result)

        def on_trial_complete(self, trial_id, result=None, error=False):
            if trial_id != self.first:
                super().on_trial_complete(trial_id, result, error)

    return AfterDefaults


def _of_optuna(sweep, points):
    """Ray's space and Optuna's search of it, the defaults first, wherever they lie."""
    from ray import tune

    own = {"metric": "validation", "mode": "max", "seed": int(sweep.given.get("seed", 2020))}
    try:
        from ray.tune.search.optuna import OptunaSearch

        if inside(sweep.space, points[0]):
            searcher = OptunaSearch(**own, points_to_evaluate=points)
        else:
            searcher = _after_defaults(OptunaSearch, points[0])(**own)
    except (ImportError, AssertionError) as error:
        raise SettingError(
            "search: optuna needs Optuna; pip install optuna, or take --search=random"
        ) from error
    kinds = {
        "log": tune.loguniform,
        "uniform": tune.uniform,
        "int": lambda low, high: tune.randint(low, high + 1),
    }
    space = {}
    for key, values in sweep.space.items():
        if isinstance(values, list):
            space[key] = tune.choice(values)
        else:
            ((kind, ends),) = values.items()
            space[key] = kinds[kind](*ends)
    return space, searcher
