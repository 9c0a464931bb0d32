"""A search that was killed ends the trials that it would have ended, and so does Ray's own halving."""

from types import SimpleNamespace

import numpy as np
import pytest

from recbole_llm.experiment import ray_tune
from recbole_llm.experiment.halving import Halving

EPOCHS, GRACE = 20, 2


def curves(seed, trials=9):
    """(trial, epochs, best score until then) of trials that are trained beside each other, in a random order."""
    rng = np.random.default_rng(seed)
    best = {f"trial-{number}": np.maximum.accumulate(rng.random(EPOCHS)) for number in range(trials)}
    done = dict.fromkeys(best, 0)
    while done:
        name = str(rng.choice(list(done)))
        done[name] += 1
        yield name, done[name], float(best[name][done[name] - 1])
        if done[name] == EPOCHS:
            del done[name]


def decisions(halving, seed, killed=lambda: False):
    """What is said to each report of trials that stop when they are told to; ``halving()`` begins or restores it."""
    found, ended, one = [], set(), halving()
    for name, epochs, score in curves(seed):
        if name not in ended:
            one = halving() if killed() else one
            found.append((name, epochs, one.goes_on(name, epochs, score)))
            ended |= {name} if not found[-1][2] else set()
    return found


class Rays:
    """Ray's ASHAScheduler as the reference."""

    def __init__(self):
        from ray.tune.schedulers import ASHAScheduler

        keys = {"time_attr": "epochs", "metric": "validation", "mode": "max", "stop_last_trials": False}
        self.asha = ASHAScheduler(**keys, max_t=EPOCHS, grace_period=GRACE, reduction_factor=3)
        self.trials = {}

    def goes_on(self, name, epochs, score):
        if name not in self.trials:
            self.trials[name] = SimpleNamespace(trial_id=name)
            self.asha.on_trial_add(None, self.trials[name])
        result = {"epochs": epochs, "validation": score}
        return self.asha.on_trial_result(None, self.trials[name], result) == self.asha.CONTINUE


@pytest.mark.parametrize("seed", range(5))
def test_trials_are_ended_as_rays_own_halving_ends_them(tmp_path, seed):
    pytest.importorskip("ray.tune")
    ours = decisions(lambda: Halving(GRACE, EPOCHS, tmp_path / "reports.json"), seed)
    assert ours == decisions(Rays, seed) and not all(goes_on for *_, goes_on in ours)


@pytest.mark.parametrize("seed", range(5))
def test_a_search_that_was_killed_ends_the_same_trials(tmp_path, seed):
    whole, killed = (
        lambda name=name: Halving(GRACE, EPOCHS, tmp_path / name) for name in ("whole", "killed")
    )
    rng = np.random.default_rng(seed)
    assert decisions(killed, seed, lambda: rng.random() < 0.2) == decisions(whole, seed)


def test_a_trial_that_was_ended_is_ended_still_when_it_reports_again(tmp_path):
    for score, number in ((0.9, 0), (0.1, 1)):
        Halving(GRACE, EPOCHS, tmp_path / "reports.json").goes_on(f"trial-{number}", 2, score)
    again = Halving(GRACE, EPOCHS, tmp_path / "reports.json")
    assert again.goes_on("trial-0", 3, 0.9) and not again.goes_on("trial-1", 2, 0.1)


def test_rays_scheduler_finds_the_reports_where_the_search_lies_and_spares_the_defaults(tmp_path):
    cloudpickle = pytest.importorskip("ray.cloudpickle")
    points = [{"dropout": 0.2}, {"dropout": 0.5}, {"dropout": 0.0}]
    made = cloudpickle.dumps(ray_tune._scheduler(GRACE, EPOCHS, points))

    def ask(scheduler, home, number, epochs, score):
        trial = SimpleNamespace(trial_id="x", config={"point": number}, remote_experiment_path=f"{home}/ray")
        return scheduler.on_trial_result(None, trial, {"epochs": epochs, "validation": score})

    first = cloudpickle.loads(made)
    assert ask(first, tmp_path, 1, 2, 0.5) == "CONTINUE" and ask(first, tmp_path, 0, 2, 0.1) == "CONTINUE"
    (tmp_path / "moved").mkdir()
    (tmp_path / ray_tune.REPORTS).rename(tmp_path / "moved" / ray_tune.REPORTS)
    restored = cloudpickle.loads(made)
    # 0.5 at the rung of 2 epochs is known still, and what comes after it stays out of that rung
    assert ask(restored, tmp_path / "moved", 1, 3, 0.6) == "CONTINUE"
    assert ask(restored, tmp_path / "moved", 2, 2, 0.2) == "STOP"
    assert restored.halving.rungs[2] == {"trial-1": 0.5, "trial-0": 0.1, "trial-2": 0.2}
