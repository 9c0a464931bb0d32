"""Texts to vectors to an artifact on disk, so that no accident costs more than one batch.

Each distinct text is encoded once, the longest first: batches of like length, and memory runs out at once or
never. Finished batches stand in a journal; the artifact is put together beside its place and renamed into it.
Builders of one artifact take turns by a lock, and the second finds the work done.
"""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from recbole_llm.errors import ArtifactError, SettingError
from recbole_llm.text.encoder import Encoder
from recbole_llm.text.journal import Journal
from recbole_llm.text.manifest import MANIFEST, content_key, write_files

DTYPES = ("float32", "float16")


def check_dtype(dtype: str):
    """Refuse a storage type that artifacts do not have."""
    if dtype not in DTYPES:
        raise SettingError(f"dtype of an artifact is `{dtype}`, expected one of {', '.join(DTYPES)}")


def artifact_directory(root: str | Path, field: str, made_from: Mapping) -> Path:
    """``<root>/<field>@<first 12 digits of the content key>``."""
    name = re.sub(r"[^\w.-]+", "_", field)
    return Path(root) / f"{name}@{content_key(made_from)[:12]}"


def publish(directory: Path, tokens: Sequence[str], manifest: dict, make: Callable, show_progress: bool):
    """Make the artifact unless it stands there complete; it appears at ``directory`` whole or not at all.

    Parameters
    ----------
    make : function of the journal's path
        Gives vectors (N, D), present (N,) and what to add to the manifest; called only when needed.
    """
    if (directory / MANIFEST).exists():
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    journal, staging = (directory.with_name(f".{directory.name}.{part}") for part in ("journal", "staging"))
    with _turn(directory, show_progress):
        if (directory / MANIFEST).exists():
            return
        vectors, present, figures = make(journal)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        write_files(staging, tokens, vectors, present, manifest | figures)
        if directory.exists():  # a copy without manifest, left by hand: of no use to anybody
            shutil.rmtree(directory)
        os.replace(staging, directory)
        journal.unlink(missing_ok=True)


def encode_texts(
    field: str,
    texts: Mapping[str, tuple[str, ...]],
    encoder: Encoder,
    dtype: str,
    key: str,
    journal_path: Path,
    show_progress: bool,
) -> tuple[np.ndarray, np.ndarray, dict]:
    """Vectors (N, D) and present (N,) in the order of ``texts``, and figures of the run.

    Raises
    ------
    ArtifactError
        If a vector is all zeros or not finite; nothing of its batch is kept.
    """
    distinct = sorted(
        {text for several in texts.values() for text in several}, key=lambda text: (-len(text), text)
    )
    started = time.perf_counter()
    read_before, unknown_before = _counted(encoder, "tokens_read"), _counted(encoder, "tokens_unknown")
    with (
        Journal(journal_path, key) as journal,
        _progress(field, len(journal), len(distinct), show_progress) as advance,
    ):
        resumed = len(journal)
        for first in range(resumed, len(distinct), encoder.batch_size):
            batch = distinct[first : first + encoder.batch_size]
            vectors = np.asarray(encoder.encode(batch), dtype=np.float32)
            width = journal.batches[0].shape[1] if journal.batches else vectors.shape[-1]
            if vectors.shape != (len(batch), width):
                raise ArtifactError(
                    f"{encoder.name} gave shape {vectors.shape}, expected {(len(batch), width)}"
                )
            refuse_unusable(vectors, _tokens_of(batch, texts), field, encoder.name)
            journal.append(vectors)
            advance(len(batch))
        encoded = np.concatenate(journal.batches)
    seconds = time.perf_counter() - started
    vectors, present = _rows(texts, distinct, encoded)
    with np.errstate(over="ignore"):  # too large for float16 becomes infinite, and is refused here
        vectors = vectors.astype(dtype)
    refuse_unusable(vectors[present], [token for token in texts if texts[token]], field, encoder.name)
    figures = {
        "distinct_texts": len(distinct),
        "resumed_texts": resumed,
        "seconds": round(seconds, 3),
        "texts_per_second": round((len(distinct) - resumed) / seconds, 1),
    }
    if read := _counted(encoder, "tokens_read") - read_before:  # a server does not tell
        figures["unknown_tokens"] = round((_counted(encoder, "tokens_unknown") - unknown_before) / read, 4)
    return vectors, present, figures


def _counted(encoder, what):
    return getattr(encoder, what, 0)


def refuse_unusable(vectors: np.ndarray, tokens: Sequence[str], field: str, maker: str):
    """Raise ArtifactError if a row is all zeros or holds NaN or infinity; names the first three tokens."""
    infinite = ~np.isfinite(vectors).all(axis=1)
    zero = ~vectors.any(axis=1)
    bad = np.flatnonzero(infinite | zero)
    if len(bad):
        raise ArtifactError(
            f"{maker} gave {len(bad):,} unusable vectors for field `{field}` ({infinite.sum():,} not finite, "
            f"{zero.sum():,} all zeros), e.g. of items {', '.join(tokens[row] for row in bad[:3])}; "
            "use float32, another encoder, or leave these items out"
        )


def _rows(texts, distinct, encoded):
    """One row per token: the vector of its text, or the mean over its texts; zeros where it has none."""
    place = {text: number for number, text in enumerate(distinct)}
    vectors = np.zeros((len(texts), encoded.shape[1]), dtype=np.float32)
    present = np.zeros(len(texts), dtype=bool)
    for row, several in enumerate(texts.values()):
        if several:
            vectors[row] = encoded[[place[text] for text in several]].mean(axis=0)
            present[row] = True
    return vectors, present


def _tokens_of(batch, texts):
    """For each text of a batch the first token that has it, for messages."""
    wanted = set(batch)
    found = {}
    for token, several in texts.items():
        for text in wanted.intersection(several):
            found.setdefault(text, token)
    return [found[text] for text in batch]


@contextlib.contextmanager
def _turn(directory, show_progress):
    """Hold the lock of one artifact; the system lets go of it when a process dies."""
    from filelock import FileLock, Timeout  # stands wherever torch does

    lock = FileLock(directory.with_name(f".{directory.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if show_progress:
            print(f"waiting for another process that makes {directory}", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _progress(field, done, total, show_progress):
    """A function to call with the number of texts just encoded; it draws rate and time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("embedding [bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("texts, {task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=Console(stderr=True),
        disable=not show_progress,
    ) as progress:
        task = progress.add_task(field, total=total, completed=done, rate="")
        started = time.perf_counter()
        encoded = 0

        def advance(number):
            nonlocal encoded
            encoded += number
            rate = encoded / max(time.perf_counter() - started, 1e-9)
            progress.update(task, advance=number, rate=f"{rate:,.0f} a second,")

        yield advance
