"""RecBole's data on pandas 3: missing values are filled, sequences keep their own values, lengths and ids."""

import inspect
import math

import pandas as pd
import pytest
import torch
from pandas.errors import ChainedAssignmentError
from recbole.config import Config
from recbole.data.dataset import Dataset, KnowledgeBasedDataset, SequentialDataset, dataset
from recbole.utils import FeatureSource, FeatureType

import recbole_llm  # noqa: F401  patches RecBole

ATOMIC_FILES = {
    "inter": "user_id:token item_id:token weight:float|u1 A 1|u1 B |u2 C 3|u2 A 5",
    "item": "item_id:token genre:token title:token_seq price:float tags:float_seq"
    "|A red big_cat 10 1_2.5_4|B  cat  2|C blue  30 ",
    "train.inter": "user_id:token item_id_list:token_seq item_id:token|u1 A_B C|u2 B A",
    "valid.inter": "user_id:token item_id_list:token_seq item_id:token|u1 A_B_C D",
    "test.inter": "user_id:token item_id_list:token_seq item_id:token|u2 B_A D",
}
COLUMNS = {"inter": ["user_id", "item_id", "weight"], "item": ["item_id", "genre", "title", "price", "tags"]}


@pytest.fixture
def config(tmp_path):
    """Gives a Config for the toy dataset of two users and three items, with the given settings."""
    (tmp_path / "toy").mkdir()
    for suffix, lines in ATOMIC_FILES.items():
        text = lines.replace(" ", "\t").replace("_", " ").replace("|", "\n")
        head, body = text.split("\n", 1)
        (tmp_path / "toy" / f"toy.{suffix}").write_text(f"{head.replace(' ', '_')}\n{body}\n")

    def build(model="BPR", **settings):
        settings = {"load_col": COLUMNS, "seq_separator": " ", **settings, "data_path": str(tmp_path)}
        return Config(model=model, dataset="toy", config_dict=settings)

    return build


def unwrap(monkeypatch, owner, name):
    """Put RecBole's own method back for the length of a test."""
    monkeypatch.setattr(owner, name, inspect.unwrap(vars(owner)[name]))


def test_missing_tokens_floats_and_sequences_are_filled(config):
    data = Dataset(config())
    assert data.item_feat["genre"].tolist() == [0, 1, 0, 2]  # [PAD], red, missing, blue
    assert data.item_feat["price"].tolist() == [20, 10, 20, 30]  # missing: the mean of 10 and 30
    assert data.inter_feat["weight"].tolist() == [1, 3, 3, 5]  # missing: the mean of 1, 3 and 5
    assert [row.tolist() for row in data.item_feat["tags"]] == [[], [1, 2.5, 4], [2], []]


@pytest.mark.filterwarnings("ignore::pandas.errors.ChainedAssignmentError")
def test_stock_recbole_leaves_missing_values_in_place(config, monkeypatch):
    unwrap(monkeypatch, Dataset, "_fill_nan")
    data = Dataset(config())
    assert math.isnan(data.item_feat["price"][2]) and math.isnan(data.inter_feat["weight"][1])


def test_token_sequences_are_remapped_row_by_row(config):
    data = Dataset(config())
    assert data.field2id_token["title"].tolist() == ["[PAD]", "big", "cat"]
    assert [row.tolist() for row in data.item_feat["title"]] == [[], [1, 2], [2], []]
    data._change_feat_format()
    assert data.item_feat["title"].tolist() == [[0, 0], [1, 2], [2, 0], [0, 0]]


def test_stock_recbole_cannot_load_token_sequences(config, monkeypatch):
    unwrap(monkeypatch, Dataset, "_remap")
    with pytest.raises(ValueError, match="Length of values"):
        Dataset(config())


def test_stock_recbole_cannot_load_a_missing_sequence(config, monkeypatch):
    monkeypatch.setattr(dataset, "pd", dataset.pd.replaced)
    with pytest.raises(AttributeError, match="split"):
        Dataset(config())


def test_text_is_read_as_python_objects(config):
    frame = dataset.pd.read_csv(f"{config()['data_path']}/toy.item", delimiter="\t", dtype=str)
    assert frame["genre:token"].dtype == object and frame["genre:token"].tolist()[::2] == ["red", "blue"]
    assert frame["title:token_seq"].tolist() == ["big cat", "cat", ""]


@pytest.mark.filterwarnings("error::pandas.errors.ChainedAssignmentError")
def test_no_chained_assignment_warning_is_left(config, monkeypatch):
    Dataset(config())
    unwrap(monkeypatch, Dataset, "_load_feat")
    with pytest.raises(ChainedAssignmentError):
        Dataset(config())


def test_float_sequences_are_normalized_over_all_rows(config):
    data = Dataset(config(normalize_field=["tags"]))
    assert [row.tolist() for row in data.item_feat["tags"]] == [[], [0, 0.5, 1], [pytest.approx(1 / 3)], []]
    assert data.item_feat["price"].tolist() == [20, 10, 20, 30]


def test_float_sequences_are_discretized_to_pairs(config):
    settings = {"numerical_features": ["tags"], "discretization": {"tags": {"method": "ED", "bucket": 3}}}
    data = Dataset(config(**settings))
    pairs = [tuple(part.tolist() for part in row) for row in data.item_feat["tags"]]
    assert pairs == [([], []), ([1, 1, 1], [1, 2, 3]), ([1], [1]), ([], [])]
    assert data.field2bucketnum["tags"] == 4
    data._change_feat_format()
    assert data.item_feat["tags"].shape == (4, 3, 2)


def test_numerical_float_sequences_become_value_and_one(config):
    data = Dataset(config(numerical_features=["tags", "price"]))
    pairs = [tuple(part.tolist() for part in row) for row in data.item_feat["tags"]]
    assert pairs == [([], []), ([1, 2.5, 4], [1, 1, 1]), ([2], [1]), ([], [])]
    assert data.item_feat["price"].tolist() == [[20, 1], [10, 1], [20, 1], [30, 1]]


@pytest.mark.parametrize(
    ("method", "settings"),
    [("_normalize", {"normalize_all": True}), ("_discretization", {"numerical_features": ["tags"]})],
)
def test_stock_recbole_cuts_float_sequences_wrongly(method, settings, config, monkeypatch):
    unwrap(monkeypatch, Dataset, method)
    with pytest.raises(ValueError, match="Length of values"):
        Dataset(config(**settings))


def item_sequences():
    """A knowledge-aware dataset with no more than two histories of items."""
    data = KnowledgeBasedDataset.__new__(KnowledgeBasedDataset)
    data.uid_field, data.iid_field = "user_id", "item_id"
    data.field2type, data.field2source = (
        {"history": FeatureType.TOKEN_SEQ},
        {"history": FeatureSource.INTERACTION},
    )
    data.field2id_token, data.field2token_id = {}, {}
    data.inter_feat = pd.DataFrame(
        {"history": pd.Series([torch.tensor([1, 2]).numpy(), torch.tensor([3]).numpy()])}
    )
    return data


def test_a_knowledge_graph_renumbers_item_sequences_row_by_row():
    data = item_sequences()
    data._reset_ent_remapID("history", torch.tensor([0, 30, 20, 10]).numpy(), ["[PAD]"], {"[PAD]": 0})
    assert [row.tolist() for row in data.inter_feat["history"]] == [[30, 20], [10]]
    assert data.field2type == {"history": FeatureType.TOKEN_SEQ} and "field2feats" not in vars(data)


def test_stock_recbole_cannot_renumber_item_sequences(monkeypatch):
    unwrap(monkeypatch, KnowledgeBasedDataset, "_reset_ent_remapID")
    with pytest.raises(ValueError, match="Length of values"):
        item_sequences()._reset_ent_remapID("history", torch.tensor([0, 30, 20, 10]).numpy(), [], {})


@pytest.fixture
def ready_made(config):
    """Gives a Config for ready-made histories in three files."""
    return lambda: config(
        "SASRec",
        load_col={"inter": ["user_id", "item_id_list", "item_id"]},
        benchmark_filename=["train", "valid", "test"],
        alias_of_item_id=["item_id_list"],
        train_neg_sample_args=None,
    )


def test_ready_made_histories_keep_their_values_and_lengths(ready_made):
    parts = SequentialDataset(ready_made()).build()
    histories = [part.inter_feat["item_id_list"].tolist() for part in parts]
    tokens = parts[0].field2id_token["item_id"]
    assert [[[tokens[i] for i in row if i] for row in part] for part in histories] == [
        [["A", "B"], ["B"]],
        [["A", "B", "C"]],
        [["B", "A"]],
    ]
    assert [part.inter_feat["item_length"].tolist() for part in parts] == [[2, 1], [3], [2]]


def test_stock_recbole_gives_every_ready_made_history_the_number_of_rows(ready_made, monkeypatch):
    unwrap(monkeypatch, SequentialDataset, "_benchmark_presets")
    assert SequentialDataset(ready_made()).inter_feat["item_length"].tolist() == [4, 4, 4, 4]


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_tensors_do_not_write_into_the_frame_they_came_from(config, monkeypatch):
    data = Dataset(config())

    def users_after_writing():
        data._dataframe_to_interaction(data.inter_feat)["user_id"][0] = 9
        return data.inter_feat["user_id"].tolist()

    assert users_after_writing() == [1, 1, 2, 2]
    unwrap(monkeypatch, Dataset, "_dataframe_to_interaction")
    assert users_after_writing() == [9, 1, 2, 2]  # stock: memory that pandas gave out as read-only


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"user_inter_num_interval": "[2,inf)", "item_inter_num_interval": "[2,inf)"}, None),
        ({"item_inter_num_interval": "[2,inf)"}, [("u1", "A"), ("u2", "A")]),
        ({"val_interval": {"weight": "[2,inf)"}}, [("u2", "C"), ("u2", "A")]),
        ({"val_interval": {"item_id": ["A", "C"]}}, [("u1", "A"), ("u2", "C"), ("u2", "A")]),
        ({"val_interval": {"genre": ["blue"]}}, [("u2", "C")]),
    ],
)
def test_filters_leave_what_they_say(settings, left, config):
    if left is None:
        with pytest.raises(ValueError, match="Some feat is empty"):
            Dataset(config(**settings))
        return
    data = Dataset(config(**settings))
    pairs = zip(data.inter_feat["user_id"], data.inter_feat["item_id"], strict=True)
    assert [
        tuple(data.id2token(f, i) for f, i in zip(("user_id", "item_id"), pair, strict=True))
        for pair in pairs
    ] == left


def test_the_c_parser_reads_what_the_python_parser_reads(tmp_path):
    values = [0.1 + 0.2, 1e-320, 123456789.123456789, 978300760.0, 2.2250738585072014e-308]
    lines = [
        "user_id:token\tweight:float\ttext:token_seq",
        *(f'u {n}\t{v!r}\tsay "hi" {n}' for n, v in enumerate(values)),
    ]
    lines += ["NA\t\t", '"quoted\tfield"\t7\tx', "é\tnan\t "]
    (tmp_path / "a.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = {
        "delimiter": "\t",
        "dtype": {"user_id:token": str, "weight:float": float, "text:token_seq": str},
    }
    options |= {
        "engine": "python",
        "encoding": "utf-8",
        "usecols": ["user_id:token", "weight:float", "text:token_seq"],
    }
    ours, theirs = (
        dataset.pd.read_csv(tmp_path / "a.tsv", **options),
        pd.read_csv(tmp_path / "a.tsv", **options),
    )
    assert list(ours["weight:float"][:5]) == values
    for column in theirs:
        expected = theirs[column].fillna("") if column.endswith("_seq") else theirs[column]
        assert [str(v) for v in ours[column]] == [str(v) for v in expected], column
