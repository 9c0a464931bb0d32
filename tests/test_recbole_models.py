"""Every model of RecBole that needs no further package trains, saves, reloads and tests itself."""

import inspect
from importlib import import_module, util
from pathlib import Path

import numpy as np
import pytest
import torch
from carousel import assert_same_batches
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import KSR
from recbole.quick_start import quick_start, run_recbole
from recbole.utils import init_seed

from recbole_llm.data.dataset import OffsetDataset

USERS, ITEMS, ENTITIES = 40, 30, 12
FAMILIES = ("general", "sequential", "context_aware", "knowledge_aware")

# Packages that RecBole imports inside the model, or the dataset, when it is built.
NEEDS = {"KGAT": "dgl", "NCL": "faiss", "KGIN": "torch_scatter", "MCCLK": "torch_scatter"}

INTER = ["user_id", "item_id", "rating", "timestamp"]
KNOWLEDGE = {"inter": INTER, "kg": ["head_id", "relation_id", "tail_id"], "link": ["item_id", "entity_id"]}
FEATURES = {"inter": INTER, "user": ["user_id", "age"], "item": ["item_id", "genre", "title", "price"]}
PRETRAINED = {
    "load_col": {**KNOWLEDGE, "ent": ["ent_id", "ent_emb"], "rel": ["rel_id", "rel_emb"]},
    "additional_feat_suffix": ["ent", "rel"],
    "alias_of_entity_id": ["ent_id"],
    "alias_of_relation_id": ["rel_id"],
    "preload_weight": {"ent_id": "ent_emb", "rel_id": "rel_emb"},
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
}

TINY = {
    "epochs": 1,
    "train_batch_size": 512,
    "MAX_ITEM_LIST_LENGTH": 6,
    "show_progress": False,
    "state": "ERROR",
    "embedding_size": 8,
    "kg_embedding_size": 8,
    "hidden_size": 8,
    "inner_size": 8,
    "n_heads": 2,
    "n_layers": 1,
    "mlp_hidden_size": [8],
    "latent_dimension": 8,
}
BY_FAMILY = {
    "general": {"load_col": {"inter": INTER}},
    "sequential": {"load_col": FEATURES, "selected_features": ["genre", "title"], "item_attribute": "genre"},
    "context_aware": {"load_col": FEATURES, "threshold": {"rating": 3}, "numerical_features": ["price"]},
    "knowledge_aware": {"load_col": KNOWLEDGE},
}
BY_MODEL = {
    "ConvNCF": {"cnn_channels": [1, 4, 4], "cnn_kernels": [4, 2], "cnn_strides": [4, 2]},
    "DGCF": {"train_batch_size": 256},
    "FEARec": {"n_layers": 2},
    "GRU4RecCPR": {"reranker_CAN_NUM": 10},
    "SASRecCPR": {"reranker_CAN_NUM": 10},
    "GRU4RecKG": PRETRAINED,
    "KSR": PRETRAINED,
    "NCL": {"num_clusters": 4},
    "S3Rec": {"pretrain_epochs": 1, "save_step": 1},
    "RaCT": {"pretrain_epochs": 1, "save_step": 1},
}


def models():
    """(family, class) of each model in RecBole's four families."""
    for family in FAMILIES:
        package = import_module(f"recbole.model.{family}_recommender")
        for _, model in inspect.getmembers(package, inspect.isclass):
            if model.__module__.startswith(package.__name__):
                yield family, model


def write_table(path, header, rows):
    """An atomic file of RecBole: a header ``field:type`` and tab-separated rows."""
    path.write_text("\n".join("\t".join(map(str, row)) for row in [header, *rows]) + "\n")


def write_tiny_dataset(folder):
    """40 users with 8 to 11 ratings of 30 items, features of both, and a small knowledge graph."""
    rng = np.random.default_rng(0)
    ratings = [
        (f"u{user}", f"i{item}", rng.integers(1, 6), 1000 * user + step)
        for user in range(USERS)
        for step, item in enumerate(rng.permutation(ITEMS)[: 8 + user % 4])
    ]
    write_table(
        folder / "tiny.inter",
        [f"{f}:{t}" for f, t in zip(INTER, ("token", "token", "float", "float"), strict=True)],
        ratings,
    )
    write_table(
        folder / "tiny.user", ["user_id:token", "age:token"], [(f"u{u}", u % 5) for u in range(USERS)]
    )
    items = [(f"i{i}", f"g{i % 4}", f"a{i % 3} b{i % 5}", "" if i == 7 else i / 2) for i in range(ITEMS)]
    write_table(
        folder / "tiny.item", ["item_id:token", "genre:token", "title:token_seq", "price:float"], items
    )
    triples = [(f"e{i}", f"r{i % 3}", f"x{(i + hop) % ENTITIES}") for i in range(ITEMS) for hop in (0, 5)]
    write_table(folder / "tiny.kg", ["head_id:token", "relation_id:token", "tail_id:token"], triples)
    write_table(
        folder / "tiny.link", ["item_id:token", "entity_id:token"], [(f"i{i}", f"e{i}") for i in range(ITEMS)]
    )
    vector = "0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8"
    entities = [f"e{i}" for i in range(ITEMS)] + [f"x{i}" for i in range(ENTITIES)]
    write_table(folder / "tiny.ent", ["ent_id:token", "ent_emb:float_seq"], [(e, vector) for e in entities])
    write_table(
        folder / "tiny.rel", ["rel_id:token", "rel_emb:float_seq"], [(f"r{i}", vector) for i in range(3)]
    )


# RecBole's logger never closes its files, and PyTorch, pandas and NumPy announce what they will drop one day.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in (
        "ResourceWarning",
        "pytest.PytestUnraisableExceptionWarning",
        "UserWarning",
        "DeprecationWarning",
    )
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folder that holds the tiny dataset."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    folder.mkdir()
    write_tiny_dataset(folder)
    return folder


@pytest.mark.parametrize("model", ["SASRecF", "GRU4RecKG", "S3Rec", "BERT4Rec", "NPE"])
def test_the_batches_of_offsets_are_recboles_with_every_column(model, tiny, tmp_path):
    given = {**TINY, **BY_FAMILY["sequential"], **BY_MODEL.get(model, {}), "data_path": str(tiny.parent)}
    given |= {"train_batch_size": 50, "checkpoint_dir": str(tmp_path), "train_neg_sample_args": None}
    parts = []
    for offsets in (True, False):
        config = Config(model=model, dataset="tiny", config_dict=given | {"history_as_offsets": offsets})
        init_seed(3, True)
        dataset = create_dataset(config)
        assert isinstance(dataset, OffsetDataset) is offsets
        parts.append(data_preparation(config, dataset))
    for ours, theirs in zip(*parts, strict=True):
        listed = []
        for part in (ours, theirs):
            init_seed(5, True)
            listed.append(list(part))
        assert len(listed[1]) >= 1
        assert_same_batches(*listed)


@pytest.mark.parametrize(("family", "model"), [pytest.param(*pair, id=pair[1].__name__) for pair in models()])
def test_a_model_trains_reloads_its_best_weights_and_tests(family, model, tiny, tmp_path, monkeypatch):
    name = model.__name__
    if name in NEEDS and util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"RecBole's {name} needs the package {NEEDS[name]}")
    monkeypatch.chdir(tmp_path)
    scores_all_items = family == "sequential" and not hasattr(
        model, "input_type"
    )  # cross entropy: no negatives
    negatives = {"train_neg_sample_args": None} if scores_all_items else {}
    settings = {
        **TINY,
        **negatives,
        **BY_FAMILY[family],
        **BY_MODEL.get(name, {}),
        "data_path": str(tiny.parent),
    }

    result = run_recbole(model=name, dataset="tiny", config_dict=settings, saved=True)

    assert result["test_result"] and all(np.isfinite(value) for value in result["test_result"].values())
    for saved in Path("saved").glob("*.pth"):
        assert torch.load(saved, weights_only=True)["config"]["model"] == name


@pytest.mark.parametrize(
    ("name", "owner", "method", "complaint"),
    [
        ("KSR", KSR, "__init__", (RuntimeError, "same dtype")),
        ("SASRecCPR", quick_start, "get_flops", (AssertionError, "")),
    ],
)
def test_a_stock_model_fails(name, owner, method, complaint, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(owner, method, getattr(owner, method).replaced)
    settings = {**TINY, **BY_FAMILY["sequential"], **BY_MODEL[name], "train_neg_sample_args": None}
    error, message = complaint
    with pytest.raises(error, match=message):
        run_recbole(model=name, dataset="tiny", config_dict={**settings, "data_path": str(tiny.parent)})


RATINGS = sum(8 + user % 4 for user in range(USERS))
TENTH = sum((8 + user % 4) // 10 or 1 for user in range(USERS))


@pytest.mark.parametrize(
    ("split", "group_by", "sizes"),
    [
        ({"RS": [0.8, 0.1, 0.1]}, "user", (RATINGS - 2 * TENTH, TENTH, TENTH)),
        ({"RS": [0.8, 0.1, 0.1]}, None, (RATINGS - 2 * (RATINGS // 10), RATINGS // 10, RATINGS // 10)),
        ({"LS": "valid_and_test"}, "user", (RATINGS - 2 * USERS, USERS, USERS)),
        ({"LS": "test_only"}, "user", (RATINGS - USERS, 0, USERS)),
    ],
)
@pytest.mark.parametrize("order", ["RO", "TO"])
def test_every_split_has_the_sizes_it_says(split, group_by, sizes, order, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = {"split": split, "group_by": group_by, "order": order, "mode": "full"}
    settings = {**TINY, "load_col": {"inter": INTER}, "eval_args": args, "data_path": str(tiny.parent)}
    parts = create_dataset(Config(model="BPR", dataset="tiny", config_dict=settings)).build()
    assert tuple(len(part) for part in parts) == sizes
    last = [part.inter_feat["timestamp"].max() for part in parts[:1] + parts[2:]]
    assert order == "RO" or last[0] <= last[1]


@pytest.mark.parametrize("mode", ["full", "uni5", "pop5", "labeled"])
@pytest.mark.parametrize("name", ["BPR", "MultiVAE"])
def test_every_way_to_evaluate_gives_finite_scores(mode, name, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    judged = (
        {"metrics": ["AUC", "LogLoss"], "valid_metric": "AUC", "threshold": {"rating": 3}}
        if mode == "labeled"
        else {}
    )
    settings = {
        **TINY,
        **judged,
        "load_col": {"inter": INTER},
        "eval_args": {"mode": mode},
        "data_path": str(tiny.parent),
    }
    scores = run_recbole(model=name, dataset="tiny", config_dict=settings)["test_result"]
    assert len(scores) == (2 if mode == "labeled" else 5) and all(
        0 <= score < 100 for score in scores.values()
    )


@pytest.mark.slow
def test_sasrec_trains_on_the_ml_100k_of_recbole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {
        "epochs": 1,
        "train_neg_sample_args": None,
        "MAX_ITEM_LIST_LENGTH": 20,
        "show_progress": False,
    }
    result = run_recbole(model="SASRec", dataset="ml-100k", config_dict=settings)
    chance = 10 / 1682
    assert 3 * chance < result["test_result"]["recall@10"] < 0.3  # one epoch gave 0.042
