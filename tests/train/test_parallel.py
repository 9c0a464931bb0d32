"""Two processes find what one finds."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from carousel import TINY, write_carousel

from recbole_llm.errors import SettingError
from recbole_llm.model import checkpoint
from recbole_llm.train import parallel
from recbole_llm.train import run as road


def given(folder, **keys):
    places = {"data_path": folder, "run_path": folder / "runs"}
    # windows of 8 in batches of 9 leave a last batch of fewer rows; without dropout both worlds draw nothing
    named = {
        **TINY,
        "model": "LLMSeqRec",
        "dataset": "carousel",
        "fusion": "id_only",
        "epochs": 2,
        "eval_step": 1,
    }
    named |= {"train_batch_size": 9, "eval_batch_size": 7, "learning_rate": 0.003, **places}
    return [f"--{key}={value}" for key, value in (named | keys).items()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("parallel"), n_items=90)


def test_two_processes_train_and_test_as_one(folder):
    one = road.main(given(folder, run_name="one"))
    two = road.main(given(folder, run_name="two", nproc=2))
    assert two == folder / "runs" / "two"
    ours, theirs = (json.loads((run / "metrics.json").read_text())["outcomes"][0] for run in (two, one))
    for convention in ("masked", "unmasked"):
        assert ours["test"][convention] == pytest.approx(theirs["test"][convention], abs=2e-4)
    assert ours["valid"] == pytest.approx(theirs["valid"], abs=2e-4)
    assert 0.3 < theirs["valid"]["ndcg@3"] < 0.99, "a metric at its bounds says nothing"
    weights = [checkpoint.load(run / "checkpoint" / "best.safetensors")[0] for run in (two, one)]
    for name, weight in weights[1].items():
        assert torch.allclose(weights[0][name], weight, atol=1e-3), name
    ranks = [pd.read_parquet(run / "ranks.parquet") for run in (two, one)]
    assert list(ranks[0]["user"]) == list(ranks[1]["user"]) and len(ranks[0]) == 40
    assert (ranks[0]["rank"] == ranks[1]["rank"]).mean() > 0.95  # sums in another order move near ties

    resumed = road.main([f"--resume={two}", "--epochs=3"])
    assert resumed == two and checkpoint.load(two / "checkpoint" / "last.safetensors")[1]["epoch"] == 2
    with pytest.raises(SettingError, match=r"was written by 2 processes, found 1; go on with --nproc=2"):
        road.main([f"--resume={two}", "--nproc=1"])


def test_the_terms_of_two_processes_add_up_to_the_loss(folder):
    keys = {"MAX_ITEM_LIST_LENGTH": 8, "hidden_size": 16, "train_batch_size": 9, "epochs": 2}
    places = {"data_path": folder, "run_path": folder / "runs", "run_name": "terms", "nproc": 2}
    named = {
        "model": "DHCN",
        "dataset": "carousel",
        "metrics": "['NDCG']",
        "topk": 3,
        "valid_metric": "NDCG@3",
    }
    run = road.main([f"--{key}={value}" for key, value in (named | keys | places).items()])
    curve = json.loads((run / "metrics.json").read_text())["outcomes"][0]["curve"]
    assert len(curve) == 2
    for epoch in curve:
        assert set(epoch["terms"]) == {"ranking", "contrast"} and min(epoch["terms"].values()) > 0
        assert sum(epoch["terms"].values()) == pytest.approx(epoch["loss"], rel=1e-5)


def test_an_error_of_a_process_is_the_runs(folder):
    with pytest.raises(SettingError, match="hidden_size 15 must be a multiple of n_heads 2"):
        road.main(given(folder, hidden_size=15, nproc=2))
    with pytest.raises(SettingError, match="clip_grad_norm would clip each process's part"):
        road.main(given(folder, clip_grad_norm="{'max_norm': 5}", nproc=2))
    with pytest.raises(SettingError, match="nproc is 0, expected 1 or more"):
        road.main(given(folder, nproc=0))


class Loader:
    """Enough of a loader: batches of indices, handed to ``collate_fn``."""

    def __init__(self, batches):
        self.batches, self.collate_fn = batches, list

    def __iter__(self):
        return map(self.collate_fn, self.batches)


def as_process(monkeypatch, number, count):
    monkeypatch.setattr(parallel, "rank", lambda: number)
    monkeypatch.setattr(parallel, "world", lambda: count)


def test_each_row_of_a_training_batch_belongs_to_one_process(monkeypatch):
    batches, taken, lent = [[1, 2, 3, 4, 5], [6]], [], []
    for number in range(2):
        as_process(monkeypatch, number, 2)
        loader = Loader(batches)
        parallel.share_rows(loader)
        for batch in loader:
            taken.append(batch)
            lent.append(loader.lent)
    assert taken == [[1, 3, 5], [6], [2, 4], [6]] and lent == [False, False, False, True]


def test_each_batch_of_an_evaluation_belongs_to_one_process_every_time(monkeypatch):
    for number, own in ((0, [[1], [3]]), (1, [[2]])):
        as_process(monkeypatch, number, 2)
        loader = Loader([[1], [2], [3]])
        for _ in range(2):
            parallel.share_batches(loader)
            assert list(loader) == own


def test_alone_nothing_changes():
    loader = SimpleNamespace(collate_fn=list)
    parallel.share_rows(loader)
    parallel.share_batches(loader)
    assert loader.collate_fn is list and parallel.world() == 1 and parallel.of_each(3) == [3]
    found = {"a": torch.tensor(2.0)}
    assert parallel.put_together(found) is found and parallel.agreed("now") == "now"
