"""RecBole's files without pickle: PyTorch 2.6 refuses its checkpoints, and a pickle can run any code.

RecBole's trainer now writes checkpoints of tensors and plain values, the settings among them as a dict, which
``torch.load(weights_only=True)`` reads. Whatever still needs unpickling (a checkpoint of stock RecBole, a
saved dataset or dataloader) is read only where the user set ``allow_pickle: True``; no file can set it.
"""

import io
import os
import pickle
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from importlib import import_module

import torch
from recbole.config import Config
from recbole.data import utils as data_utils
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.trainer import trainer
from safetensors.torch import load_file

from ..errors import ArtifactError
from .patching import rebind, stand_in, wrap
from .plain import config_from, plain_checkpoint, restored
from .tuning import quick_start

# Models that can start from a checkpoint, read while they are built: module, class.
PRETRAINED_MODELS = (
    ("general_recommender.convncf", "ConvNCF"),
    ("general_recommender.nais", "NAIS"),
    ("general_recommender.neumf", "NeuMF"),
    ("general_recommender.ract", "RaCT"),
    ("sequential_recommender.s3rec", "S3Rec"),
    ("context_aware_recommender.kd_dagfm", "KD_DAGFM"),
)

pickle_allowed = ContextVar("pickle_allowed", default=False)


@contextmanager
def unpickling(allowed):
    """Within it files may be unpickled, if ``allowed`` is True."""
    token = pickle_allowed.set(allowed is True)
    try:
        yield
    finally:
        pickle_allowed.reset(token)


def refuse_unpickling(path, cause=None):
    """Raise ArtifactError, unless the user allowed to unpickle ``path``."""
    if not pickle_allowed.get():
        raise ArtifactError(
            f"{path} can only be read by unpickling it, which can run any code; if you trust where it comes "
            f"from, set `allow_pickle: True` (load_data_and_model: allow_pickle=True), else delete it"
        ) from cause


def save(state, path, pickle_protocol=None):
    """`torch.save` of RecBole's ``state`` as tensors and plain values; ``path`` is complete or not there.

    RecBole's ``pickle_protocol`` is left aside: ``weights_only=True`` reads the default one.
    """
    unfinished = f"{path}.unfinished"
    torch.save(plain_checkpoint(state), unfinished)
    os.replace(unfinished, path)


def load(path, map_location=None):
    """`torch.load` of tensors and plain values; of anything else only where the user allowed it.

    A file of our own has the weights alone.
    """
    if str(path).endswith(".safetensors"):
        return {"state_dict": load_file(path, device=str(map_location or "cpu"))}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "Detected pickle protocol"
            )  # stock RecBole's, which we then refuse
            return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as refusal:
        refuse_unpickling(path, refusal)
    return torch.load(path, map_location=map_location, weights_only=False)


def write_plain_checkpoints():
    """RecBole's trainer saves and reloads its best model on PyTorch >= 2.6 (#2155)."""
    stand_in(trainer, "torch", save=save, load=load)


def read_plain_pretrained_models():
    """The models that start from a pretrained one read its checkpoint (#2212)."""
    for module, _ in PRETRAINED_MODELS:
        stand_in(import_module(f"recbole.model.{module}"), "torch", load=load)


def restore_other_parameters():
    """What a model keeps beside its weights comes back as it was: arrays and sparse matrices, too."""

    def restoring(original):
        def load_other_parameter(self, para):
            original(self, restored(para))

        return load_other_parameter

    wrap(AbstractRecommender, "load_other_parameter", restoring)


def load_pickle(file):
    """`pickle.load` of the open ``file``, only where the user allowed it."""
    refuse_unpickling(file.name)
    return pickle.load(file)


def guard_saved_datasets():
    """A saved dataset or dataloader that lies in the checkpoint folder is not unpickled unasked."""
    stand_in(data_utils, "pickle", load=load_pickle)


def allows_pickle(*arguments):
    """Whether the Config among ``arguments``, or that of the first of them, says ``allow_pickle: True``."""
    own = getattr(arguments[0], "config", None)
    config = next((given for given in (*arguments, own) if isinstance(given, Config)), {})
    return "allow_pickle" in config and config["allow_pickle"] is True


def asking(original):
    """The function or method, with unpickling allowed within it as its config says."""

    @wraps(original)
    def asked(*args, **options):
        with unpickling(allows_pickle(*args, *options.values())):
            return original(*args, **options)

    return asked


def ask_before_unpickling():
    """``allow_pickle`` of the config holds wherever RecBole reads one of its files."""
    rebind(data_utils, "create_dataset", asking)
    rebind(data_utils, "load_split_dataloaders", asking)
    wrap(trainer.Trainer, "evaluate", asking)
    wrap(trainer.Trainer, "resume_checkpoint", asking)
    for module, name in PRETRAINED_MODELS:
        wrap(getattr(import_module(f"recbole.model.{module}"), name), "__init__", asking)


class PickledConfig:
    """Plain settings that unpickle as a Config, in the one in-memory file that RecBole's loader reads."""

    def __init__(self, settings):
        self.settings = settings

    def __reduce__(self):
        """A call of `config_from`, which that loader is told to trust."""
        return config_from, (self.settings,)


def load_from_plain_checkpoints():
    """`load_data_and_model` rebuilds the Config from a plain checkpoint, and leaves the rest to RecBole."""

    def loading(original):
        def load_data_and_model(model_file, allow_pickle=False):
            with unpickling(allow_pickle):
                checkpoint = plain_checkpoint(load(model_file, map_location="cpu"))
            settings = {**checkpoint["config"], "allow_pickle": allow_pickle is True}
            stream = io.BytesIO()
            torch.save({**checkpoint, "config": PickledConfig(settings)}, stream)
            stream.seek(0)
            with torch.serialization.safe_globals([config_from]):
                return original(stream)

        return load_data_and_model

    rebind(quick_start, "load_data_and_model", loading)
