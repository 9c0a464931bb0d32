"""RecBole's values as tensors and plain Python values, and back: what a file without pickle can hold."""

from enum import Enum
from logging import getLogger

import numpy as np
import torch
from recbole.config import Config
from recbole.utils import enum_type, get_model
from scipy import sparse

from ..errors import ArtifactError

# A dict with one of these keys stands for an object of another type.
ENUM, ARRAY, SPARSE = "<enum>", "<array>", "<sparse>"
SPARSE_FORMATS = {
    f"{form}_{kind}"
    for form in ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
    for kind in ("matrix", "array")
}
AS_THEY_ARE = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    torch.Tensor,
    torch.device,
    torch.dtype,
    torch.Size,
)


def plain(value, name="value"):
    """``value`` without types of RecBole, NumPy or SciPy; `restored` gives it back.

    Raises
    ------
    ArtifactError
        If it, or something in it, has no plain form; says which by ``name``.
    """
    if isinstance(value, Enum):
        return {ENUM: [type(value).__name__, value.name]}
    if isinstance(value, np.generic):  # before float: numpy.float64 is one
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return {ARRAY: torch.tensor(value), "matrix": isinstance(value, np.matrix)}
    if sparse.issparse(value):
        return plain_sparse(value)
    if isinstance(value, dict):
        return {plain(key, name): plain(held, f"{name}[{key!r}]") for key, held in value.items()}
    for kind in (list, tuple, set):
        if isinstance(value, kind) and not isinstance(value, torch.Size):
            return kind(plain(held, f"{name}[{place}]") for place, held in enumerate(value))
    if isinstance(value, AS_THEY_ARE):
        return value
    raise ArtifactError(
        f"{name} is of type {type(value).__name__}, and a checkpoint holds only tensors, numeric arrays, "
        f"scipy.sparse matrices and plain Python values; take it out of `other_parameter_name`, or convert it"
    )


def plain_sparse(matrix):
    """A scipy.sparse ``matrix`` of any format as two tensors and its shape."""
    entries = matrix.tocoo()
    return {
        SPARSE: type(matrix).__name__,
        "shape": tuple(matrix.shape),
        "at": torch.tensor(np.stack([entries.row, entries.col])),
        "values": torch.tensor(entries.data),
    }


def restored(value):
    """What `plain` was given: its tagged dicts become enum members, arrays and sparse matrices again."""
    if isinstance(value, dict):
        if ENUM in value:
            enum_name, member = value[ENUM]
            return getattr(enum_type, enum_name)[member]
        if ARRAY in value:
            array = value[ARRAY].cpu().numpy()
            return array.view(np.matrix) if value["matrix"] else array
        if SPARSE in value and value[SPARSE] in SPARSE_FORMATS:
            row, column = value["at"].cpu().numpy()
            entries = sparse.coo_matrix((value["values"].cpu().numpy(), (row, column)), shape=value["shape"])
            return getattr(sparse, value[SPARSE])(entries)
        return {key: restored(held) for key, held in value.items()}
    if isinstance(value, list | tuple | set) and not isinstance(value, torch.Size):
        return type(value)(restored(held) for held in value)
    return value


def plain_config(config):
    """The settings of ``config`` as a plain dict, without `allow_pickle`; what has no plain form is logged.

    Parameters
    ----------
    config : Config or dict
    """
    settings = {}
    for key, value in getattr(config, "final_config_dict", config).items():
        if key == "allow_pickle":  # the reader of a file decides that, never the file
            continue
        try:
            settings[key] = plain(value, key)
        except ArtifactError as unknown:
            getLogger().warning(f"not saved with the settings: {unknown}")
    return settings


def config_from(settings):
    """A Config with the ``settings`` of a checkpoint; no string in them is evaluated, no variable exported.

    Parameters
    ----------
    settings : dict
        What `plain_config` gave.
    """
    config = Config.__new__(Config)
    config._init_parameters_category()
    config.yaml_loader = config._build_yaml_loader()
    config.final_config_dict = restored(settings)
    if not torch.cuda.is_available():
        config["device"] = torch.device("cpu")
    config.model, config.dataset = config["model"], config["dataset"]
    config.model_class = get_model(config["model"])
    return config


def plain_checkpoint(state):
    """The checkpoint ``state`` of a RecBole trainer as tensors and plain values.

    Raises
    ------
    ArtifactError
        If another part of it has no plain form.
    """
    others = without_modules(state.get("other_parameter") or {})
    parts = {**state, "other_parameter": others, "config": plain_config(state["config"])}
    return {name: part if name == "state_dict" else plain(part, name) for name, part in parts.items()}


def without_modules(others):
    """A model's ``other_parameter()`` without the submodules that RecBole's models with item features name there.

    Their weights are in the ``state_dict``, and the rest of them is the dataset, with which the model is built.
    """
    return {name: value for name, value in others.items() if not isinstance(value, torch.nn.Module)}
