"""Weights with the plain facts about them in one safetensors file; written and read here only, never with pickle."""

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import ArtifactError

FORMAT = "recbole-llm 1"
LIFTED = "<tensor>"  # a dict with this key stands for a tensor of the same file


def save(path, tensors, facts):
    """Write ``tensors`` (a flat dict) and ``facts`` (plain JSON values) to ``path``: all of it or nothing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    header = {"format": FORMAT, "facts": json.dumps(facts, sort_keys=True)}
    # clones: safetensors refuses tensors that share memory, as tied weights do
    save_file(
        {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}, partial, metadata=header
    )
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


def load(path):
    """The tensors and the facts of a file that ``save`` wrote.

    Raises
    ------
    ArtifactError
        If there is no such file, or it is damaged, or another program wrote it.
    """
    path = Path(path)
    if not path.is_file():
        raise ArtifactError(f"no checkpoint at {path}; train with `saved: True` first")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ArtifactError(f"{path} is not a whole safetensors file ({error}); train again") from None
    if header.get("format") != FORMAT:
        raise ArtifactError(
            f"{path} has format {header.get('format')!r}, expected {FORMAT!r}; it is not ours"
        )
    return tensors, json.loads(header["facts"])


def lift(value, name, tensors):
    """``value`` with each tensor in it moved to ``tensors``, its name there left behind; `lower` puts it back."""
    if torch.is_tensor(value):
        tensors[name] = value
        return {LIFTED: name}
    if isinstance(value, dict):
        return {key: lift(held, f"{name}.{key}", tensors) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [lift(held, f"{name}.{place}", tensors) for place, held in enumerate(value)]
    return value


def lower(value, tensors):
    """The inverse of `lift`; takes what it puts back out of ``tensors``."""
    if isinstance(value, dict):
        return (
            tensors.pop(value[LIFTED])
            if LIFTED in value
            else {k: lower(held, tensors) for k, held in value.items()}
        )
    return [lower(held, tensors) for held in value] if isinstance(value, list) else value


def flatten_optimizer(state):
    """An optimiser's ``state_dict`` as a flat dict of tensors and plain values for the facts."""
    tensors, values = {}, {}
    for number, entries in state["state"].items():
        for name, value in entries.items():
            (tensors if torch.is_tensor(value) else values)[f"optimizer.{number}.{name}"] = value
    return tensors, {"values": values, "param_groups": state["param_groups"]}


def unflatten_optimizer(tensors, facts):
    """The inverse of ``flatten_optimizer``; other tensors of the file are left alone."""
    state = {}
    for name, value in [*tensors.items(), *facts["values"].items()]:
        if name.startswith("optimizer."):
            _, number, entry = name.split(".", 2)
            state.setdefault(int(number), {})[entry] = value
    return {"state": state, "param_groups": facts["param_groups"]}
