"""Artifacts: one vector per item token, kept on disk with all that made them.

A directory ``<field>@<key>`` with ``vectors.safetensors`` (``vectors`` (N, D), ``present`` (N,)),
``tokens.txt`` (one token a line, row by row) and ``manifest.json``, written last: a manifest means complete.
Rows are found by token and never by number, because RecBole renumbers items at every load.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from recbole_llm.errors import ArtifactError, SettingError
from recbole_llm.text.build import artifact_directory, check_dtype, encode_texts, publish, refuse_unusable
from recbole_llm.text.encoder import Encoder
from recbole_llm.text.manifest import (
    CURE,
    FORMAT,
    MANIFEST,
    check_tokens,
    content_key,
    lines_hash,
    read_files,
)
from recbole_llm.text.readymade import read_vectors
from recbole_llm.text.templates import Template

PADDING = "[PAD]"


@dataclass(frozen=True, eq=False)
class AlignedVectors:
    """Vectors in the order of RecBole's item ids; row 0 is padding, all zeros and not present.

    ``vectors`` is float32 (n_items, D), ``present`` bool (n_items,); absent rows are zeros.
    """

    vectors: np.ndarray
    present: np.ndarray


@dataclass(frozen=True, eq=False)
class Artifact:
    """Tokens, ``vectors`` (N, D) and ``present`` (N,), row by row, and the manifest."""

    directory: Path
    tokens: tuple[str, ...]
    vectors: np.ndarray
    present: np.ndarray
    manifest: dict

    @property
    def fingerprint(self) -> str:
        """The content key, 64 hexadecimal digits: equal keys mean equal vectors; kept in checkpoints."""
        return self.manifest["key"]

    @property
    def dimension(self) -> int:
        """D, the width of a vector."""
        return self.vectors.shape[1]

    @classmethod
    def load(cls, directory: str | Path) -> "Artifact":
        """Read an artifact and check it against its manifest.

        Raises
        ------
        ArtifactError
            If the manifest is missing (the build did not end) or anything differs from it; names what.
        """
        directory = Path(directory)
        manifest, tokens, vectors, present = read_files(directory)
        return cls(directory, tokens, vectors, present, manifest)

    def align(self, id2token: Sequence[str], *, missing: str = "error") -> AlignedVectors:
        """Reorder the rows to RecBole's internal item ids; tokens that the data set lacks are left out.

        Parameters
        ----------
        id2token : sequence of str, length n_items
            ``dataset.field2id_token["item_id"]``; position 0 is ``[PAD]``.
        missing : {"error", "mask"}
            What to do for an item that the artifact does not know. Items it knows to have no text are masked
            in either case.

        Raises
        ------
        ArtifactError
            If ``missing="error"`` and items are unknown (names the first three), or row 0 is not ``[PAD]``.
        """
        if missing not in ("error", "mask"):
            raise SettingError(f"missing is `{missing}`, expected `error` or `mask`")
        names = [str(token) for token in id2token]
        if not names or names[0] != PADDING:
            raise ArtifactError(
                f"item id 0 is `{names[0] if names else ''}`, expected `{PADDING}`: pass all item ids"
            )
        row_of = {token: row for row, token in enumerate(self.tokens)}
        rows = np.array([-1] + [row_of.get(token, -1) for token in names[1:]])
        absent = [token for token, row in zip(names[1:], rows[1:], strict=True) if row < 0]
        if absent and missing == "error":
            made_for, asked = self.manifest["made_from"]["tokens"], lines_hash(sorted(names[1:]))
            raise ArtifactError(
                f"{self.directory} has no vector for {len(absent):,} of {len(names) - 1:,} items, e.g. "
                f"{', '.join(absent[:3])}; it was made for items {made_for[:4]}…, "
                f"this dataset has {asked[:4]}…. {CURE}"
            )
        known = rows >= 0
        vectors = np.zeros((len(names), self.dimension), dtype=np.float32)
        vectors[known] = self.vectors[rows[known]]
        present = np.zeros(len(names), dtype=bool)
        present[known] = self.present[rows[known]]
        return AlignedVectors(vectors, present)


def build_artifact(
    root: str | Path,
    field: str,
    texts: Mapping[str, Sequence[str]],
    encoder: Encoder,
    template: Template,
    dtype: str = "float32",
    show_progress: bool = True,
) -> Artifact:
    """The artifact of one text field: loaded where it is complete, else made, from where a killed run ended.

    Parameters
    ----------
    root : path
        Folder that holds artifacts; made if absent.
    field : str
        Name of the text field, first part of the directory's name.
    texts : mapping of token to texts
        What `templates.field_texts` gives. ``()`` is an item without text; several texts are averaged.
    encoder : Encoder
        Asked once for each distinct text, the longest first; not at all where the artifact is complete.
    template : Template
        What wrote the texts; its name and version enter the key.
    dtype : {"float32", "float16"}
        How vectors are stored.

    Raises
    ------
    ArtifactError
        If no item has text, or a vector is all zeros or not finite; names the first items.
    """
    texts, made_from = _ingredients(field, texts, encoder, template, dtype)
    directory = artifact_directory(root, field, made_from)
    manifest = {
        "field": field,
        "template": asdict(template),
        "made_from": made_from,
        "key": content_key(made_from),
    }

    def make(journal_path):
        return encode_texts(field, texts, encoder, dtype, manifest["key"], journal_path, show_progress)

    publish(directory, list(texts), manifest, make, show_progress)
    return Artifact.load(directory)


def find_artifact(root, field, texts, encoder, template, dtype="float32") -> Artifact | None:
    """What ``build_artifact`` would give if it stands there complete, else None; nothing is encoded or written."""
    directory = artifact_directory(root, field, _ingredients(field, texts, encoder, template, dtype)[1])
    return Artifact.load(directory) if (directory / MANIFEST).exists() else None


def _ingredients(field, texts, encoder, template, dtype):
    """The texts by token, both in order, and all that decides their vectors."""
    check_dtype(dtype)
    tokens = sorted(texts)
    check_tokens(tokens)
    texts = {token: tuple(text for text in texts[token] if text.strip()) for token in tokens}
    if not any(texts.values()):
        raise ArtifactError(
            f"text field `{field}` has no text for any of {len(tokens):,} items; take it out of text_fields"
        )
    return texts, {
        "format": FORMAT,
        "template": {"name": template.name, "version": template.version},
        "texts": lines_hash([token, texts[token]] for token in tokens),
        "tokens": lines_hash(tokens),
        "encoder": encoder.describe(),
        "dtype": dtype,
    }


def import_vectors(
    root: str | Path,
    field: str,
    path: str | Path,
    *,
    token_file: str | Path | None = None,
    token_column: str = "item_id",
    vector_column: str = "vector",
    dtype: str = "float32",
) -> Artifact:
    """The artifact of ready-made vectors, from an image encoder, say: same manifest, same checks.

    Parameters
    ----------
    path : path
        ``.npy`` (N, D), ``.safetensors`` (tensor ``vectors``, or its only one), or ``.parquet``.
    token_file : path, optional
        One item token a line, row by row; by default ``tokens.txt`` beside ``path``, or the metadata
        ``tokens`` (a JSON list) of a safetensors file. Parquet has its tokens in ``token_column``.

    Raises
    ------
    ArtifactError
        If tokens and rows do not match, or a vector is all zeros or not finite; leave such items out instead.
    """
    check_dtype(dtype)
    path = Path(path)
    tokens, vectors = read_vectors(path, token_file, token_column, vector_column)
    order = sorted(range(len(tokens)), key=tokens.__getitem__)
    tokens = [tokens[row] for row in order]
    with np.errstate(over="ignore"):  # too large for float16 becomes infinite, and is refused below
        vectors = vectors[order].astype(dtype)
    refuse_unusable(vectors, tokens, field, path.name)
    source = hashlib.sha256(vectors.tobytes()).hexdigest()
    made_from = {
        "format": FORMAT,
        "template": {"name": "ready-made", "version": 1},
        "texts": source,
        "tokens": lines_hash(tokens),
        "encoder": {"name": "ready-made", "revision": source, "pooling": None, "max_tokens": None},
        "dtype": dtype,
    }
    directory = artifact_directory(root, field, made_from)
    manifest = {"field": field, "source": path.name, "made_from": made_from, "key": content_key(made_from)}
    publish(directory, tokens, manifest, lambda _: (vectors, np.ones(len(tokens), dtype=bool), {}), False)
    return Artifact.load(directory)
