"""Every answer of a language model in one SQLite file, stored as it arrives; a question is asked once.

The key of an answer is the hash of all that it depends on: backend and revision, template and version, every field of
the request. Many processes may read and write at once (write-ahead log); values are JSON.
"""

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from recbole_llm.errors import ArtifactError
from recbole_llm.llm.backend import LENGTH, STOP, Answer, Backend, Request

WAIT = 60.0  # seconds that a writer waits for the others
TABLE = """
create table if not exists answers (
    key text primary key, backend text not null, revision text not null, template text not null,
    request text not null, answer text not null, asked_at real not null
) without rowid
"""


COLUMNS = "key, backend, revision, template, request, answer, asked_at"
INSERT = "insert or ignore into answers values (?, ?, ?, ?, ?, ?, ?)"


def key_of(backend: str, revision: str, template: str, request: Request) -> str:
    """SHA-256 of the canonical JSON of all that an answer depends on.

    >>> one, other = Request("x"), Request("x", max_tokens=9)
    >>> key_of("m", "1", "t@1", one) == key_of("m", "1", "t@1", other)
    False
    """
    asked = {"backend": backend, "revision": revision, "template": template, "request": request.question()}
    return hashlib.sha256(json.dumps(asked, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Cache:
    """The answers in the file ``path``; it is made where there is none.

    Attributes
    ----------
    damaged : Path or None
        Where a file that could not be read was moved to.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.parent.is_dir():
            self.path.parent.mkdir(parents=True, mode=0o700)
        self.damaged = None
        try:
            self._file = self._opened()
        except sqlite3.DatabaseError as error:
            if isinstance(
                error, sqlite3.OperationalError
            ):  # it is locked, or may not be written: it is no damage
                raise ArtifactError(
                    f"the cache {self.path} cannot be opened ({error}); give another path"
                ) from error
            self.damaged = self.path.with_name(f"{self.path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
            os.replace(self.path, self.damaged)
            for leftover in ("-wal", "-shm"):
                Path(f"{self.path}{leftover}").unlink(missing_ok=True)
            self._file = self._opened()

    def _opened(self):
        is_new = not self.path.exists()
        file = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)
        try:
            if is_new:
                os.chmod(self.path, 0o600)
            file.execute("pragma journal_mode = wal")
            if file.execute("pragma quick_check").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("the file fails SQLite's own check")
            file.execute(TABLE)
        except sqlite3.DatabaseError:
            file.close()
            raise
        return file

    def rows(self, query: str, values: Sequence = ()) -> Iterator[tuple]:
        """What a query finds, row by row."""
        yield from self._file.execute(query, values)

    def add(self, rows: Sequence[tuple]) -> int:
        """Store rows of all ``COLUMNS``, all or none; one whose key is known is left out. Returns how many are new."""
        before = len(self)
        with self._file:
            self._file.execute("begin immediate")
            self._file.executemany(INSERT, rows)
        return len(self) - before

    def remove(self, condition: str, values: Sequence) -> int:
        """Remove the rows that meet a condition, and give their room back; returns how many."""
        removed = self._file.execute(f"delete from answers where {condition}", values).rowcount
        self._file.execute("vacuum")
        return removed

    def close(self):
        """Close the file; what was stored is on disk already."""
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __len__(self):
        return self._file.execute("select count(*) from answers").fetchone()[0]

    def complete(
        self, requests: Sequence[Request], backend: Backend, template: str
    ) -> Iterator[tuple[int, Answer]]:
        """Yield ``(number of the request, its answer)``: the known ones, then those that the backend is asked for.

        Equal requests are asked for once. An answer is stored before it is yielded; one without a text, because the
        model refused, is not kept. What does not answer by prompts is merely passed on.
        """
        if not backend.by_prompt:
            yield from backend.complete(requests)
            return
        keys = [key_of(backend.name, backend.revision, template, request) for request in requests]
        numbers: dict[str, list[int]] = {}
        for number, key in enumerate(keys):
            known = self.find(key)
            if known is not None:
                yield number, known
            else:
                numbers.setdefault(key, []).append(number)
        waiting = [requests[same[0]] for same in numbers.values()]
        places = list(numbers.items())
        for place, answer in backend.complete(waiting):
            key, same = places[place]
            if answer.finish in (STOP, LENGTH):
                self._store(key, backend, template, waiting[place], answer)
            for number in same:
                yield number, answer

    def known(self, requests: Sequence[Request], backend: Backend, template: str) -> int:
        """How many distinct ones of these requests are answered already."""
        keys = {key_of(backend.name, backend.revision, template, request) for request in requests}
        return sum(self.find(key) is not None for key in keys)

    def find(self, key: str) -> Answer | None:
        """The answer of a key, or None."""
        row = self._file.execute("select answer from answers where key = ?", (key,)).fetchone()
        return Answer(**json.loads(row[0])) if row else None

    def _store(self, key, backend, template, request, answer):
        row = (
            key,
            backend.name,
            backend.revision,
            template,
            json.dumps(request.question()),
            json.dumps(asdict(answer)),
        )
        self._file.execute(INSERT, (*row, time.time()))
