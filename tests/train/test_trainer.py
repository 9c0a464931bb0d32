"""Safe checkpoints, averaged weights, and ranks that agree with RecBole's own metrics."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from carousel import house, trained, write_carousel
from rich.console import Console

from recbole_llm.errors import ArtifactError, DataError, SettingError
from recbole_llm.evaluation.ranks import metrics_from
from recbole_llm.model import checkpoint
from recbole_llm.train import trainer
from recbole_llm.train.build import build
from recbole_llm.train.resume import BEST, LAST
from recbole_llm.train.screen import Screen
from recbole_llm.train.trainer import pace_at, trainer_for


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("trainer"))


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    return trained(folder, tmp_path_factory.mktemp("whole"), 6)


def test_two_runs_with_one_seed_are_bit_equal(folder, whole, tmp_path):
    again = trained(folder, tmp_path, 6)
    ours, theirs = (w.trainer.evaluate_both_ways(w.test) for w in (whole, again))
    assert ours.unmasked == theirs.unmasked and ours.masked == theirs.masked
    assert torch.equal(again.model.table.own.weight, whole.model.table.own.weight)


def test_another_seed_gives_other_weights(folder, whole, tmp_path):
    other = trained(folder, tmp_path, 1, seed=7)
    assert not torch.equal(other.model.table.own.weight, whole.model.table.own.weight)


def test_checkpoints_hold_tensors_and_json_alone(whole):
    for name in (BEST, LAST):
        data = (whole.trainer.folder / name).read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        assert header["__metadata__"]["format"] == "recbole-llm 1"
    assert not list(whole.trainer.folder.glob("*.partial")) and not list(whole.trainer.folder.glob("*.pth"))


def test_what_is_saved_are_the_averaged_weights(folder, tmp_path):
    world = trained(folder, tmp_path, 2)
    tensors, facts = checkpoint.load(tmp_path / BEST)
    assert facts["model"] == "LLMSeqRec" and facts["epoch"] <= 1
    world.trainer.load_best()
    loaded = world.model.table.own.weight
    assert torch.equal(loaded, tensors["table.own.weight"])


def test_the_average_moves_by_its_decay_and_faster_at_first(folder, tmp_path):
    world = house(folder, average_decay=0.25)
    world.config["checkpoint_dir"] = str(tmp_path)
    trainer = trainer_for(world.config, world.model)
    weight = world.model.table.own.weight
    for step, kept in enumerate([0, 2 / 11, 3 / 12, 0.25]):  # the first weights are taken as they are
        world.model.calculate_loss(next(iter(world.train))).backward()
        before = trainer.averaged.module.table.own.weight.clone()
        trainer.optimizer.step()
        expected = kept * before + (1 - kept) * weight
        assert torch.allclose(trainer.averaged.module.table.own.weight, expected, atol=1e-6), step


def test_what_each_term_adds_to_the_loss_is_told_apart(folder, whole, tmp_path, capsys):
    found = trained(folder, tmp_path, 2, lambda_align=0.5, lambda_feat=0.1, feat_warmup=2).trainer
    first, second = (entry["terms"] for entry in found.curve)
    assert list(first) == ["ranking", "alignment"], "the first epoch of a warm-up has none of it"
    assert list(second) == ["ranking", "alignment", "decorrelation"]
    for entry in found.curve:
        assert sum(entry["terms"].values()) == pytest.approx(entry["loss"], rel=1e-5)
        assert all(value > 0 for value in entry["terms"].values())
    screen = Screen(tmp_path, Console(width=200, highlight=False))
    screen.started, screen.first_epoch = 0.0, 0
    screen.epoch(found, 1)
    told = ", ".join(f"{name} {value:.4f}" for name, value in second.items())
    assert f"loss {found.curve[1]['loss']:.4f} ({told})  " in capsys.readouterr().out
    assert "terms" not in whole.trainer.curve[0], "a single one says what the loss says"


def test_the_learning_rate_rises_over_the_first_steps(folder, tmp_path):
    world = house(folder, warmup_steps=4, learning_rate=0.4)
    world.config["checkpoint_dir"] = str(tmp_path)
    trainer = trainer_for(world.config, world.model)
    rates = []
    for _ in range(6):
        trainer.optimizer.step()
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_the_learning_rate_falls_along_half_a_cosine(folder, tmp_path):
    assert [pace_at(step, 100, 0, 0.1) for step in (0, 50, 100, 120)] == pytest.approx([1, 0.55, 0.1, 0.1])
    assert [pace_at(step, 100, 20, 0.0) for step in (10, 20, 60)] == pytest.approx([0.5, 1.0, 0.5])
    assert {pace_at(step, 100, 0, 1.0) for step in range(100)} == {1.0}
    tenths = [pace_at(step, 100, 2, 1.0, 30) for step in (1, 30, 31, 61)]
    assert tenths == pytest.approx([0.5, 1, 0.1, 0.01]), "of the epochs that the warm-up is in, too"
    world = trained(folder, tmp_path, 2, learning_rate=0.01, learning_rate_end=0.0, warmup_steps=0)
    assert world.trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)


def test_the_learning_rate_falls_to_a_tenth_after_so_many_epochs(folder, tmp_path):
    keys = {"learning_rate": 0.01, "learning_rate_end": 1.0, "learning_rate_tenth": 2, "warmup_steps": 0}
    for epochs, left in ((2, 1e-2), (3, 1e-3), (5, 1e-4)):
        world = trained(folder, tmp_path / str(epochs), epochs, **keys)
        assert world.trainer.optimizer.param_groups[0]["lr"] == pytest.approx(left)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_products_of_a_training_are_in_bfloat16_whatever_the_device_takes_otherwise(
    folder, tmp_path, monkeypatch, device
):
    world = house(folder, enable_amp=True)
    world.config["checkpoint_dir"], world.config["device"] = str(tmp_path), torch.device(device)
    monkeypatch.setattr(trainer, "multiplies_bfloat16", lambda device: True)
    before = torch.get_autocast_dtype(device)
    torch.set_autocast_dtype(device, torch.float16)
    try:
        assert trainer_for(world.config, world.model).enable_amp
        assert torch.get_autocast_dtype(device) is torch.bfloat16
    finally:
        torch.set_autocast_dtype(device, before)


def test_ranks_give_recboles_metrics_under_both_conventions(whole):
    found = whole.trainer.evaluate_both_ways(whole.test)
    dataset = whole.train._dataset
    ranks = found.ranks.frame(dataset, dataset.train_counts())
    assert len(ranks) == 40 and ranks["user"].is_unique
    for metrics, column in ((found.unmasked, "rank"), (found.masked, "rank_masked")):
        for name, value in metrics_from(ranks[column], [1, 3]).items():
            assert metrics[name] == pytest.approx(value, abs=5e-5), name  # RecBole rounds to four digits


def test_masking_takes_out_the_whole_history_and_never_the_target(whole):
    found = whole.trainer.evaluate_both_ways(whole.test)
    ranks = found.ranks.frame(whole.train._dataset, whole.train._dataset.train_counts())
    assert (ranks["rank_masked"] <= ranks["rank"]).all()
    seen = ranks["history_length"].clip(upper=16)  # no item comes again before all 17 were met
    assert (seen > 8).any() and (ranks["rank_masked"] <= 17 - seen).all()


def test_a_history_is_as_long_as_it_is_for_every_kind_of_model(tmp_path):
    folder = write_carousel(tmp_path, n_items=40)  # more than anybody has met, as general models need it
    lines = (folder / "carousel" / "carousel.inter").read_text().splitlines()[1:]
    events = Counter(line.split("\t")[0] for line in lines)
    split = {"order": "TO", "group_by": "user", "mode": "full"}
    for parts in ({"LS": "valid_and_test"}, {"RS": [0.5, 0.2, 0.3]}):
        told = []
        for model, keys in (("LLMSeqRec", {"MAX_ITEM_LIST_LENGTH": 3}), ("SASRec", {}), ("BPR", {})):
            world = house(folder, model, eval_args=split | {"split": parts}, **keys)
            world.config["checkpoint_dir"] = str(tmp_path)
            found = trainer_for(world.config, world.model)
            found.train_data = world.train
            ranks = found.evaluate_both_ways(world.test).ranks.frame(world.train._dataset, torch.ones(41))
            told.append(ranks.set_index(["user", "item"])["history_length"].to_dict())
        for pair in set().union(*told):  # of a general model RecBole splits events, not rows
            assert len({of_model[pair] for of_model in told if pair in of_model}) == 1, pair
        if "LS" in parts:
            assert told[0] == told[1] == told[2]
            assert all(before == events[user] - 1 for (user, _), before in told[0].items())


def test_validation_masks_only_where_it_is_asked_to(folder, tmp_path):
    scores = {}
    for mask in (False, True):
        world = trained(folder, tmp_path / str(mask), 1, mask_history=mask)
        both = world.trainer
        both.averaged, model = None, both.averaged.module
        both.model = model
        scores[mask] = both.evaluate(world.test, load_best_model=False)["ndcg@3"]
        found = both.evaluate_both_ways(world.test)
        assert scores[mask] == (found.masked if mask else found.unmasked)["ndcg@3"]


@pytest.mark.parametrize("model", ["LLMSeqRec", "SASRec"])
def test_without_repeats_what_was_read_is_in_no_ranking(model, tmp_path):
    folder = write_carousel(tmp_path, n_items=40)
    keys = {"no_repeats": True, "train_rows": "dense", "train_neg_sample_args": "None"}
    world = house(folder, model, MAX_ITEM_LIST_LENGTH=30, **keys)
    found = trainer_for(world.config, world.model)
    found.train_data = world.train
    both = found.evaluate_both_ways(world.test)
    assert both.unmasked == both.masked
    ranks = both.ranks.frame(world.train._dataset, torch.ones(41))
    assert (ranks["rank"] == ranks["rank_masked"]).all()
    assert (ranks["rank"] <= 40 - ranks["history_length"]).all()


def test_repeats_are_refused_where_there_are_to_be_none(folder):
    config = house(folder, no_repeats=True).config
    with pytest.raises(
        DataError, match=r"user u\d+ of `carousel` has item i\d+ again, one of \d+ such events"
    ):
        build(config)


@pytest.mark.parametrize(
    ("model", "keys", "message"),
    [
        ("BPR", {}, "found BPR with train_rows: prefix; set no_repeats: False"),
        ("SASRec", {"loss_type": "BPR"}, "found SASRec with train_rows: prefix"),
        ("BERT4Rec", {}, "found BERT4Rec with train_rows: prefix"),
        ("SRGNN", {"loss": "bce"}, "found loss: bce; set loss: ce, or no_repeats: False"),
        ("LLMInit", {"backbone": "BERT4Rec"}, "and BERT4Rec has none that can; set no_repeats: False"),
        ("LLMSeqRec", {"loss": "ssm"}, "found loss: ssm; set loss: ce, or no_repeats: False"),
    ],
)
def test_a_loss_that_cannot_leave_out_seen_items_is_named(folder, model, keys, message):
    with pytest.raises(SettingError, match=message):
        house(folder, model, no_repeats=True, **keys)


def test_a_missing_or_damaged_checkpoint_is_named(tmp_path):
    with pytest.raises(
        ArtifactError, match="no checkpoint at .*gone.safetensors; train with `saved: True` first"
    ):
        checkpoint.load(tmp_path / "gone.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\x00\x00")
    with pytest.raises(ArtifactError, match="torn.safetensors is not a whole safetensors file"):
        checkpoint.load(tmp_path / "torn.safetensors")


def test_weights_of_another_number_of_items_are_refused_in_a_sentence(folder, tmp_path):
    few, many = (write_carousel(tmp_path / str(count), n_items=count) for count in (11, 13))
    world = trained(few, tmp_path / "few", 1)
    other = house(many)
    other.config["checkpoint_dir"] = str(tmp_path / "many")
    with pytest.raises(ArtifactError, match=r"does not fit this model \(size mismatch.*; use the data set"):
        trainer_for(other.config, other.model).load_best(world.trainer.saved_model_file)
    other.model.text_fingerprints = {"title": "f" * 64}
    with pytest.raises(ArtifactError, match="trained with 0* as `title`, found f*; use the same text"):
        trainer_for(other.config, other.model).load_best(world.trainer.saved_model_file)


def test_a_failed_write_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    checkpoint.save(path, {"a": torch.ones(2)}, {"n": 1})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(path, {"a": torch.zeros(2)}, {"n": 2})
    tensors, facts = checkpoint.load(path)
    assert tensors["a"].tolist() == [1, 1] and facts == {"n": 1}


def test_numpys_random_numbers_go_on_where_they_stopped(folder, tmp_path):
    world = trained(folder, tmp_path, 1)
    np.random.seed(11)
    world.trainer.save_progress(0)
    expected = np.random.rand(3)
    np.random.seed(99)
    world.trainer.resume_checkpoint(tmp_path / LAST)
    world.trainer._restore_randomness(world.trainer._resumed)
    assert np.random.rand(3).tolist() == expected.tolist()
