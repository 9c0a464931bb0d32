"""The road from a name to a report, walked whole on a small shop; and what it says when it cannot go on."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from carousel import TINY, house, write_carousel
from recbole.quick_start import run_recbole

from recbole_llm import cli
from recbole_llm.data.texts import found_text_vectors, training_reviews
from recbole_llm.errors import ArtifactError, SettingError
from recbole_llm.evaluation.beyond import WORDS
from recbole_llm.evaluation.ranks import COLUMNS, metrics_from
from recbole_llm.model import checkpoint
from recbole_llm.train import run as road
from recbole_llm.train.build import build, configure, configure_baseline, known_to, restore

SMALL = {**TINY, "epochs": "2", "eval_step": "1", "text_encoder": "", "text_compute_dtype": "float32"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The carousel, a tiny encoder for its titles, and one finished run with a baseline and a refit."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = write_carousel(tmp_path_factory.mktemp("shop"))
    encoder = folder / "encoder"
    letters = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789"]
    words = [*letters, *(f"##{c}" for c in letters[5:])]
    encoder.mkdir()
    (encoder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(vocab=str(encoder / "vocab.txt")).save_pretrained(encoder)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(words), **size)).save_pretrained(encoder)
    return folder


def given(shop, **keys):
    places = {"data_path": shop, "artifact_path": shop / "artifacts", "run_path": shop / "runs"}
    named = {"model": "LLMSeqRec", "dataset": "carousel", **SMALL, **places, "text_encoder": shop / "encoder"}
    return [f"--{key}={value}" for key, value in (named | keys).items()]


@pytest.fixture(scope="module")
def finished(shop):
    return road.main(given(shop, run_name="whole", baseline="SASRec", refit=True))


def test_a_run_leaves_all_that_its_report_promises(finished):
    left = {path.name for path in finished.iterdir()}
    assert {
        "settings.json",
        "metrics.json",
        "report.md",
        "ranks.parquet",
        "manifest.json",
        "checkpoint",
    } <= left
    assert (finished / "checkpoint" / "best.safetensors").is_file()
    assert not list(finished.rglob("*.partial"))


def test_the_report_says_how_much_of_the_items_is_their_own_vector(finished):
    report = (finished / "report.md").read_text()
    assert "## Own vectors and texts" in report and "| > 50 |" in report


def test_tensorboards_files_lie_with_the_run(finished):
    assert list((finished / "checkpoint" / "tensorboard").iterdir())


def test_the_metrics_stand_under_both_conventions(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    text = json.dumps(metrics)
    assert "LLMSeqRec" in text and "SASRec" in text and "refit on training + validation" in text
    assert "history not masked" in text and "history masked" in text


def test_there_is_one_rank_per_user(finished):
    ranks = pd.read_parquet(finished / "ranks.parquet")
    assert tuple(ranks) == COLUMNS
    assert len(ranks) == 40 == ranks["user"].nunique()


def test_a_second_run_makes_no_text_vectors_anew_and_has_the_same_ranks(shop, finished, monkeypatch):
    monkeypatch.setattr("recbole_llm.text.artifact.encode_texts", None)  # would fail if it were called
    again = road.main(given(shop, run_name="twin"))
    pd.testing.assert_frame_equal(
        pd.read_parquet(finished / "ranks.parquet"), pd.read_parquet(again / "ranks.parquet")
    )


def test_nothing_but_the_report_stays_where_saving_is_off(shop):
    folder = road.main(given(shop, run_name="unsaved", saved=False))
    assert (folder / "report.md").is_file() and (folder / "metrics.json").is_file()
    assert not list(folder.rglob("*.safetensors")) and not list(folder.rglob("*.parquet"))


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec", "BERT4Rec", "Pop", "BPR", "EASE", "ItemKNN"])
def test_recboles_models_take_the_same_road(shop, model):
    small = {"epochs": "1", "show_progress": "False", "topk": "[3]", "valid_metric": "NDCG@3"}
    sizes = (
        {}
        if model in ("Pop", "BPR", "EASE", "ItemKNN")
        else {"MAX_ITEM_LIST_LENGTH": "8", "hidden_size": "16"}
    )
    write_carousel(
        shop, n_items=40, name="wide"
    )  # nobody has seen everything, so that negatives can be drawn
    keys = {"model": model, "dataset": "wide", "data_path": shop, "run_path": shop / "runs", **small, **sizes}
    folder = road.main([f"--{key}={value}" for key, value in keys.items()])
    assert model in (folder / "report.md").read_text()


def test_a_general_model_has_ranks_and_its_masked_result_is_recboles_own(shop):
    rng = np.random.default_rng(
        0
    )  # no two items alike, so that no tie is broken in one way here and another there
    rows = [f"u{u}\ti{i}\t{n}" for u in range(40) for n, i in enumerate(rng.permutation(30)[: 8 + u % 7])]
    (shop / "random").mkdir()
    header = "user_id:token\titem_id:token\ttimestamp:float"
    (shop / "random" / "random.inter").write_text("\n".join([header, *rows]) + "\n")
    keys = {
        "model": "EASE",
        "dataset": "random",
        "topk": [3],
        "valid_metric": "NDCG@3",
        "epochs": 1,
        "eval_step": 1,
    }
    split = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
    given = keys | {"data_path": str(shop), "eval_args": split, "metrics": ["NDCG"], "show_progress": False}
    folder = road.run(given | {"run_path": str(shop / "runs")})
    (outcome,) = json.loads((folder / "metrics.json").read_text())["outcomes"]
    ranks = pd.read_parquet(folder / "ranks.parquet")
    assert len(ranks) == ranks["user"].nunique() == 40 and (ranks["rank"] >= ranks["rank_masked"]).all()
    for kind, column in (("masked", "rank_masked"), ("unmasked", "rank")):
        found = metrics_from(ranks[column], [3])["ndcg@3"]
        assert outcome["test"][kind]["ndcg@3"] == pytest.approx(found, abs=6e-5)
    loaded = {
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "checkpoint_dir": str(shop / "saved"),
    }
    stock = run_recbole(config_dict=given | loaded, saved=False)
    assert outcome["test"]["masked"]["ndcg@3"] == stock["test_result"]["ndcg@3"]


def test_a_refit_takes_as_many_epochs_as_were_best_and_says_how_it_goes(shop, capsys):
    folder = road.main(given(shop, run_name="refitted", refit=True, epochs=3))
    first, again = json.loads((folder / "metrics.json").read_text())["outcomes"]
    assert again["name"] == "LLMSeqRec (refit on training + validation)"
    said = capsys.readouterr().out
    assert said.count("not validated") == first["best_epoch"] + 1 == again["best_epoch"] + 1


BY_TIME = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": None, "mode": "full"}


def test_one_cut_in_time_leaves_nothing_later_in_training_and_a_refit_keeps_its_test_part(shop):
    folder = road.main(given(shop, run_name="by-time", refit=True, eval_args=BY_TIME))
    first, again = json.loads((folder / "metrics.json").read_text())["outcomes"]
    for outcome in (first, again):
        assert (outcome["leaks"]["in_training"], outcome["leaks"]["own_later"]) == (0, 0)
    assert first["leaks"]["others_later"] == 0 == again["leaks"]["others_later"]
    ranks, refitted = (pd.read_parquet(folder / "ranks.parquet"), next(folder.glob("ranks-*.parquet")))
    keys = ["user", "item", "history_length"]
    pd.testing.assert_frame_equal(ranks[keys], pd.read_parquet(refitted)[keys])
    assert (pd.read_parquet(refitted)["train_count"] >= ranks["train_count"]).all()
    text = (folder / "report.md").read_text()
    assert "all events, in order of time, in parts of 0.8 : 0.1 : 0.1" in text
    assert "| training events later than a test target, in the mean | 0.0 % |" in text


def test_new_items_and_short_histories_stand_in_the_report_beside_a_baselines(shop):
    keys = {
        "cold_share": 0.2,
        "shorten_histories": "[1,3]",
        "disturb_histories": "[0.5]",
        "baseline": "SASRec",
    }
    folder = road.main(given(shop, run_name="new", **keys))
    ranks, theirs = (pd.read_parquet(folder / name) for name in ("ranks.parquet", "ranks-SASRec.parquet"))
    assert ((ranks["rank_cold"] > 0) == (ranks["train_count"] == 0)).all() and ranks["rank_cold"].max() <= 3
    assert (theirs["train_count"] == ranks["train_count"]).all() and (ranks["rank_cold"] > 0).any()
    outcomes = json.loads((folder / "metrics.json").read_text())["outcomes"]
    assert [list(outcome["shortened"]) for outcome in outcomes] == [["1", "3"], ["1", "3"]]
    for told in outcomes[0][
        "shortened"
    ].values():  # a rider of the carousel needs to know where it is, no more
        whole = metrics_from(ranks["rank_masked"], [10])["ndcg@10"]
        assert told["masked"]["ndcg@10"] == pytest.approx(whole, abs=0.05)
    text = (folder / "report.md").read_text()
    assert "## Items made new" in text and "## Histories cut short" in text
    assert "## Random items in the histories" in text and "| 50 % |" in text
    disturbed = outcomes[0]["disturbed"]["0.5"]["masked"]["ndcg@10"]
    assert 0 < disturbed < metrics_from(ranks["rank_masked"], [10])["ndcg@10"]


def test_lists_are_measured_for_every_model_and_their_diversity_where_the_texts_have_vectors(finished, shop):
    outcomes = json.loads((finished / "metrics.json").read_text())["outcomes"]
    assert [sorted(outcome["beyond_accuracy"]) for outcome in outcomes] == [sorted(WORDS)] * 3
    alone = given(shop, model="SASRec", run_name="no-texts", artifact_path=shop / "nowhere")
    alone = [word for word in alone if word.partition("=")[0][2:] in road_keys("SASRec")]
    (outcome,) = json.loads((road.main(alone) / "metrics.json").read_text())["outcomes"]
    assert sorted(outcome["beyond_accuracy"]) == sorted(set(WORDS) - {"diversity"})


def test_reviews_do_not_stop_a_model_that_keeps_no_order_of_events(shop):
    words = {"model": "SASRec", "dataset": "carousel", "data_path": str(shop), "topk": [10]}
    config = configure("SASRec", words | {"history_as_offsets": False, "text_fields": ["reviews"]})
    config["checkpoint_dir"] = str(shop)
    parts = build(config)[0]
    assert found_text_vectors(config, parts[0]._dataset) == {}


def road_keys(model):
    return known_to(model, "carousel", {word.partition("=")[0][2:]: "" for word in given(Path())}).keys()


def test_recboles_causal_models_can_be_trained_on_dense_rows(shop):
    small = {
        "epochs": "30",
        "eval_step": "30",
        "topk": "[1]",
        "valid_metric": "NDCG@1",
        "show_progress": "False",
    }
    keys = {
        "dataset": "carousel",
        "data_path": shop,
        "run_path": shop / "runs",
        "train_rows": "dense",
        **small,
    }
    keys |= {"MAX_ITEM_LIST_LENGTH": "8", "train_batch_size": "16", "learning_rate": "0.01"}
    for model, sizes in (
        ("SASRec", {"hidden_size": 16, "inner_size": 32}),
        ("GRU4Rec", {"embedding_size": 16}),
    ):
        folder = road.main(
            [f"--{k}={v}" for k, v in (keys | sizes | {"model": model, "run_name": model}).items()]
        )
        ranks = pd.read_parquet(folder / "ranks.parquet")
        assert (ranks["rank"] == 1).mean() > 0.8, model


@pytest.mark.parametrize("part", ["stopped", "refit", "baseline"])
def test_a_run_that_was_interrupted_goes_on_and_ends_the_same(shop, finished, monkeypatch, capsys, part):
    both = {"epochs": 4, "refit": True, "baseline": "SASRec"} if part != "stopped" else {"epochs": 4}
    whole = road.main(given(shop, run_name=f"straight-{part}", **both))
    epoch = road.Screen.epoch

    def interrupting(self, trainer, number):
        epoch(self, trainer, number)
        if number == 1 and trainer.folder.parent.name.startswith(part):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(road.Screen, "epoch", interrupting)
        road.main(given(shop, run_name=f"stopped-{part}", **both))
    assert "--resume=" in capsys.readouterr().out
    stopped = shop / "runs" / f"stopped-{part}"
    assert (stopped / "checkpoint" / "best.safetensors").is_file()
    resumed = road.main([f"--resume={stopped}"])
    assert "resumed after epoch 1" in capsys.readouterr().out
    pd.testing.assert_frame_equal(*(pd.read_parquet(folder / "ranks.parquet") for folder in (whole, resumed)))
    ends = (json.loads((folder / "metrics.json").read_text())["outcomes"] for folder in (whole, resumed))
    assert [outcome["test"] for outcome in next(ends)] == [outcome["test"] for outcome in next(ends)]


CAROUSEL = ["--topk=[10]", "--model=LLMSeqRec", "--dataset=carousel"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--model=LLMSeqRec"],
            "SettingError: --dataset not given; e.g. --model=LLMSeqRec --dataset=ml-100k",
        ),
        (["--model=LLMSeqRek", "--dataset=ml-100k"], "no model is called LLMSeqRek; did you mean LLMSeqRec?"),
        (["--model=LLMSeqRec", "--dataset=ml-100k", "--drpout=1"], "key `drpout`; did you mean `dropout`?"),
        (
            ["--model=LLMSeqRec", "--dataset=nothing-like-it"],
            "PrepError: nothing-like-it is none of the data sets",
        ),
        (
            [*CAROUSEL, "--baseline=BERT4Rec"],
            "BERT4Rec is not known to; RecBole's SASRec, S3Rec and GRU4Rec are",
        ),
        ([*CAROUSEL, "--baseline=SASRek"], "no model is called SASRek; did you mean SASRec?"),
        ([*CAROUSEL, "--train_rows=dens"], "`train_rows` is 'dens', expected one of prefix, dense"),
        ([*CAROUSEL, "--refit=flase"], "`refit` is 'flase' (str), expected bool"),
        ([*CAROUSEL, "--learner=adamm"], "`learner` has 'adamm'; did you mean adam?"),
        ([*CAROUSEL, "--valid_metric=NDGC@10"], "`valid_metric` has 'ndgc'; did you mean ndcg?"),
        ([*CAROUSEL, "--valid_metric=NDCG@5"], "`valid_metric` has 'ndcg@5'; did you mean ndcg@"),
        (
            ["--model=LLMSeqRec", "--dataset=carousel", "--topk=[0]"],
            "RecBole refuses a config key: topk must be a positive integer",
        ),
        ([*CAROUSEL, "--metrics=['NDGC']"], "no metric is called NDGC; did you mean ndcg?"),
        ([*CAROUSEL, "--eval_batch_size=0"], "`eval_batch_size` is 0, expected 1 or more"),
        (
            [*CAROUSEL, "--learning_rate_tenth=0"],
            "`learning_rate_tenth` is 0, expected 1 or more epochs, or None",
        ),
        ([*CAROUSEL, "--average_decay=2"], "`average_decay` is 2.0, expected from 0 to less than 1"),
        ([*CAROUSEL, "--n_experts=0"], "`n_experts` is 0, expected 1 or more"),
        ([*CAROUSEL, "--dropout=1"], "`dropout` is 1.0, expected from 0 to less than 1"),
        (["--config_files=nowhere.yaml"], "no file nowhere.yaml"),
        (["--resume=nowhere"], "no nowhere/settings.json; give the folder of a run"),
        ([*CAROUSEL, "--config_files=nowhere.yaml"], "no file nowhere.yaml"),
    ],
)
def test_errors_are_one_sentence(arguments, message, shop, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        cli.train(
            [*arguments, f"--data_path={shop}", f"--run_path={tmp_path}", f"--artifact_path={shop / 'texts'}"]
        )
    assert stop.value.code == 2
    assert not list(tmp_path.glob("*/checkpoint/*")), "refused after training"
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_reviews_of_training_interactions_alone_are_read(tmp_path):
    folder = write_carousel(tmp_path, n_users=1)
    path = folder / "carousel" / "carousel.inter"
    rows = path.read_text().splitlines()
    header = rows[0] + "\treview:token_seq\thelpful:float"
    path.write_text(
        "\n".join([header, *(f"{row}\tsaid in row {n}\t{n}" for n, row in enumerate(rows[1:]))]) + "\n"
    )
    world = house(folder)
    reviews = training_reviews(world.config, world.train._dataset)
    read = sorted(int(text.split()[-1]) for texts in reviews.values() for text, _ in texts)
    assert read == list(range(len(rows) - 1 - 2)), "all rows but the validation and the test one"


def test_a_review_of_an_item_that_is_held_out_later_is_not_read(tmp_path):
    folder = tmp_path / "carousel"
    folder.mkdir()
    events = ["i0", "i1", "i2", "i0", "i3"]  # i0 again as the validation target
    rows = [f"u\t{item}\t{n}\tsaid in row {n}" for n, item in enumerate(events)]
    header = "user_id:token\titem_id:token\ttimestamp:float\treview:token_seq"
    (folder / "carousel.inter").write_text("\n".join([header, *rows]) + "\n")
    (folder / "carousel.item").write_text("item_id:token\ttitle:token_seq\ni0\tHorse\n")
    world = house(tmp_path)
    reviews = training_reviews(world.config, world.train._dataset)
    assert sorted(text for texts in reviews.values() for text, _ in texts) == [
        "said in row 1",
        "said in row 2",
    ]


def test_a_baseline_has_the_data_of_the_model_beside_it(shop):
    data = {"data_path": str(shop), "dataset": "carousel", "user_inter_num_interval": "[10,inf)"}
    ours = configure(
        "LLMSeqRec", data | {"use_gpu": False, "baseline": "SASRec", "hidden_size": 24, "epochs": 7}
    )
    theirs = configure_baseline(ours)
    assert theirs.model == "SASRec" and theirs["hidden_size"] == 24 and theirs["epochs"] == 7
    for key in ("user_inter_num_interval", "use_gpu", "load_col", "eval_args", "data_path", "train_rows"):
        assert theirs[key] == ours[key], key


def test_a_data_set_says_what_a_baseline_needs_there_and_the_user_has_the_last_word(shop):
    write_carousel(shop, name="ml-1m")
    data = {"data_path": str(shop), "dataset": "ml-1m", "baseline": "SASRec"}
    theirs = configure_baseline(configure("LLMSeqRec", data))
    assert (theirs["learning_rate"], theirs["warmup_steps"]) == (4.7e-3, 500)
    assert (theirs["hidden_dropout_prob"], theirs["hidden_size"]) == (0.1, 128)
    theirs = configure_baseline(configure("LLMSeqRec", data | {"dropout": 0.4, "warmup_steps": 9}))
    assert (theirs["learning_rate"], theirs["warmup_steps"]) == (4.7e-3, 9)
    assert theirs["hidden_dropout_prob"] == 0.4


@pytest.mark.parametrize(
    ("model", "keys", "has"),
    [
        ("LLMSeqRec", {}, True),
        ("LLMSeqRec", {"loss": "ssm"}, False),
        ("SASRec", {"train_rows": "dense"}, True),
        ("SASRec", {}, True),
        ("RecBole-SRGNN", {}, True),
        ("SRGNN", {}, True),
        ("LLMSeqSim", {}, True),
        ("BERT4Rec", {}, False),
        ("Pop", {}, False),
    ],
)
def test_that_nobody_repeats_on_a_data_set_is_for_the_models_that_can_use_it(shop, model, keys, has):
    write_carousel(shop, name="ml-100k")
    assert configure(model, {"data_path": str(shop), "dataset": "ml-100k"} | keys)["no_repeats"] is has


@pytest.mark.parametrize(
    ("dataset", "keys", "has"),
    [
        ("ml-100k", {}, True),
        ("ml-100k", {"no_repeats": False}, False),
        ("ml-100k", {"train_rows": "prefix"}, True),
        ("amazon-beauty", {}, False),
        ("carousel", {"no_repeats": True}, True),
    ],
)
def test_a_baseline_knows_of_repeats_what_the_model_beside_it_does(shop, dataset, keys, has):
    """But where the data set's file says that it is better without."""
    write_carousel(shop, name=dataset)
    ours = configure("LLMSeqRec", {"data_path": str(shop), "dataset": dataset, "baseline": "SASRec"} | keys)
    assert configure_baseline(ours)["no_repeats"] is has


@pytest.mark.parametrize("model", ["SASRecF", "FDSA", "GRU4RecF"])
def test_recboles_models_of_item_features_are_trained_tested_and_taken_up_again(shop, tmp_path, model):
    columns = "{'inter': ['user_id', 'item_id', 'timestamp'], 'item': ['item_id', 'colour']}"
    keys = {
        "model": model,
        "dataset": "carousel",
        "data_path": shop,
        "run_path": tmp_path,
        "load_col": columns,
    }
    keys |= {"topk": "[1, 3]", "valid_metric": "NDCG@3", "epochs": 1}
    keys |= {"selected_features": "['colour']", "train_neg_sample_args": "None"}
    folder = road.main([f"--{key}={value}" for key, value in keys.items()])
    assert model in (folder / "metrics.json").read_text()
    weights, facts = checkpoint.load(folder / "checkpoint" / "best.safetensors")
    found, _ = restore(folder)
    assert not facts["other_parameter"] and set(weights) == set(found.state_dict())
    assert all(torch.equal(held, weights[name]) for name, held in found.state_dict().items())


def of_two_stages(shop, folder, **keys):
    """Run RecBole's S3Rec on the carousel; returns the folder of the run."""
    given = {"model": "S3Rec", "dataset": "carousel", "data_path": shop, "run_path": folder.parent}
    given |= {"run_name": folder.name, "item_attribute": "colour", "topk": "[1]", "valid_metric": "NDCG@1"}
    given |= {"load_col": "{'inter': ['user_id', 'item_id', 'timestamp'], 'item': ['item_id', 'colour']}"}
    given |= {"MAX_ITEM_LIST_LENGTH": 8, "hidden_size": 16, "inner_size": 32, "learning_rate": 0.01}
    given |= {"train_rows": "dense", "train_batch_size": 16, "show_progress": False}
    given |= {"pretrain_epochs": 3, "epochs": 30, "eval_step": 30}
    return road.main([f"--{key}={value}" for key, value in (given | keys).items()])


def test_a_model_of_two_stages_is_pretrained_and_then_finetuned(shop, tmp_path):
    folder = of_two_stages(shop, tmp_path / "both")
    ranks = pd.read_parquet(folder / "ranks.parquet")
    assert (ranks["rank"] == 1).mean() > 0.8
    first, _ = checkpoint.load(folder / "pretrained" / "checkpoint" / "best.safetensors")
    model, _ = restore(folder)
    weights = model.state_dict()
    heads = [name for name in first if name.startswith(("aap_norm", "mip_norm", "map_norm", "sp_norm"))]
    assert len(heads) == 8  # of the first stage alone, which the second started from and left as they were
    assert all(torch.equal(first[name], weights[name]) for name in heads)
    assert not torch.equal(first["item_embedding.weight"], weights["item_embedding.weight"])
    found = json.loads((folder / "metrics.json").read_text())["outcomes"][0]
    assert found["seconds"] > sum(entry["seconds"] for entry in found["curve"])


def test_a_run_that_was_interrupted_between_its_stages_ends_the_same(shop, tmp_path, monkeypatch):
    whole = of_two_stages(shop, tmp_path / "whole", epochs=2, eval_step=1)
    second = road.stages.second

    def interrupted(config, weights):
        raise KeyboardInterrupt

    monkeypatch.setattr(road.stages, "second", interrupted)
    with pytest.raises(KeyboardInterrupt):
        of_two_stages(shop, tmp_path / "parts", epochs=2, eval_step=1)
    monkeypatch.setattr(road.stages, "second", second)
    road.main([f"--resume={tmp_path / 'parts'}"])
    weights = [
        checkpoint.load(folder / "checkpoint" / "best.safetensors")[0]
        for folder in (whole, tmp_path / "parts")
    ]
    assert all(torch.equal(held, weights[1][name]) for name, held in weights[0].items())


def test_of_two_stages_the_report_alone_is_left_where_weights_are_not_asked_for(shop, tmp_path):
    folder = of_two_stages(shop, tmp_path / "light", epochs=1, eval_step=1, saved=False)
    assert not list(folder.rglob("*.safetensors")) and not (folder / "pretrained").exists()


def test_an_attribute_to_pretrain_on_that_is_not_read_is_named(shop):
    with pytest.raises(SettingError, match="item_attribute is class, but of the .item file nothing is read"):
        configure("S3Rec", {"model": "S3Rec", "dataset": "carousel", "data_path": str(shop)})


def test_a_model_of_other_stages_is_refused(shop):
    with pytest.raises(SettingError, match="RaCT is trained in stages that a run does not know"):
        configure("RaCT", {"model": "RaCT", "dataset": "carousel", "data_path": str(shop)})


@pytest.mark.parametrize("model", ["FM", "SASRecF", "LightGCN"])
def test_recboles_models_find_their_features_in_ml_100k(model, tmp_path):
    config = configure(model, {"dataset": "ml-100k", "data_path": str(tmp_path), "model": model})
    parts, _, built = build(config)
    assert {"genre", "gender"} <= set(parts[0]._dataset.field2type)
    assert sum(parameter.numel() for parameter in built.parameters()) > 0


def test_recboles_knowledge_models_find_the_graph_of_ml_100k(tmp_path):
    config = configure("CFKG", {"dataset": "ml-100k", "data_path": str(tmp_path), "model": "CFKG"})
    parts, _, _ = build(config)
    assert len(parts[0]._dataset.kg_feat) > 50_000


def test_model_and_data_set_may_stand_in_a_file(shop, tmp_path):
    write_carousel(shop, n_items=40, name="wide")
    (tmp_path / "mine.yaml").write_text("model: Pop\ndataset: wide\ntopk: [3]\nvalid_metric: NDCG@3\n")
    keys = [f"--config_files={tmp_path / 'mine.yaml'}", f"--data_path={shop}", f"--run_path={tmp_path}"]
    assert road.main(keys).name.startswith("Pop-wide")
    assert road.main([*keys, "-m", "EASE", "-d", "wide"]).name.startswith("EASE-wide")


def test_embedding_alone_makes_the_vectors_that_training_takes(shop, finished):
    manifests = road.embed(given(shop))
    assert manifests["title"]["items_with_text"] == 17
    assert manifests["title"]["key"] in (finished / "manifest.json").read_text()


def test_preparing_alone_says_where_the_files_are(shop, capsys):
    cli.prep(["--dataset=carousel", f"--data_path={shop}"])
    assert capsys.readouterr().out.strip().endswith("carousel")
    with pytest.raises(SystemExit):
        cli.prep(["--dataset=carousel", "--epochs=3"])
    assert (
        "prep takes --dataset, --raw_path and --data_path, found dataset, epochs" in capsys.readouterr().err
    )


def test_a_run_is_taken_up_again_as_the_model_that_was_tested(finished):
    model, train_set = restore(finished)
    history = train_set.field2token_id["item_id"]
    events = torch.tensor([[history["i3"], history["i4"], history["i5"]]])
    weights, _ = checkpoint.load(finished / "checkpoint" / "best.safetensors")
    assert torch.equal(model.table.own.weight, weights["table.own.weight"])
    assert not model.training and model(events, torch.tensor([3])).shape == (1, 16)


def test_what_is_no_run_is_not_taken_up(tmp_path):
    with pytest.raises(ArtifactError, match=r"no settings\.json in .*; give the folder of a run"):
        restore(tmp_path)


def test_the_verb_export_writes_a_run_for_other_programs(finished, tmp_path, capsys):
    pytest.importorskip("onnxscript", reason="the extra `serve` is not installed")
    cli.export([f"--run={finished}", f"--to={tmp_path / 'out'}"])
    assert capsys.readouterr().out.strip().endswith(str(tmp_path / "out"))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"encoder.onnx", "facts.json", "read.npy", "scored.npy", "tokens.txt"}
    with pytest.raises(SystemExit):
        cli.export(["--folder=x"])
    assert "export takes --run and --to, found folder" in capsys.readouterr().err
