"""A training that is stopped, politely or not, and taken up again ends as if it had never stopped."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from carousel import NOISY, house, trained, write_carousel

from recbole_llm.errors import SettingError
from recbole_llm.train.resume import LAST
from recbole_llm.train.trainer import trainer_for

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
sys.path[:0] = [{tests!r}, {root!r}]
sys.argv = ["pytest"]
torch.set_num_threads({threads})
from carousel import trained
from recbole_llm.train import trainer

left = {times}
def count(found):
    global left
    left -= bool(found)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

replace, set_pace = os.replace, trainer.RankingTrainer._set_pace
os.replace = lambda old, new: (count(Path(new).name == {point!r}), replace(old, new))[1]
trainer.RankingTrainer._set_pace = lambda *a: (count({point!r} == "step"), set_pace(*a))[1]
trained(Path({folder!r}), Path({place!r}), 6)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("resumed"))


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    return trained(folder, tmp_path_factory.mktemp("whole"), 6)


def assert_same(resumed, whole):
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weight), name
    for name, weight in whole.trainer.averaged.state_dict().items():
        assert torch.equal(resumed.trainer.averaged.state_dict()[name], weight), name
    without_time = [
        [{k: v for k, v in e.items() if k != "seconds"} for e in w.trainer.curve] for w in (whole, resumed)
    ]
    assert without_time[0] == without_time[1]
    assert resumed.trainer.best_valid_score == whole.trainer.best_valid_score


@pytest.mark.parametrize("stop_after", [0, 3])
def test_a_stopped_and_resumed_training_is_the_uninterrupted_one(folder, whole, tmp_path, stop_after):
    trained(folder, tmp_path, 6, stop_after=stop_after)
    assert_same(trained(folder, tmp_path, 6, resume=tmp_path / LAST), whole)


def test_a_training_is_not_taken_up_on_other_data(folder, tmp_path):
    trained(folder, tmp_path / "run", 6, stop_after=1)
    other = write_carousel(tmp_path / "other", shuffled=True)
    with pytest.raises(
        SettingError,
        match=r"last.safetensors was written on other data, carousel.inter was \w{12}…, now \w{12}…",
    ):
        trained(other, tmp_path / "run", 6, resume=tmp_path / "run" / LAST)


def test_a_training_is_not_taken_up_under_another_default(folder, tmp_path):
    trained(folder, tmp_path, 4, stop_after=1)
    other = house(folder, epochs=4, **NOISY)
    other.config["checkpoint_dir"] = str(tmp_path)
    found = trainer_for(other.config, other.model)
    other.config["kappa"] = 2.5  # as if the preset had been changed
    for load in (lambda: found.resume_checkpoint(tmp_path / LAST), found.load_trained):
        with pytest.raises(
            SettingError, match=r"other defaults: kappa was 5.0, now 2.5; write the old values"
        ):
            load()
    other.config.external_config_dict["kappa"] = 2.5  # as the user gave it
    found.load_trained()


def test_a_training_without_validation_is_taken_up_too(folder, tmp_path):
    whole = trained(folder, tmp_path / "whole", 6, eval_step=0)
    trained(folder, tmp_path / "stopped", 6, eval_step=0, stop_after=3)
    resumed = trained(folder, tmp_path / "stopped", 6, eval_step=0, resume=tmp_path / "stopped" / LAST)
    assert resumed.trainer.start_epoch == 4
    assert_same(resumed, whole)


@pytest.mark.parametrize(
    ("point", "times"),
    [("step", 8), ("last.safetensors", 2), ("best.safetensors", 2)],
    ids=["in the middle of an epoch", "while progress is written", "while the best weights are written"],
)
def test_a_killed_training_is_taken_up_where_it_last_stood(folder, whole, tmp_path, point, times):
    tests = Path(__file__).resolve().parents[1]
    places = {"tests": str(tests), "root": str(tests.parent), "folder": str(folder), "place": str(tmp_path)}
    threads = torch.get_num_threads()  # sums of other parts round otherwise
    script = KILLED.format(point=point, times=times, threads=threads, **places)
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert process.returncode == -9, process.stderr
    resumed = trained(folder, tmp_path, 6, resume=tmp_path / LAST)
    assert 0 < resumed.trainer.start_epoch < 6
    assert_same(resumed, whole)
