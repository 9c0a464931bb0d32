"""RecBole's atomic files: tab separated text whose header types each column (``user_id:token``).

https://recbole.io/docs/user_guide/data/atomic_files.html; ours are UTF-8 with LF, without quoting, with
unique ids, and interactions stand grouped by user in chronological order.
"""

import json
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from dataset_prep.cells import TYPES, clean_text, float_cells, float_seq_cells, id_cells, text_cells
from dataset_prep.check import check_atomic
from dataset_prep.errors import PrepError
from dataset_prep.filters import chronological, first_of_each_pair, k_core
from dataset_prep.record import PREP_FILE, Record, own_state_of, replacing, state_of
from dataset_prep.screen import counting_bar

__all__ = [
    "PrepError", "Record", "check_atomic", "chronological", "clean_text", "first_of_each_pair", "k_core",
    "own_state_of", "state_of", "write_atomic",
]  # fmt: skip

KNOWN_TYPES = {"user_id": "token", "item_id": "token", "timestamp": "float", "rating": "float"}
_ROWS_AT_ONCE = 100_000


NEEDED = {  # the columns that a file of each suffix has at least
    "inter": ["user_id", "item_id"],
    "item": ["item_id"],
    "user": ["user_id"],
    "kg": ["head_id", "relation_id", "tail_id"],
    "link": ["item_id", "entity_id"],
}


def write_atomic(directory, name, inter, item=None, user=None, types=None, record=None, graph=None):
    """Write ``<name>.inter`` and, where given, ``.item``, ``.user``, ``.kg`` and ``.link`` to ``directory``.

    All files are written under temporary names first and renamed together, ``.inter`` last: where
    ``.inter`` stands, the others are complete.

    Parameters
    ----------
    directory : path
    name : str
        The data set's name.
    inter : DataFrame
        Columns ``user_id``, ``item_id`` and as a rule ``timestamp`` (never float32: it rounds Unix seconds
        to 64 s or more). Written grouped by user, oldest first, by a stable sort.
    item, user : DataFrame, optional
        One row per ``item_id`` or ``user_id``.
    types : dict of str to str, optional
        Column -> token, token_seq, float or float_seq. ``user_id``, ``item_id``, ``timestamp`` and
        ``rating`` are known.
    record : Record, optional
        Takes note of what was cleaned and written.
    graph : dict of str to DataFrame, optional
        A knowledge graph: ``kg`` has its triples, ``link`` the entity of each item; all columns are tokens.

    Returns
    -------
    Path
        ``directory``.

    Raises
    ------
    PrepError
        For an empty table, a missing column or type, a repeated or empty id, text in a column of numbers.
    """
    directory, types = Path(directory), KNOWN_TYPES | (types or {})
    tables = {"inter": inter, "item": item, "user": user, **(graph or {})}
    types |= dict.fromkeys(chain(*(graph or {}).values()), "token")
    tables = {suffix: table for suffix, table in tables.items() if table is not None}
    for suffix, table in tables.items():
        _check_table(table, suffix, types, where=f"{name}.{suffix}")
    if "timestamp" in inter:
        tables["inter"] = chronological(inter)
    cleaned = dict.fromkeys(chain(*tables.values()), 0)
    with ExitStack() as renamed_in_reverse:  # .inter is opened first, so it is renamed last
        for suffix, table in tables.items():
            file = renamed_in_reverse.enter_context(replacing(directory / f"{name}.{suffix}"))
            _write_table(file, table, types, f"{name}.{suffix}", cleaned)
        _retire(directory)
    if record is not None:
        record.cleaned.update({column: count for column, count in cleaned.items() if count})
        for suffix, table in reversed(tables.items()):
            typed = [f"{column}:{types[column]}" for column in table]
            record.wrote(directory / f"{name}.{suffix}", len(table), typed)
    return directory


def _check_table(table, suffix, types, where):
    needed = NEEDED[suffix]
    for column in needed:
        if column not in table:
            raise PrepError(
                f"{where} has no column `{column}`, only {', '.join(map(str, table))}; name it so"
            )
    if not len(table):
        raise PrepError(f"{where} would have no row: every one was filtered out, or the input was empty")
    for column in table:
        if types.get(column) not in TYPES:
            raise PrepError(
                f"{where}: column `{column}` has the type {types.get(column)!r}, "
                f"expected one of {', '.join(TYPES)}; set types[{column!r}]"
            )
    if suffix in ("item", "user") and (twice := table[needed[0]].duplicated()).any():
        raise PrepError(
            f"{where}: {int(twice.sum()):,} repeated {needed[0]}, e.g. {table[needed[0]][twice].iloc[0]!r}; "
            "keep one row for each"
        )
    if "timestamp" in table:
        _check_times(table["timestamp"], where)


def _check_times(times, where):
    if times.dtype in (np.float32, np.float16):
        raise PrepError(
            f"{where}: timestamp is {times.dtype}, which rounds Unix seconds by 64 s or more; use float64"
        )
    if not pd.api.types.is_numeric_dtype(times.dtype):
        raise PrepError(
            f"{where}: timestamp is {times.dtype}, expected integers or float64; convert it first"
        )
    if times.isna().any():
        row = int(np.flatnonzero(times.isna())[0])
        raise PrepError(f"{where}: row {row + 1} has no timestamp; drop the row or give it a time")


def _write_table(file, table, types, where, cleaned):
    """Write header and rows, a hundred thousand at a time; add the counts of cleaned cells to ``cleaned``."""
    columns = {}
    for column in table:
        columns[column] = table[column]
        if column in ("user_id", "item_id"):
            columns[column], changed = id_cells(table[column], f"{where}, column {column}")
            cleaned[column] = max(changed, cleaned[column])
    file.write(("\t".join(f"{column}:{types[column]}" for column in table) + "\n").encode())
    with counting_bar() as bar:
        task = bar.add_task(f"writing {where}", total=len(table))
        for start in range(0, len(table), _ROWS_AT_ONCE):
            cells = []
            for column, values in columns.items():
                part, changed = _cells(
                    values.iloc[start : start + _ROWS_AT_ONCE], types[column], f"{where}, {column}"
                )
                cells.append(part)
                cleaned[column] += changed
            file.write(("\n".join(map("\t".join, zip(*cells, strict=True))) + "\n").encode())
            bar.advance(task, len(cells[0]))


def _cells(values, kind, where):
    """The cells of one column, and how many of them were cleaned."""
    if kind == "float":
        return float_cells(values, where), 0
    if kind == "float_seq":
        return float_seq_cells(values, where), 0
    if pd.api.types.is_integer_dtype(values.dtype) and not values.isna().any():
        return list(map(str, values.tolist())), 0
    return text_cells(values)


def _retire(directory):
    """Take away an earlier preparation, just before the new files get their names; a foreign file stays."""
    if (directory / PREP_FILE).exists():
        written = json.loads((directory / PREP_FILE).read_text(encoding="utf-8"))["outputs"]
        (directory / PREP_FILE).unlink()
        for entry in written:
            (directory / entry["file"]).unlink(missing_ok=True)
