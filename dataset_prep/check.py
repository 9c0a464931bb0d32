"""Checks of an existing data set in RecBole's atomic form: refused with the file, the line and the cure."""

import csv
import functools
import io
from pathlib import Path

import numpy as np
import pandas as pd

from dataset_prep.cells import TYPES
from dataset_prep.errors import PrepError
from dataset_prep.screen import console

SUFFIXES = ("inter", "item", "user")
_IDS = {"inter": ("user_id", "item_id"), "item": ("item_id",), "user": ("user_id",)}


def check_atomic(directory, name, columns=("user_id", "item_id", "timestamp")):
    """Read the atomic files of a data set and refuse what RecBole would misread.

    Parameters
    ----------
    directory : path
        The folder that holds ``<name>.inter`` and perhaps ``.item`` and ``.user``.
    name : str
    columns : sequence of str
        What ``.inter`` must have.

    Returns
    -------
    dict
        Suffix -> ``{"rows": int, "columns": {column: type}}``.

    Raises
    ------
    PrepError
        For a missing or empty file, a wrong delimiter, a header without types, a missing column, a row of
        another width, an empty or repeated id, a value that is not a number, an open quote, bytes that are
        not UTF-8.
    """
    found = {}
    for suffix in SUFFIXES:
        path = Path(directory) / f"{name}.{suffix}"
        if path.exists():
            needed = columns if suffix == "inter" else _IDS[suffix]
            found[suffix] = _check_file(path, needed, _IDS[suffix], unique=suffix != "inter")
        elif suffix == "inter":
            raise PrepError(
                f"{path} does not exist; prepare the data set, or set data_path to the folder above it"
            )
    return found


def check_foreign(directory, name):
    """Check the atomic files of a known data set that this package did not write, and say that they are taken."""
    check_atomic(directory, name)
    _say_foreign(Path(directory))


@functools.cache  # a benchmark comes here with every training
def _say_foreign(directory):
    console.print(f"{directory} was not made by dataset_prep and is used as it is", markup=False)


def _check_file(path, needed, ids, unique):
    data = path.read_bytes().replace(b"\r\n", b"\n")
    if not data.strip():
        raise PrepError(f"{path} is empty; prepare the data set again")
    if not data.endswith(b"\n"):
        data += b"\n"
    types = _header(path, data[: data.index(b"\n")], needed)
    _check_bytes(path, data, len(types))
    table = pd.read_csv(
        io.BytesIO(data), sep="\t", quoting=csv.QUOTE_NONE, dtype=str, na_filter=False, skip_blank_lines=False
    )
    table.columns = list(types)
    if not len(table):
        raise PrepError(f"{path} has a header and no row; prepare the data set again")
    for column in ids:
        _refuse(
            path,
            table[column].str.strip() == "",
            lambda row, c=column: f"{c} is empty; every row needs an id",
        )
    if unique:
        _refuse(
            path,
            table[ids[0]].duplicated(),
            lambda row: f"{ids[0]} {table[ids[0]][row]!r} stands here a second time; keep one row for each",
        )
    for column, kind in types.items():
        if kind == "float":
            _check_numbers(path, table[column], column, may_be_empty=column not in needed)
    return {"rows": len(table), "columns": types}


def _header(path, line, needed):
    """Column -> type, from the first line."""
    fields = line.decode("utf-8-sig", errors="replace").split("\t")
    if len(fields) == 1 and (separator := next((s for s in ",;| " if s in fields[0]), None)):
        raise PrepError(
            f"{path}:1: fields are parted by {separator!r}, expected a tab; replace the delimiter"
        )
    types = {}
    for text in fields:
        column, _, kind = text.rpartition(":")
        if not column or kind not in TYPES:
            raise PrepError(
                f"{path}:1: the header field {text!r} has no type, expected `name:type` "
                f"with one of {', '.join(TYPES)}"
            )
        types[column] = kind
    if len(types) < len(fields):
        raise PrepError(f"{path}:1: a column stands twice in the header; rename one")
    for column in needed:
        if column not in types:
            raise PrepError(f"{path}:1: no column `{column}`, only {', '.join(types)}; rename or add it")
    return types


def _check_bytes(path, data, width):
    """Same width in each line, UTF-8, no open quote: found by counting, then located."""
    if data.count(b"\t") != data.count(b"\n") * (width - 1) or b"\n\n" in data:
        tabs = np.array([line.count(b"\t") for line in data[:-1].split(b"\n")])
        if (bad := np.flatnonzero(tabs != width - 1)).size:
            raise PrepError(
                f"{path}:{bad[0] + 1}: {tabs[bad[0]] + 1} fields, the header has {width}; "
                "a tab or a line break inside text must become a space"
            )
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PrepError(
            f"{path}:{line}: not UTF-8 (byte {data[error.start]:#04x}); convert the file"
        ) from error
    for mark in (b'\t"', b'\n"'):
        start = data.find(mark)
        while start >= 0:
            end = min(e for e in (data.find(b"\t", start + 1), data.find(b"\n", start + 1)) if e >= 0)
            if data.count(b'"', start, end) % 2:
                line = data.count(b"\n", 0, start + 1) + 1
                raise PrepError(
                    f'{path}:{line}: a field begins with " and the quote is not closed; RecBole would '
                    "swallow the rows after it: write a typographic quote instead"
                )
            start = data.find(mark, end)


def _check_numbers(path, cells, column, may_be_empty):
    numbers = pd.to_numeric(cells, errors="coerce")
    bad = numbers.isna() & ~((cells == "") & may_be_empty)
    _refuse(path, bad, lambda row: f"{column} {cells[row]!r} is not a number; correct the value or the type")


def _refuse(path, bad, why):
    """Raise for the first row that is marked; the header is line 1."""
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise PrepError(f"{path}:{row + 2}: {why(row)}")
