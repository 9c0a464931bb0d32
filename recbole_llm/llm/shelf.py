"""What is done with a whole cache: counted, carried to another machine, brought in, and thinned out."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

from recbole_llm.errors import ArtifactError
from recbole_llm.llm.backend import Answer, Request
from recbole_llm.llm.cache import COLUMNS, Cache, key_of

DAY = 86_400.0  # seconds


def counts(cache: Cache) -> Iterator[tuple[str, str, str, int, int, int]]:
    """(backend, revision, template, answers, tokens read, tokens written), the backends in order."""
    yield from cache.rows(
        "select backend, revision, template, count(*), sum(json_extract(answer, '$.prompt_tokens')), "
        "sum(json_extract(answer, '$.answer_tokens')) from answers group by 1, 2, 3 order by 1, 2, 3"
    )


def export(cache: Cache, path: str | Path) -> int:
    """Write every answer as a JSON line, in the order of their keys; returns how many."""
    path, rows = Path(path), cache.rows(f"select {COLUMNS} from answers order by key")
    partial = path.with_name(f"{path.name}.partial")
    with open(partial, "w", encoding="utf-8") as file:
        lines = (json.dumps(dict(zip(COLUMNS.split(", "), row, strict=True))) + "\n" for row in rows)
        number = sum(1 for line in lines if file.write(line))
    partial.replace(path)
    return number


def bring_in(cache: Cache, path: str | Path) -> tuple[int, int]:
    """Add the answers of an exported file that are not known yet; returns how many, and how many there were.

    Raises
    ------
    ArtifactError
        If a line is not what ``export`` writes, or its key is not that of its question; nothing is added then.
    """
    path, rows = Path(path), []
    if not path.is_file():
        raise ArtifactError(f"no file {path}; give one that `recbole-llm cache export` wrote")
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                request = Request.of(json.loads(row["request"]))
                Answer(**json.loads(row["answer"]))  # a field too few or too many is a TypeError
                if row["key"] != key_of(row["backend"], row["revision"], row["template"], request):
                    raise ValueError("its key is not that of its question")
                rows.append(tuple(row[column] for column in COLUMNS.split(", ")))
            except (KeyError, TypeError, ValueError) as error:
                raise ArtifactError(
                    f"{path}: line {number} is no answer ({type(error).__name__}: {error}); nothing was brought in"
                ) from error
    return cache.add(rows), len(rows)


def prune(cache: Cache, older_than_days: float | None = None, backend: str | None = None) -> int:
    """Remove answers that are so old, or of this backend, or both where both are named; returns how many."""
    conditions, values = [], []
    if older_than_days is not None:
        conditions.append("asked_at < ?")
        values.append(time.time() - older_than_days * DAY)
    if backend is not None:
        conditions.append("backend = ?")
        values.append(backend)
    return cache.remove(" and ".join(conditions) or "0", values)
