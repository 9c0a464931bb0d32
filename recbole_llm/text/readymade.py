"""Ready-made vectors from npy, safetensors or Parquet, each row with its item token; nothing is unpickled."""

import json
from pathlib import Path

import numpy as np

from recbole_llm.errors import ArtifactError
from recbole_llm.text.manifest import TOKENS, check_tokens


def read_vectors(
    path: Path,
    token_file: str | Path | None = None,
    token_column: str = "item_id",
    vector_column: str = "vector",
) -> tuple[list[str], np.ndarray]:
    """Tokens, and vectors (N, D) float32, row by row.

    Raises
    ------
    ArtifactError
        If the file is of another kind, is not there, holds no (N, D) numbers, or has not one token per row.
    """
    if not path.is_file():
        raise ArtifactError(f"no vectors at {path}; expected a .npy, .safetensors or .parquet file")
    if path.suffix == ".npy":
        tokens, vectors = None, _read_npy(path)
    elif path.suffix == ".safetensors":
        tokens, vectors = _read_safetensors(path)
    elif path.suffix == ".parquet":
        tokens, vectors = _read_parquet(path, token_column, vector_column)
    else:
        raise ArtifactError(f"{path} ends in `{path.suffix}`, expected .npy, .safetensors or .parquet")
    if token_file is not None or tokens is None:
        tokens = _read_tokens(path, Path(token_file) if token_file else path.with_name(TOKENS))
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise ArtifactError(
            f"{path} has shape {vectors.shape} of {vectors.dtype}, expected (items, D) numbers"
        )
    if len(tokens) != len(vectors):
        raise ArtifactError(f"{path} has {len(vectors):,} rows, but there are {len(tokens):,} item tokens")
    check_tokens(tokens)
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, which the caller refuses
        return tokens, vectors.astype(np.float32)


def _read_npy(path):
    try:
        return np.load(path, allow_pickle=False)
    except ValueError as error:
        raise ArtifactError(f"{path} cannot be read ({error}); save plain numbers with numpy.save") from error


def _read_safetensors(path):
    """Tokens of the metadata (or None) and the tensor `vectors`, else the only one; bfloat16 needs torch."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names, metadata = list(file.keys()), file.metadata() or {}
            name = "vectors" if "vectors" in names else names[0]
            if name != "vectors" and len(names) > 1:
                raise ArtifactError(f"{path} has tensors {', '.join(names)}; call the right one `vectors`")
            tokens = json.loads(metadata["tokens"]) if "tokens" in metadata else None
            return tokens, file.get_tensor(name).float().numpy()
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); write it with safetensors") from error


def _read_parquet(path, token_column, vector_column):
    import pyarrow.compute
    import pyarrow.parquet

    names = pyarrow.parquet.read_schema(path).names
    absent = [column for column in (token_column, vector_column) if column not in names]
    if absent:
        raise ArtifactError(
            f"{path} has no column `{absent[0]}`; there are {', '.join(names)}. "
            "Name it by token_column or vector_column"
        )
    table = pyarrow.parquet.read_table(path, columns=[token_column, vector_column])
    tokens, rows = table[token_column], table[vector_column].combine_chunks()
    widths = pyarrow.compute.list_value_length(rows).unique().to_pylist() if _holds_lists(rows.type) else []
    if tokens.null_count or len(widths) != 1 or not widths[0]:
        raise ArtifactError(
            f"{path}: `{vector_column}` is {rows.type} of widths {widths[:3]} and `{token_column}` has "
            f"{tokens.null_count} empty cells; expected lists of one width and a token in every row"
        )
    return [str(token) for token in tokens.to_pylist()], rows.flatten().to_numpy(False).reshape(
        len(rows), widths[0]
    )


def _holds_lists(kind):
    from pyarrow.types import is_fixed_size_list, is_large_list, is_list

    return is_list(kind) or is_large_list(kind) or is_fixed_size_list(kind)


def _read_tokens(path, token_file):
    if not token_file.is_file():
        raise ArtifactError(
            f"{path} has no item tokens: no {token_file}; write one item token a line, row by row"
        )
    text = token_file.read_bytes().decode("utf-8").replace("\r\n", "\n")
    return text.removesuffix("\n").split("\n")
