"""Tables of any common kind, whose bad values can be named by file and line."""

import csv
import gzip
import io
import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dataset_prep.errors import PrepError
from dataset_prep.source import open_lines, read_json

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass
class Table:
    """A table and where each of its rows stands in the file."""

    path: Path
    frame: pd.DataFrame
    separator: str | None = None
    lines: list | None = None

    def line(self, row):
        """The line of a row, counted from 1; for Parquet, which has no lines, the row."""
        if self.separator is None:
            return self.lines[row] if self.lines else row + 1
        with open_lines(self.path) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=self.separator)
            for number, fields in enumerate(line for line in reader if line):
                if number == row + 1:
                    return reader.line_num - sum(field.count("\n") for field in fields)
        return row + 2

    def refuse(self, bad, column, what, cure):
        """Raise for the first row that is marked."""
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            value = self.frame[column].iloc[row]
            raise PrepError(
                f"{self.path}:{self.line(row)}: {column} {value!r} {what} ({int(bad.sum()):,} rows); {cure}"
            )


def read_table(path, needed, wanted=(), separator=None):
    """Read the columns ``needed`` and, where present, ``wanted`` of a table.

    Parameters
    ----------
    path : path
        .csv, .tsv, .txt, .jsonl, .ndjson or .parquet; all but Parquet may be gzipped (.gz).
    needed, wanted : sequence of str
    separator : str, optional
        Of text tables; by default by the name: a comma, for .tsv and .txt a tab.

    Returns
    -------
    Table
        Values of text tables are strings, empty where missing.

    Raises
    ------
    PrepError
        For a missing, empty or damaged file, an unknown kind, a missing column, a row of another width.
    """
    path = Path(path)
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind == ".parquet":
        return _read_parquet(path, needed, wanted)
    if kind in (".jsonl", ".ndjson"):
        return _read_json_lines(path, needed, wanted)
    if kind not in (".csv", ".tsv", ".txt"):
        raise PrepError(f"{path}: expected a table of .csv, .tsv, .txt, .jsonl, .ndjson or .parquet")
    separator = separator or ("," if kind == ".csv" else "\t")
    with open_lines(path) as file:
        try:
            frame = _read_text(
                file, separator, lambda header: _chosen(path, header, needed, wanted, separator)
            )
        except pd.errors.ParserError as error:  # its count starts after the header
            reason = str(error).rpartition("error: ")[2].strip()
            reason = re.sub(r"line (\d+)", lambda found: f"line {int(found[1]) + 1}", reason)
            raise PrepError(
                f"{path}: {reason}; quote the text that holds a separator or a line break"
            ) from error
        except pd.errors.ParserWarning as error:
            raise PrepError(
                f"{path}:2: more fields than the header names; correct the header or the line"
            ) from error
        except UnicodeDecodeError as error:
            raise PrepError(
                f"{path} is not UTF-8 (byte {error.object[error.start]:#04x}); convert it first"
            ) from error
    if frame.empty:
        raise PrepError(f"{path} has a header and no row; nothing can be prepared from it")
    return Table(path, frame, separator)


def _read_text(file, separator, choose):
    file = io.BufferedReader(file) if isinstance(file, gzip.GzipFile) else file
    first = file.readline().decode("utf-8-sig").rstrip("\r\n")
    header = next(csv.reader([first], delimiter=separator), [])
    chosen = choose(header)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        frame = pd.read_csv(  # all columns: with usecols, pandas overlooks a line that is too long
            file,
            sep=separator,
            header=None,
            names=header,
            index_col=False,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8",
        )
    return frame[chosen]


def _chosen(path, header, needed, wanted, separator=None):
    """Needed and present columns; a missing one is refused, with a guess at the delimiter."""
    for column in needed:
        if column not in header:
            only = header[0] if len(header) == 1 else ""
            guess = next((mark for mark in ";\t,|" if mark != separator and mark in only), None)
            cure = (
                f"fields seem to be parted by {guess!r}: give --sep {guess!r}"
                if guess
                else "name one of these"
            )
            raise PrepError(f"{path}:1: no column `{column}`, only {', '.join(map(str, header))}; {cure}")
    return [
        *dict.fromkeys(needed),
        *(column for column in wanted if column in header and column not in needed),
    ]


def _read_parquet(path, needed, wanted):
    if not path.is_file():
        raise PrepError(f"{path} does not exist; give the path of the file")
    try:
        frame = pd.read_parquet(path)
    except ImportError as error:
        raise PrepError(f"{path}: reading Parquet needs pyarrow; run `pip install pyarrow`") from error
    except (OSError, ValueError) as error:
        raise PrepError(f"{path} is damaged ({error}); write it again") from error
    if frame.empty:
        raise PrepError(f"{path} has no row; nothing can be prepared from it")
    return Table(path, frame[_chosen(path, list(frame.columns), needed, wanted)].reset_index(drop=True))


def _read_json_lines(path, needed, wanted):
    rows, lines = [], []
    with open_lines(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = read_json(line.decode())
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise PrepError(
                    f"{path}:{number}: not JSON ({error}); one object on each line is expected"
                ) from error
            if not isinstance(row, dict):
                raise PrepError(f"{path}:{number}: a {type(row).__name__}, expected one object on each line")
            if lacking := [column for column in needed if column not in row]:
                raise PrepError(
                    f"{path}:{number}: no field `{lacking[0]}`, only {', '.join(row)}; name one of these"
                )
            rows.append({column: row.get(column) for column in (*needed, *wanted)})
            lines.append(number)
    if not rows:
        raise PrepError(f"{path} has no row; nothing can be prepared from it")
    frame = pd.DataFrame(rows, dtype=object)
    frame = frame.drop(columns=[column for column in wanted if frame[column].isna().all()])
    return Table(path, frame, lines=lines)


def seconds(table, column, unit="s"):
    """Unix seconds of a column of numbers or ISO-8601 dates: int64 where all are whole, else float64.

    Raises
    ------
    PrepError
        For the first value that is neither.
    """
    values = table.frame[column]
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return _dates_to_seconds(table, column, values)
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.isna().all():
        return _dates_to_seconds(table, column, values)
    table.refuse(
        numbers.isna(), column, "is not a number", "correct the value, or write all times as ISO-8601 dates"
    )
    table.refuse(~np.isfinite(numbers.astype("float64")), column, "is not finite", "correct the value")
    if pd.api.types.is_integer_dtype(numbers.dtype):
        return _shortest(numbers.astype("int64"), UNITS[unit])
    return _shortest(numbers.astype("float64"), UNITS[unit])


def _dates_to_seconds(table, column, values):
    dates = pd.to_datetime(values, format="ISO8601", utc=True, errors="coerce")
    table.refuse(
        dates.isna(),
        column,
        "is neither a number nor an ISO-8601 date (2024-01-31T12:00:00)",
        "correct the value",
    )
    return _shortest(dates.dt.as_unit("us").astype("int64"), 10**6)


def _shortest(counts, per_second):
    """``counts / per_second``, as integers where that loses nothing."""
    whole = counts // per_second
    return whole.astype("int64") if (whole * per_second == counts).all() else counts / per_second


def typed(table, column, kind):
    """A column of the table as its type wants it; a bad number is refused with its line."""
    values = table.frame[column]
    if kind != "float" or pd.api.types.is_numeric_dtype(values.dtype):
        return values
    empty = values.isna() | (values.astype(str).str.strip() == "")
    numbers = pd.to_numeric(values.where(~empty), errors="coerce")
    table.refuse(
        numbers.isna() & ~empty, column, "is not a number", "correct it, or give the column the type token"
    )
    return numbers
