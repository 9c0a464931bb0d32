"""Where a number comes from: versions, data, texts, seed, commit and machine; and files that are whole or absent.

The environment is never read: keys and tokens live there, and no manifest shall hold one.
"""

import json
import math
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from .. import __version__
from ..errors import DataError
from ..text.manifest import file_hash, write_bytes

LOADED = datetime.now(UTC)  # what stands for the start of a run whose start is not given
PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "recbole",
    "transformers",
    "sentence-transformers",
    "tokenizers",
    "safetensors",
)
HOME = Path(__file__).resolve().parents[2]
CODE = ("recbole_llm", "dataset_prep", "properties")


def manifest_of(config, outcomes, started=None):
    """All that decides the numbers of ``outcomes`` besides the settings, as a plain dict.

    Parameters
    ----------
    config : mapping
        The run's configuration; ``dataset``, ``data_path``, ``seed`` and ``device`` are read.
    outcomes : sequence
        ``name`` and ``texts`` (field -> manifest of its artifact) of each are read.
    started : datetime, optional
        When the run began; by default when this process loaded the package.
    """
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "device": device_name(config["device"]),
        "threads": torch.get_num_threads(),
        "dataset": {"name": config["dataset"], "files": data_files(config["data_path"], config["dataset"])},
        "texts": {outcome.name: outcome.texts for outcome in outcomes if outcome.texts},
        "seed": config["seed"],
        "git": commit(HOME),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": (started or LOADED).astimezone(UTC).isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def versions():
    """Versions of Python, of this package and of what it stands on; what is not installed is left out."""
    found = {"python": platform.python_version(), "recbole-llm": __version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def device_name(device):
    """``cpu``, or the device with the name of its GPU."""
    device = torch.device(device)
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def data_files(folder, dataset):
    """Name -> size in bytes and SHA-256 of the interaction and item files of a data set."""
    own = [path for path in sorted(Path(folder).iterdir()) if path.name.startswith(f"{dataset}.")]
    states = {path: path.stat() for path in own if path.suffix in (".inter", ".item")}
    return {
        path.name: {"bytes": state.st_size, "sha256": _hash(path, state.st_size, state.st_mtime_ns)}
        for path, state in states.items()
    }


@lru_cache(maxsize=64)
def _hash(path, size, time):
    """The hash of a file of this size and time: a study asks for the same files before each of its trainings."""
    return file_hash(path)


def changed_files(before, now):
    """A phrase for each file whose content is not the same in two results of ``data_files``."""

    def told(files, name):
        return f"{files[name]['sha256'][:12]}…" if name in files else "absent"

    found = {name: (told(before, name), told(now, name)) for name in sorted({*before, *now})}
    return [f"{name} was {old}, now {new}" for name, (old, new) in found.items() if old != new]


def commit(home):
    """The commit of the code in ``home`` and whether the code differs from it; None where git does not track it."""

    def git(*words):
        return subprocess.run(
            ["git", "-C", str(home), *words], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "recbole_llm/__init__.py")  # an environment inside another project
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", *CODE))}
    except (OSError, subprocess.SubprocessError):
        return None


def write_json(path, value):
    """Write ``value`` as JSON, whole or not at all; NumPy's scalars and arrays and paths are taken as what they hold.

    Raises
    ------
    DataError
        If a number is not finite or a value has no JSON form; names its place.
    """
    text = json.dumps(_plain(value, Path(path).name), indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def _plain(value, place):
    """``value`` of plain types only; ``place`` says where it stands."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(inner, f"{place}: {key}") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, f"{place}: {number}") for number, inner in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(
            f"{place} is {value}, expected a finite number; look for a loss or score that diverged"
        )
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Path):
        return str(value)
    raise DataError(f"{place} is a {type(value).__name__}, expected text, number, list or dict")
