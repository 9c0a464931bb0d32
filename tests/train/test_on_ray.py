"""Two processes on two nodes of a Ray cluster find what one process finds; without Ray one sentence is said."""

import json
import sys
from pathlib import Path

import pytest
from carousel import TINY, write_carousel

from recbole_llm import cli
from recbole_llm.errors import SettingError
from recbole_llm.train import run as road


def given(folder, **keys):
    named = {
        **TINY,
        "model": "LLMSeqRec",
        "dataset": "carousel",
        "fusion": "id_only",
        "epochs": 2,
        "eval_step": 1,
    }
    named |= {"train_batch_size": 9, "learning_rate": 0.003, "data_path": folder, "run_path": folder / "runs"}
    return [f"--{key}={value}" for key, value in (named | keys).items()]


def test_without_ray_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit):
        cli.train(given(write_carousel(tmp_path), nproc=2, ray_address="auto"))
    assert "this needs Ray, which is not installed: pip install" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_nodes_train_and_test_as_one_process(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(write_carousel(tmp_path, n_items=90))
    folder = Path(".")  # a node stands elsewhere
    one = road.main(given(folder, run_name="one"))
    two = road.main(given(folder, run_name="two", nproc=2, ray_address=cluster.address))
    ours, theirs = (json.loads((run / "metrics.json").read_text())["outcomes"][0] for run in (two, one))
    assert 0.1 < theirs["valid"]["ndcg@3"] < 0.99, "a metric at its bounds says nothing"
    for convention in ("masked", "unmasked"):
        assert ours["test"][convention] == pytest.approx(theirs["test"][convention], abs=2e-4)
    with pytest.raises(SettingError, match="hidden_size 15 must be a multiple of n_heads 2"):
        road.main(given(folder, hidden_size=15, nproc=2, ray_address=cluster.address))
