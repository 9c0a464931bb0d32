"""What a benchmark takes of a Ray cluster; and, slow, one of two nodes finds what it finds here."""

import os
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
from carousel import write_carousel

from recbole_llm import cli
from recbole_llm.experiment import ablation, benchmark, on_ray, plan
from recbole_llm.experiment.on_ray import Cluster
from recbole_llm.experiment.study import Cell


class FakeRay:
    """Ray in this process: a task is done when it is waited for, the last one first."""

    exceptions = SimpleNamespace(RayError=ConnectionError)

    def __init__(self):
        self.asked, self.most = {}, 0

    def remote(self, **asked):
        self.asked = asked
        return lambda function: SimpleNamespace(remote=lambda *given: lambda: function(*given))

    def wait(self, tasks, num_returns):
        self.most = max(self.most, len(tasks))
        return tasks[-1:], tasks[:-1]

    def get(self, task):
        return task()


@pytest.fixture
def ray(monkeypatch):
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


def trained(cluster, home, monkeypatch):
    """The trainings that end, with the threads of each and the GPUs that it sees."""
    cells, seen = [Cell(f"c{n}", {}) for n in range(5)], []
    monkeypatch.setattr(
        on_ray,
        "run_in_process",
        lambda _, threads: seen.append((threads, os.environ["CUDA_VISIBLE_DEVICES"])),
    )
    ended = [cell for cell, fault in on_ray.run_on_cluster(cells, home, cluster) if fault is None]
    assert sorted(cell.name for cell in ended) == [cell.name for cell in cells]
    return seen


@pytest.mark.parametrize(("workers", "most"), [(None, 5), (2, 2), (9, 5)])
def test_so_many_trainings_run_at_once(ray, tmp_path, monkeypatch, workers, most):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    trained(Cluster("auto", workers), tmp_path, monkeypatch)
    assert ray.most == most


def test_a_training_that_takes_no_gpu_sees_none_and_one_that_does_sees_what_ray_gave(
    ray, tmp_path, monkeypatch
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")  # as Ray sets it, or leaves it, for a task
    assert set(trained(Cluster("auto", cpus=4.0, gpus=0.5), tmp_path, monkeypatch)) == {(4, "3")}
    assert (ray.asked["num_cpus"], ray.asked["num_gpus"]) == (4, 0.5)
    assert set(trained(Cluster("auto", cpus=0.5), tmp_path, monkeypatch)) == {(1, "")}
    assert (ray.asked["num_cpus"], ray.asked["num_gpus"]) == (0.5, 0)


@pytest.mark.parametrize(("verb", "room"), [(cli.benchmark, plan), (cli.ablate, ablation)])
def test_the_command_line_says_what_a_training_takes(verb, room, monkeypatch):
    monkeypatch.setattr(room, "plan_from", dict)
    monkeypatch.setattr(benchmark, "run", lambda *given: given)
    found = []
    monkeypatch.setattr("builtins.print", found.append)
    verb(["--epochs=3"])
    verb(["--epochs=3", "--ray_address=auto", "--out=a"])
    verb(["--epochs=3", "--ray_address=auto", "--out=a", "--workers=3", "--cpus=2", "--gpus=0.5"])
    others = {"epochs": "3"}  # those of every training
    assert found[0][0] == others and found[0][2:] == (2, None)
    assert found[1] == (others, "a", 2, Cluster("auto"))
    assert found[2] == (others, "a", 3, Cluster("auto", 3, 2.0, 0.5))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--ray_address=auto", "--cpus=0"], "cpus is 0, expected more than 0, and a whole number above 1"),
        (["--ray_address=auto", "--gpus=1.5"], "gpus is 1.5, expected 0 or more, and a whole number above 1"),
        (["--ray_address=auto", "--gpus=nan"], "gpus is nan, expected 0 or more"),
        (["--ray_address=auto", "--gpus=all"], "gpus is 'all', expected a number"),
        (["--ray_address=auto", "--workers=0"], "workers is 0, expected 1 or more"),
        (["--cpus=2", "--gpus=1"], "found --cpus and --gpus without --ray_address; a training's share is"),
    ],
)
def test_what_cannot_be_given_is_refused_in_a_sentence(arguments, sentence, capsys):
    with pytest.raises(SystemExit):
        cli.benchmark(arguments)
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(("verb", "models"), [(cli.benchmark, "models"), (cli.ablate, "model")])
def test_without_ray_nothing_is_begun_and_it_says_what_to_install(
    verb, models, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(benchmark, "embed", lambda _: pytest.fail("it embeds"))
    keys = {models: "LLMSeqRec", "datasets": "carousel", "data_path": write_carousel(tmp_path)}
    keys |= {"text_fields": "[title]", "out": tmp_path / "out", "ray_address": "auto"}
    with pytest.raises(SystemExit):
        verb([f"--{key}={value}" for key, value in keys.items()])
    assert "this needs Ray, which is not installed: pip install" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_nodes_find_what_one_machine_finds(cluster, tmp_path, monkeypatch):
    write_carousel(tmp_path / "data", n_items=40)
    monkeypatch.chdir(tmp_path)  # where the nodes were not started
    given = {
        "models": "Pop,ItemKNN",
        "datasets": "carousel",
        "seeds": "1,2",
        "trials": "2",
        "strong": "False",
        "data_path": "data",
    }
    for name, there in (("here", None), ("there", Cluster(cluster.address, workers=1))):
        benchmark.run(plan.plan_from(given), tmp_path / name, cluster=there)
    tables = [pd.read_csv(tmp_path / name / "benchmark.csv") for name in ("here", "there")]
    assert len(tables[0]) == 2 * 2 * 4
    pd.testing.assert_frame_equal(*tables)
