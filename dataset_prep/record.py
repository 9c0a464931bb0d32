"""What was read, dropped and why: shown on the screen and kept in ``prep.json`` beside the data.

``prep.json`` is written last: where it stands and its hashes agree, the data set is complete.
"""

import hashlib
import json
import os
import shlex
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.table import Table
from rich.text import Text

from dataset_prep.errors import PrepError
from dataset_prep.screen import console

PREP_FILE = "prep.json"


@dataclass
class Record:
    """One preparation, from its settings to its outputs.

    ``settings`` must be plain JSON: the data are prepared again when they change.
    """

    name: str
    settings: dict
    inputs: list = field(default_factory=list)
    steps: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    cleaned: dict = field(default_factory=dict)
    outputs: list = field(default_factory=list)

    def read(self, path, rows):
        """Note an input file and what was read of it (``rows``: part of the file -> how many rows)."""
        path = Path(path).resolve()
        known = next((entry for entry in self.inputs if entry["file"] == str(path)), None)
        if known:  # another member of the same zip
            known["rows"] |= rows
            return
        entry = {"file": str(path), "bytes": path.stat().st_size, "sha256": file_hash(path), "rows": rows}
        self.inputs.append(entry)

    def step(self, what, before, after, why, **detail):
        """Note a filter: how many rows went in and came out, and the reason."""
        self.steps.append({"step": what, "before": before, "after": after, "why": why, **detail})

    def note(self, text):
        """Note something that dropped no row."""
        self.notes.append(text)

    def wrote(self, path, rows, columns):
        """Note an output file with its typed columns."""
        self.outputs.append(
            {
                "file": path.name,
                "bytes": path.stat().st_size,
                "sha256": file_hash(path),
                "rows": rows,
                "columns": columns,
            }
        )

    def finish(self, directory):
        """Print the record and write it as ``prep.json``, the last file of the data set."""
        content = {**asdict(self), "command": shlex.join(sys.argv)}
        with replacing(Path(directory) / PREP_FILE) as file:
            file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
        self.show()

    def show(self):
        """Print what was read, dropped, cleaned and written."""
        rows = [
            ("read", part, f"{count:,} rows", "")
            for entry in self.inputs
            for part, count in entry["rows"].items()
        ]
        for step in self.steps:
            dropped = f"{step['before'] - step['after']:,} of {step['before']:,}"
            rows.append(("dropped", step["step"], dropped, step["why"]))
        for column, count in self.cleaned.items():
            rows.append(("cleaned", column, f"{count:,} cells", "spaces, line breaks, leading double quotes"))
        for entry in self.outputs:
            rows.append(("wrote", entry["file"], f"{entry['rows']:,} rows", " ".join(entry["columns"])))
        grid = Table.grid(padding=(0, 2))
        for row in rows:
            grid.add_row(*map(Text, row))  # Text: a file name may hold [brackets], which rich reads as markup
        console.print(Text(self.name, style="bold"), grid, sep="\n")
        for text in self.notes:
            console.print(f"note: {text}", markup=False)


class replacing:  # noqa: N801 - reads as a word in ``with replacing(path) as file``
    """A binary file that takes the place of ``path`` only when it is whole and has reached the disk."""

    def __init__(self, path):
        self.path = Path(path)
        self.temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")

    def __enter__(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(self.temporary, "wb")
        return self.file

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.file.flush()
            os.fsync(self.file.fileno())
        self.file.close()
        if kind is None:
            os.replace(self.temporary, self.path)
        else:
            self.temporary.unlink()


def file_hash(path, algorithm="sha256"):
    """Hexadecimal digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def own_state_of(directory, name, settings):
    """``state_of`` a data set that is to be written there.

    Raises
    ------
    PrepError
        Where a foreign one stands, too.
    """
    state = state_of(directory, name, settings)
    if state == "foreign":
        raise PrepError(
            f"{directory} holds atomic files that dataset_prep did not write; choose another name"
        )
    return state


def state_of(directory, name, settings, raw_path=None):
    """What stands at ``directory``: ``absent``, ``foreign``, ``stale`` or ``ready``.

    ``foreign``: atomic files that this package did not write. ``stale``: written by it, but with other
    settings, from inputs that have changed since, or not from ``raw_path`` (when one is given). ``ready``:
    nothing is to be done. ``settings`` None agrees with any.

    Raises
    ------
    PrepError
        If the files are not those that ``prep.json`` speaks of; nothing of the user's is overwritten.
    """
    directory = Path(directory)
    if not (directory / f"{name}.inter").exists():
        return "absent"
    if not (directory / PREP_FILE).exists():
        return "foreign"
    try:
        prep = json.loads((directory / PREP_FILE).read_text(encoding="utf-8"))
        outputs, inputs, before = prep["outputs"], prep["inputs"], prep["settings"]
    except (json.JSONDecodeError, KeyError) as error:
        raise PrepError(f"{directory / PREP_FILE} cannot be read ({error!r}); {_CURE}") from error
    for entry in outputs:
        path = directory / entry["file"]
        if not path.exists() or path.stat().st_size != entry["bytes"] or file_hash(path) != entry["sha256"]:
            raise PrepError(
                f"{path} is not the file that was prepared (sha256 {entry['sha256'][:12]}…); {_CURE}"
            )
    files = {Path(entry["file"]): entry["bytes"] for entry in inputs}
    changed = any(path.exists() and path.stat().st_size != size for path, size in files.items())
    elsewhere = raw_path is not None and not any(
        path.is_relative_to(Path(raw_path).resolve()) for path in files
    )
    return "stale" if changed or elsewhere or settings not in (None, before) else "ready"


_CURE = f"delete the folder to prepare it again, or delete {PREP_FILE} to use the files as they are"
