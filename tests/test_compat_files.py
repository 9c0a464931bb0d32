"""RecBole's files: checkpoints hold plain values, and nothing is unpickled unless the user says so."""

import os
import pickle
from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.config import Config
from recbole.data import create_dataset, data_preparation, save_split_dataloaders
from recbole.data import utils as data_utils
from recbole.model.general_recommender import BPR, EASE, ConvNCF, convncf
from recbole.quick_start import load_data_and_model
from recbole.trainer import Trainer, trainer
from recbole.utils import EvaluatorType, ModelType, get_model
from scipy import sparse

from recbole_llm.compat.plain import SPARSE_FORMATS, config_from, plain, plain_config, restored
from recbole_llm.errors import ArtifactError

REFUSAL = r"can only be read by unpickling it.*`allow_pickle: True`"

# RecBole's logger never closes its files.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
protocol_4 = pytest.mark.filterwarnings(
    "ignore:Detected pickle protocol 4"
)  # PyTorch's, on files of stock RecBole


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Gives a Config for 6 users who each rated 4 of 5 items; files go to the test's own folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy").mkdir()
    rows = [f"u{user}\ti{(user + step) % 5}" for user in range(6) for step in range(4)]
    (tmp_path / "toy" / "toy.inter").write_text("\n".join(["user_id:token\titem_id:token", *rows]) + "\n")
    common = {"data_path": str(tmp_path), "embedding_size": 4, "epochs": 1, "show_progress": False}
    common |= {"topk": [3], "valid_metric": "MRR@3"}
    common["eval_args"] = {"split": {"RS": [2, 1, 1]}, "order": "RO", "group_by": "user", "mode": "full"}
    return lambda model="BPR", **own: Config(model=model, dataset="toy", config_dict={**common, **own})


def trained(config):
    """A trainer after one epoch on the toy dataset, its checkpoint written."""
    train_data, valid_data, _ = data_preparation(config, create_dataset(config))
    model = get_model(config["model"])(config, train_data._dataset)
    run = Trainer(config, model)
    run.fit(train_data, valid_data, verbose=False)
    return run


@pytest.fixture
def stock(monkeypatch):
    """Gives a trainer whose checkpoint was written by stock RecBole: a pickled Config in it."""

    def write(config):
        with monkeypatch.context() as patch:
            patch.setattr(trainer, "torch", trainer.torch.replaced)
            return trained(config)

    return write


def weights(model):
    """All weights of ``model`` as one vector."""
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def test_a_checkpoint_is_read_without_pickle_and_keeps_the_settings(config):
    settings = config()
    run = trained(settings)
    checkpoint = torch.load(run.saved_model_file, weights_only=True)
    assert checkpoint["epoch"] == 0 and type(checkpoint["best_valid_score"]) is float
    again = config_from(checkpoint["config"])
    assert again["MODEL_TYPE"] is ModelType.GENERAL and again["eval_type"] is EvaluatorType.RANKING
    assert again.final_config_dict == settings.final_config_dict
    assert again.parameters == settings.parameters and again.model_class is BPR


@protocol_4
def test_stock_recbole_cannot_reload_its_own_best_model(config, stock, monkeypatch):
    run = stock(config())
    monkeypatch.setattr(trainer, "torch", trainer.torch.replaced)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        run.resume_checkpoint(run.saved_model_file)


def test_training_resumes_where_it_stopped(config):
    run = trained(config())
    resumed = Trainer(run.config, BPR(run.config, create_dataset(run.config)))
    assert not torch.equal(weights(resumed.model), weights(run.model))
    resumed.resume_checkpoint(run.saved_model_file)
    assert torch.equal(weights(resumed.model), weights(run.model))
    assert (resumed.start_epoch, resumed.best_valid_score) == (1, run.best_valid_score)
    assert str(resumed.optimizer.state_dict()) == str(run.optimizer.state_dict())


def test_a_checkpoint_of_stock_recbole_is_read_only_if_allowed(config, stock):
    run = stock(config())
    fresh = Trainer(run.config, BPR(run.config, create_dataset(run.config)))
    with pytest.raises(ArtifactError, match=f"{run.saved_model_file} {REFUSAL}"):
        fresh.resume_checkpoint(run.saved_model_file)
    fresh.config["allow_pickle"] = True
    fresh.resume_checkpoint(run.saved_model_file)
    assert torch.equal(weights(fresh.model), weights(run.model))


def test_load_data_and_model_rebuilds_everything_from_a_plain_checkpoint(config):
    run = trained(config())
    settings, model, data, *parts = load_data_and_model(run.saved_model_file)
    assert settings.final_config_dict == {**run.config.final_config_dict, "allow_pickle": False}
    assert torch.equal(weights(model), weights(run.model))
    assert (data.user_num, data.item_num) == (7, 6) and [len(part.dataset) for part in parts] == [12, 6, 6]


@protocol_4
def test_stock_load_data_and_model_fails_on_any_checkpoint(config, stock):
    with pytest.raises(pickle.UnpicklingError):
        load_data_and_model.replaced(stock(config()).saved_model_file)
    with pytest.raises(AttributeError, match="final_config_dict"):
        load_data_and_model.replaced(trained(config(checkpoint_dir="ours")).saved_model_file)


def test_load_data_and_model_reads_a_stock_checkpoint_only_if_allowed(config, stock):
    run = stock(config())
    with pytest.raises(ArtifactError, match=REFUSAL):
        load_data_and_model(run.saved_model_file)
    loaded, model, *_ = load_data_and_model(run.saved_model_file, allow_pickle=True)
    assert loaded["model"] == "BPR" and torch.equal(weights(model), weights(run.model))


def test_a_checkpoint_can_neither_allow_pickle_nor_run_code(config, tmp_path):
    run = trained(config())
    checkpoint = torch.load(run.saved_model_file)
    trap = f"open({str(tmp_path / 'trap')!r}, 'w')"
    checkpoint["config"] |= {"allow_pickle": True, "note": trap}
    torch.save(checkpoint, "crafted.pth")
    loaded, *_ = load_data_and_model("crafted.pth")
    assert loaded["allow_pickle"] is False and loaded["note"] == trap and not (tmp_path / "trap").exists()


class Trap:
    """Makes a folder when unpickled."""

    def __reduce__(self):
        """A call that leaves its mark."""
        return os.mkdir, ("trap",)


@pytest.mark.parametrize("file", ["saved/toy-Dataset.pth", "saved/toy-for-BPR-dataloader.pth"])
def test_a_pickle_that_lies_about_is_not_run(file, config, tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / file).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ArtifactError, match=f"{file} {REFUSAL}"):
        data_preparation(config(), create_dataset(config()))
    assert not (tmp_path / "trap").exists()


def test_saved_datasets_and_dataloaders_come_back_if_allowed(config):
    settings = config(save_dataset=True, allow_pickle=True)
    data = create_dataset(settings)
    parts = data_preparation(settings, data)
    save_split_dataloaders(settings, parts)
    users = parts[0].dataset.inter_feat["user_id"].tolist()
    again = create_dataset(settings)
    assert again is not data and again.inter_feat["user_id"].tolist() == [
        u for u in range(1, 7) for _ in range(4)
    ]
    assert data_preparation(settings, again)[0].dataset.inter_feat["user_id"].tolist() == users
    with pytest.raises(ArtifactError, match=REFUSAL):
        create_dataset(config())


def test_stock_recbole_unpickles_unasked(config, tmp_path, monkeypatch):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/toy-Dataset.pth").write_bytes(pickle.dumps(Trap()))
    monkeypatch.setattr(data_utils, "pickle", data_utils.pickle.replaced)
    with pytest.raises(AttributeError):  # what the trap left is no dataset
        create_dataset(config())
    assert (tmp_path / "trap").exists()


@protocol_4
def test_a_pretrained_model_is_read_from_a_plain_checkpoint_and_a_pickled_one_if_allowed(
    config, stock, monkeypatch
):
    ours, theirs = (
        write(config(checkpoint_dir=write.__name__)).saved_model_file for write in (trained, stock)
    )
    layers = {
        "cnn_channels": [1, 2, 2],
        "cnn_kernels": [2, 2],
        "cnn_strides": [2, 2],
        "train_method": "after_pretrain",
    }

    def start_from(path, **own):
        settings = config("ConvNCF", pre_model_path=path, **layers, **own)
        return ConvNCF(settings, create_dataset(settings)).user_embedding.weight

    saved = torch.load(ours)["state_dict"]["user_embedding.weight"]
    assert torch.equal(start_from(ours), saved)
    with pytest.raises(ArtifactError, match=REFUSAL):
        start_from(theirs)
    assert start_from(theirs, allow_pickle=True).shape == saved.shape
    monkeypatch.setattr(convncf, "torch", convncf.torch.replaced)
    with pytest.raises(pickle.UnpicklingError):
        start_from(theirs, allow_pickle=True)


def test_a_checkpoint_does_not_carry_the_dataset_that_a_feature_layer_holds(config):
    run = trained(config())
    run.model.features = torch.nn.Linear(1, 1)
    run.model.features.dataset = create_dataset(run.config)
    run.model.other_parameter_name = ["features"]
    run.optimizer = torch.optim.Adam(run.model.parameters())
    run._save_checkpoint(0)
    assert torch.load(run.saved_model_file)["other_parameter"] == {}
    bias = run.model.features.bias.item()
    torch.nn.init.zeros_(run.model.features.bias)
    run.resume_checkpoint(run.saved_model_file)
    assert run.model.features.bias.item() == bias != 0


def test_arrays_of_a_model_without_gradients_come_back(config):
    run = trained(config("EASE"))
    fresh = EASE(run.config, create_dataset(run.config))
    similarity = run.model.item_similarity
    fresh.item_similarity = None
    run.model, before = fresh, similarity.copy()
    run.resume_checkpoint(run.saved_model_file)
    assert type(fresh.item_similarity) is type(similarity) and np.array_equal(fresh.item_similarity, before)
    assert type(fresh.interaction_matrix) is sparse.csr_matrix and fresh.interaction_matrix.shape == (7, 6)


def test_a_model_without_its_decoding_gets_the_encoded_form(config):
    run = trained(config("EASE"))
    others = torch.load(run.saved_model_file)["other_parameter"]
    type(run.model).load_other_parameter.replaced(run.model, others)
    assert isinstance(run.model.item_similarity, dict)


def test_what_has_no_plain_form_is_named_and_nothing_is_written(config, tmp_path):
    run = trained(config("EASE", seed=1))
    run.model.interaction_matrix = [1, Trap()]
    message = r"other_parameter\['interaction_matrix'\]\[1\] is of type Trap, and a checkpoint holds only"
    with pytest.raises(ArtifactError, match=message):
        run._save_checkpoint(1, saved_model_file="new.pth")
    assert not list(tmp_path.glob("new*"))


def test_a_setting_without_plain_form_is_logged_and_left_out(config, caplog):
    settings = config()
    settings["callback"] = print
    assert "callback" not in plain_config(settings)
    assert "callback is of type builtin_function_or_method" in caplog.text


@pytest.mark.parametrize("name", sorted(SPARSE_FORMATS))
def test_sparse_matrices_of_every_format_come_back(name):
    matrix = getattr(sparse, name)(np.array([[0, 1.5, 0], [2, 0, 0]], dtype=np.float32))
    again = restored(plain(matrix))
    assert type(again) is type(matrix) and again.dtype == np.float32
    assert again.toarray().tolist() == [[0, 1.5, 0], [2, 0, 0]]


def test_arrays_and_matrices_of_numpy_come_back_as_what_they_were():
    for array in (
        np.array([True, False]),
        np.array(1.5, dtype=np.float32),
        np.array([[1, 2]]).view(np.matrix),
    ):
        again = restored(plain(array))
        assert type(again) is type(array) and again.dtype == array.dtype and np.array_equal(again, array)


def test_a_defaultdict_of_numpy_numbers_becomes_plain():
    ripples = defaultdict(list, {np.int64(3): [(np.float64(0.5), [np.bool_(True)])]})
    again = plain(ripples)
    assert again == {3: [(0.5, [True])]} and type(again) is dict
    assert [type(key) for key in again] == [int] and type(again[3][0][0]) is float


leaves = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text()
leaves |= st.sampled_from([*ModelType, *EvaluatorType, torch.device("cpu")])
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner)
)


@settings(max_examples=60, deadline=None)
@given(values)
def test_any_nest_of_settings_survives_a_file_without_pickle(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "settings.pth"
    torch.save(plain(value), path)
    assert restored(torch.load(path, weights_only=True)) == value
