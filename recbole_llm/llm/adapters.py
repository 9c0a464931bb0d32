"""Adapters on disk: what was learned, and for which model; they go with no other.

Safetensors and a manifest, which is written last; a pickle is never read.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_llm.errors import ArtifactError, SettingError
from recbole_llm.llm.load import kind_of, load
from recbole_llm.llm.lora import Attached, Lora, attach, attached, detach, trained
from recbole_llm.text.location import Location
from recbole_llm.text.manifest import MANIFEST, content_key, package_versions, write_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FORMAT = "recbole-llm lora 1"
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


def save(model: PreTrainedModel, folder: str | Path, base: Location):
    """Keep what was learned, and for which model: safetensors first, the manifest last.

    The tensors' file is named by its hash, so that what an earlier call kept stays good until the new manifest stands.

    Raises
    ------
    SettingError
        If the model carries no adapters, or ``folder`` is inside the model's own.
    """
    from safetensors.torch import save as to_bytes

    held, folder = attached(model), Path(folder)
    if folder.resolve().is_relative_to(base.folder.resolve()):
        raise SettingError(
            f"{folder} is inside the folder of {base.name}, whose hash would change with it; take another"
        )
    # clones, because safetensors refuses tensors that share memory
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in trained(model).items()}
    data = to_bytes(tensors)
    made_of = {
        "settings": asdict(held.lora),
        "base": {"name": base.name, "revision": base.revision, "kind": kind_of(model)},
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    manifest = {
        "format": FORMAT,
        "key": content_key(made_of),
        "made_of": made_of,
        "versions": package_versions() | {"peft": importlib.metadata.version("peft")},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / _tensors_name(made_of), data)
    write_bytes(folder / MANIFEST, f"{json.dumps(manifest, indent=2, sort_keys=True)}\n".encode())
    for path in folder.glob("adapters-*.safetensors"):
        if path.name != _tensors_name(made_of):
            path.unlink(missing_ok=True)


def restore(
    base: Location,
    folder: str | Path,
    model: PreTrainedModel | None = None,
    *,
    device="cpu",
    compute_dtype="float32",
) -> PreTrainedModel:
    """The model with the adapters that `save` kept in ``folder``.

    Parameters
    ----------
    base : Location
        The model that they go with.
    model : transformers.PreTrainedModel, optional
        ``base`` as it is loaded already, with adapters of the same kind or with none; changed in place, though an
        error leaves it what it says. Without it, ``base`` is loaded.
    device, compute_dtype
        As for `load`.

    Raises
    ------
    ArtifactError
        If there is nothing whole in ``folder``, it was made for another base, or it has another rank, alpha or targets
        than the adapters of ``model``.
    """
    import torch

    folder = Path(folder)
    made_of, lora, tensors = _read(folder)
    said = made_of["base"]
    if said["revision"] != base.revision:
        raise ArtifactError(
            f"the adapters in {folder} were made for {said['name']} at {said['revision']}, this is {base.name} at "
            f"{base.revision}; take that model, or train them again"
        )
    model = load(base, said["kind"], device=device, compute_dtype=compute_dtype) if model is None else model
    is_fresh = not hasattr(model, "_lora")
    if is_fresh:
        try:
            attach(model, lora)
        except SettingError as error:
            raise ArtifactError(f"{folder} does not fit a {type(model).__name__}: {error}") from None
    if misfit := _misfit(model, lora, tensors):
        if is_fresh:
            detach(model)
        raise ArtifactError(f"{folder} {misfit}")
    with torch.no_grad():
        for name, parameter in trained(model).items():
            parameter.copy_(tensors[name])
    return model


def _misfit(model, lora, tensors):
    """In words, why the tensors do not go into the adapters of the model; None when they do."""
    held = model._lora
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    expected = {name: tuple(parameter.shape) for name, parameter in trained(model).items()}
    if found == expected and lora.alpha == held.lora.alpha:
        return None
    odd = next((name for name in {**expected, **found} if found.get(name) != expected.get(name)), None)
    what = f"{odd} of shape {found.get(odd)}, expected {expected.get(odd)}" if odd else "another alpha"
    layers = tuple(name.removesuffix(".lora_A.weight") for name in found if name.endswith(".lora_A.weight"))
    return (
        f"holds adapters of {Attached(lora, layers)}, the model has {held}: {what}. Give a model without adapters, or "
        "attach the same"
    )


def _read(folder):
    """What the manifest says the tensors are made of, their settings, and they themselves; checked by their hash.

    Raises
    ------
    ArtifactError
        If something is missing, differs from the manifest, or is a pickle.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    cure = "Train the adapters again, or take another copy"
    if not (folder / MANIFEST).is_file():
        files = sorted(folder.iterdir()) if folder.is_dir() else [folder]
        pickles = [path.name for path in files if path.suffix in _PICKLES]
        if pickles:
            raise ArtifactError(
                f"{folder} has adapters in a pickle ({pickles[0]}), which runs code when it is read, so it is not "
                f"read. {cure} that `recbole_llm.llm.adapters.save` wrote"
            )
        state = "is not complete" if folder.is_dir() else "is not there"
        raise ArtifactError(f"{folder} {state}: no {MANIFEST}. {cure}")
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ArtifactError(f"{folder} has format {manifest['format']!r}, expected {FORMAT!r}. {cure}")
        made_of = manifest["made_of"]
        data = (folder / _tensors_name(made_of)).read_bytes()
        if manifest["key"] != content_key(made_of) or hashlib.sha256(data).hexdigest() != made_of["sha256"]:
            raise ArtifactError(f"{folder} is damaged: a hash differs from its manifest. {cure}")
        return made_of, Lora(**made_of["settings"]), from_bytes(data)
    except FileNotFoundError as error:
        raise ArtifactError(f"{folder} is not complete: no {Path(error.filename).name}. {cure}") from None
    except (SafetensorError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{folder} cannot be read ({type(error).__name__}: {error}). {cure}") from error


def _tensors_name(made_of):
    return f"adapters-{made_of['sha256'][:16]}.safetensors"
