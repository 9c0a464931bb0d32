"""Text columns of one's own (plots, descriptions written by a language model), joined by item id.

Read from CSV or TSV with a header (an atomic ``.item`` file too), a JSON map ``{id: text}`` or
``{id: {column: text}}``, JSON lines, or ``movies_extrainfos.dat``, the film data that came with MeLU
(https://github.com/hoyeoplee/MeLU).
"""

import csv
import io
import json
from pathlib import Path

import pandas as pd

from dataset_prep.errors import PrepError
from dataset_prep.source import open_lines, read_json

KEYS = ("item_id", "movieId", "parent_asin", "asin", "id")
MELU_COLUMNS = "id title year rated released genre director writer actors plot poster".split()


def as_plan(extra_text):
    """``extra_text`` as a dict of path -> columns; no columns means all of them."""
    if extra_text is None:
        return {}
    plan = extra_text if isinstance(extra_text, dict) else {extra_text: []}
    for path in plan:
        if not Path(path).is_file():
            raise PrepError(
                f"{path} does not exist; extra_text must name a CSV, TSV, JSON or JSON lines file"
            )
    return {
        Path(path): [columns] if isinstance(columns, str) else list(columns) for path, columns in plan.items()
    }


def join_extra(items, extra_text, record):
    """Items with the text columns of each file, matched by ``item_id``; empty where a file lacks the item.

    Returns
    -------
    DataFrame
    dict
        The types of the new columns: ``token_seq`` each.
    """
    types = {}
    for path, columns in as_plan(extra_text).items():
        table = read_extra(path, columns)
        if taken := sorted(set(table.columns) & set(items.columns)):
            raise PrepError(f"{path}: column `{taken[0]}` is in the data set already; rename it")
        tokens = items["item_id"].astype(str)
        found = tokens.isin(table.index)
        if not found.any():
            raise PrepError(
                f"{path}: none of its {len(table):,} ids, e.g. {table.index[0]!r}, is an item; check the key"
            )
        joined = table.reindex(tokens).fillna("").set_axis(items.index)
        items = pd.concat([items, joined], axis=1)
        types |= dict.fromkeys(table.columns, "token_seq")
        record.read(path, {path.name: len(table)})
        for column in table:
            empty = int((joined[column] == "").sum())
            record.note(
                f"{column}: empty for {empty:,} of {len(items):,} items "
                f"({int((~found).sum()):,} not in the file)"
            )
    return items, types


def read_extra(path, columns=()):
    """Text columns of a file, indexed by item token.

    Raises
    ------
    PrepError
        For a file of another kind, a missing key or column, an id that stands twice.
    """
    path = Path(path)
    with open_lines(path) as file:
        text = file.read().decode("utf-8-sig")
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if path.name.startswith("movies_extrainfos"):
        rows = _separated(path, (line.split("::") for line in _lines(text)), MELU_COLUMNS)
    elif kind in (".csv", ".tsv", ".item"):
        lines = csv.reader(io.StringIO(text, newline=""), **_dialect(kind))
        rows = _separated(path, lines, [name.split(":")[0] for name in next(lines)])
    elif kind == ".json":
        rows = [
            {"id": key} | (value if isinstance(value, dict) else {"text": value})
            for key, value in _json(path, text)
        ]
    elif kind in (".jsonl", ".ndjson"):
        rows = [row for number, line in enumerate(_lines(text), 1) for row in _json_line(path, number, line)]
    else:
        raise PrepError(f"{path}: extra text must be .csv, .tsv, .item, .json or .jsonl")
    if not rows:
        raise PrepError(f"{path} has no row; extra text needs one for each item")
    return _indexed(path, pd.DataFrame(rows), columns)


def _lines(text):
    """Lines by LF or CRLF only: ``splitlines`` would also cut text at U+2028 and its like."""
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def _dialect(kind):
    if kind == ".csv":
        return {"delimiter": ","}
    return {"delimiter": "\t"} | ({"quoting": csv.QUOTE_NONE} if kind == ".item" else {})


def _separated(path, lines, header):
    rows = []
    for number, fields in enumerate(lines, 1):
        if len(fields) != len(header):
            raise PrepError(
                f"{path}: row {number} has {len(fields)} fields, expected {len(header)}; quote the text"
            )
        rows.append(dict(zip(header, fields, strict=True)))
    return rows


def _json(path, text):
    try:
        content = read_json(text)
    except json.JSONDecodeError as error:
        raise PrepError(
            f"{path}:{error.lineno}: not JSON ({error.msg}); use .jsonl for JSON lines"
        ) from error
    if not isinstance(content, dict):
        raise PrepError(f"{path} holds a {type(content).__name__}, expected a map of item id to text")
    return content.items()


def _json_line(path, number, line):
    try:
        return [read_json(line)] if line.strip() else []
    except json.JSONDecodeError as error:
        raise PrepError(
            f"{path}:{number}: not JSON ({error.msg}); one object on each line is expected"
        ) from error


def _indexed(path, table, columns):
    key = next((name for name in KEYS if name in table), table.columns[0])
    tokens = table[key].astype(str)
    if (twice := tokens.duplicated()).any():
        raise PrepError(f"{path}: id {tokens[twice].iloc[0]!r} stands twice; keep one row for each item")
    table = table.drop(columns=key).set_axis(tokens)
    for column in columns:
        if column not in table:
            raise PrepError(
                f"{path}: no column `{column}`, only {', '.join(map(str, table))}; name one of these"
            )
    table = table[list(columns) or list(table)].fillna("").astype(str)
    return table.replace("N/A", "")
