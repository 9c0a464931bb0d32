"""The content key of an artifact, its hashes and its files.

The key is the SHA-256 of the canonical JSON of all that decides the vectors: template, texts, tokens,
encoder, number format, and the version of this code. Same key, same vectors; any change, another key.
"""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recbole_llm.errors import ArtifactError

FORMAT = 1  # raise it when the same ingredients would give other vectors or another layout on disk
CURE = "Run `recbole-llm embed` again."
MANIFEST, VECTORS, TOKENS = "manifest.json", "vectors.safetensors", "tokens.txt"
FILES = (VECTORS, TOKENS)
_PACKAGES = (
    "recbole-llm",
    "numpy",
    "safetensors",
    "torch",
    "transformers",
    "sentence-transformers",
    "tokenizers",
)


def canonical(value) -> str:
    """JSON with sorted keys and no spaces: one text for one value.

    >>> canonical({"b": 1, "a": [2]})
    '{"a":[2],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_key(made_from: Mapping) -> str:
    """SHA-256 of the canonical JSON of the ingredients.

    >>> content_key({"dtype": "float32"}) == content_key({"dtype": "float16"})
    False
    """
    return hashlib.sha256(canonical(made_from).encode()).hexdigest()


def lines_hash(lines: Iterable) -> str:
    """SHA-256 over JSON lines: of tokens, or of (token, texts) pairs."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(canonical(line).encode() + b"\n")
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that had a hand in the vectors."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def check_tokens(tokens: Sequence[str]):
    """Refuse tokens that cannot stand one a line, or stand twice.

    Raises
    ------
    ArtifactError
        Names the first three.
    """
    broken = [token for token in tokens if not token or any(mark in token for mark in "\n\r\t")]
    if broken:
        raise ArtifactError(
            f"{len(broken):,} item tokens are empty or hold a tab or line break, e.g. "
            f"{', '.join(map(repr, broken[:3]))}; a token is one line of {TOKENS}"
        )
    if len(set(tokens)) < len(tokens):
        seen = set()
        twice = list(dict.fromkeys(token for token in tokens if token in seen or seen.add(token)))
        raise ArtifactError(
            f"{len(twice):,} item tokens stand more than once, e.g. {', '.join(twice[:3])}; keep one"
        )


def write_files(
    directory: Path, tokens: Sequence[str], vectors: np.ndarray, present: np.ndarray, manifest: dict
):
    """Write vectors and tokens, then the manifest: only a directory with a manifest is complete."""
    save_file({"vectors": np.ascontiguousarray(vectors), "present": present}, directory / VECTORS)
    (directory / TOKENS).write_bytes("".join(f"{token}\n" for token in tokens).encode())
    files = {name: {"sha256": file_hash(directory / name)} for name in FILES}
    manifest = {
        "format": FORMAT,
        **manifest,
        "rows": len(tokens),
        "dimension": int(vectors.shape[1]),
        "items_with_text": int(present.sum()),
        "files": files,
        "versions": package_versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for name in files:
        _to_disk(directory / name)
    write_bytes(directory / MANIFEST, f"{json.dumps(manifest, indent=2, sort_keys=True)}\n".encode())


def write_bytes(path: str | Path, content: bytes):
    """Write a file whole: to a temporary name beside it, to the disk, then in one step in the place of ``path``."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_files(directory: Path) -> tuple[dict, tuple[str, ...], np.ndarray, np.ndarray]:
    """Manifest, tokens, vectors (N, D) and present (N,), checked against each other.

    Raises
    ------
    ArtifactError
        If the manifest is missing, or files differ from it; names all that differs.
    """
    cure = f"Remove {directory} and run `recbole-llm embed` again."
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ArtifactError(
                f"{directory} has format {manifest['format']}, this version reads {FORMAT}. {cure}"
            )
        arrays = load_file(directory / VECTORS)
        vectors, present = arrays["vectors"], arrays["present"]
        tokens = tuple((directory / TOKENS).read_bytes().decode().split("\n")[:-1])
        differences = list(_differences(directory, manifest, tokens, vectors, present))
    except FileNotFoundError as error:
        state = "is not complete" if directory.is_dir() else "is not there"
        raise ArtifactError(f"{directory} {state}: no {Path(error.filename).name}. {CURE}") from None
    except (SafetensorError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(
            f"{directory} cannot be read ({type(error).__name__}: {error}). {cure}"
        ) from error
    if differences:
        raise ArtifactError(f"{directory} differs from its manifest: {'; '.join(differences)}. {cure}")
    return manifest, tokens, vectors, present


def _differences(directory, manifest, tokens, vectors, present):
    """One phrase for each thing that is not what the manifest says."""
    made_from, rows = manifest["made_from"], manifest["rows"]
    said_and_found = {
        "key": (manifest["key"], content_key(made_from)),
        "shape of vectors": ([rows, manifest["dimension"]], list(vectors.shape)),
        "dtype of vectors": (made_from["dtype"], str(vectors.dtype)),
        "shape of present": ([rows], list(present.shape)),
        "dtype of present": ("bool", str(present.dtype)),
        "items with text": (manifest["items_with_text"], int(present.sum())),
        "number of tokens": (rows, len(tokens)),
        "hash of tokens": (made_from["tokens"], lines_hash(sorted(tokens))),
        **{
            f"hash of {name}": (manifest["files"][name]["sha256"], file_hash(directory / name))
            for name in FILES
        },
    }
    for name, (said, found) in said_and_found.items():
        if said != found:
            yield f"{name} is {_short(found)}, expected {_short(said)}"


def _short(value):
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else value


def _to_disk(path):
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
