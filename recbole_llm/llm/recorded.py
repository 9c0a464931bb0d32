"""Answers that another program has: a file with an answer for each item or user, such as published LLM outputs."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from recbole_llm.errors import BackendError
from recbole_llm.llm.answers import written
from recbole_llm.llm.backend import ABSENT, STOP, Answer, Request


class RecordedBackend:
    """Answers by what a request is about, whatever it asks.

    Parameters
    ----------
    path : path
        ``.json`` with an object (token -> answer) or a list of objects, ``.jsonl`` or ``.csv``, in UTF-8.
    key, answer : str, optional
        The columns of tokens and of answers; the first and the last where they are not named.
    said_by : str, optional
        The model that the answers are of, as far as it is known.

    Raises
    ------
    BackendError
        If the file cannot be read, lacks a column, or answers twice for one token.
    """

    is_llm, by_prompt = True, False

    def __init__(self, path: str | Path, key=None, answer=None, said_by=None):
        path = Path(path)
        if not path.is_file():
            raise BackendError(f"no file {path}; give the recorded answers as .json, .jsonl or .csv")
        content = path.read_bytes()
        self.name = f"{said_by or 'an unnamed model'}, recorded in {path.name}"
        self.revision = hashlib.sha256(content).hexdigest()
        self.answers = {}
        for token, text in _pairs(path, content, key, answer):
            if token in self.answers:
                raise BackendError(
                    f"{path} has two answers for `{token}`; keep one for each, or name other columns"
                )
            self.answers[token] = text

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answers in the order of the requests; ``absent`` where the file has none."""
        for number, request in enumerate(requests):
            text = self.answers.get(request.about, "")
            if text.strip():
                yield number, Answer(written(text, request.schema), 0, 0, STOP)
            else:
                yield number, Answer("", 0, 0, ABSENT)


def _pairs(path, content, key, answer):
    """(token, text) of every answer."""
    try:
        rows = _rows(path, content.decode("utf-8"))
    except (ValueError, RecursionError, csv.Error) as error:
        raise BackendError(f"{path} cannot be read: {error}") from error
    if isinstance(rows, dict):
        yield from ((token, _text(text)) for token, text in rows.items())
        return
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not row:
            raise BackendError(f"{path}: row {number} is no object with columns, found {str(row)[:40]}")
        columns = list(row)
        names = key or columns[0], answer or columns[-1]
        missing = [name for name in names if name not in row]
        if missing:
            raise BackendError(
                f"{path}: row {number} has no column {', '.join(missing)}; there are {', '.join(columns)}"
            )
        yield str(row[names[0]]), _text(row[names[1]])


def _rows(path, text):
    match path.suffix:
        case ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        case ".csv":
            return list(csv.DictReader(io.StringIO(text), strict=True))
        case ".json":
            return json.loads(text)
    raise ValueError(f"its name ends in `{path.suffix}`, expected .json, .jsonl or .csv")


def _text(value):
    """A list of words with commas between, other values as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ", ".join(value)
    return "" if value is None else json.dumps(value, ensure_ascii=False)
