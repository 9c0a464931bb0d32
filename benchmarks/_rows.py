"""What every benchmark shares: its arguments, its table and its JSON rows."""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One figure: ours beside theirs, and what was asked for (``at_least``; a lower bound on ``ratio`` or ``ours``)."""

    measure: str
    ours: float | None
    theirs: float | None
    at_least: float | None
    unit: str

    @property
    def ratio(self):
        """Ours divided by theirs."""
        return self.ours / self.theirs if self.theirs and self.ours is not None else None


def parser(description):
    """The arguments that every benchmark has."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--json", type=Path, help="write the rows to this file as well")
    return arguments


def show(title, rows, json_file=None):
    """Print the rows as a table and, if asked, write them as JSON."""
    table = Table(title=title)
    for column in ("measure", "ours", "theirs", "ratio", "at least", "unit"):
        table.add_column(column, justify="left" if column in ("measure", "unit") else "right")
    for row in rows:
        table.add_row(
            row.measure, *(_short(v) for v in (row.ours, row.theirs, row.ratio, row.at_least)), row.unit
        )
    Console(width=120).print(table)
    if json_file:
        json_file.write_text(
            json.dumps([asdict(row) | {"ratio": row.ratio} for row in rows], indent=1) + "\n"
        )


def _short(value):
    return "-" if value is None else f"{value:,.4f}" if abs(value) < 10 else f"{value:,.1f}"
