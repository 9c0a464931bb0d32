"""Item texts from the columns of an atomic ``.item`` file.

A *text field* is a column (``title``, ``plot``: the text itself) or ``attributes``, the columns whose
short values items share, written side by side: ``Genre: Action, Comedy. Year: 1995.`` Such plain
concatenation did better than keywords, summaries and LLM-expanded knowledge in RecXplore
(https://arxiv.org/abs/2509.14979).

A template has a version: whoever changes a word of what it writes raises the number, and every artifact made
with the old one is made anew.
"""

import csv
import difflib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from recbole_llm.errors import DataError, SettingError
from recbole_llm.text.plain import clean

ATTRIBUTES = "attributes"
TITLE_COLUMNS = ("title", "movie_title", "name")  # what `title` may be called in a data set
LABELS = {"class": "Genre", "release_year": "Year"}  # RecBole's ml-100k says `class` for genre

_LIST_MARK = re.compile(r"\s*[|>;,]\s*")


@dataclass(frozen=True)
class Template:
    """How one text field is written from a row: its name and version, and the columns it reads.

    Kept with an artifact, it writes the text of a new item in the very way the old ones were written.
    """

    name: str
    version: int
    columns: tuple[str, ...] = ()

    def texts(self, table: pd.DataFrame) -> dict[str, tuple[str, ...]]:
        """Token to texts: ``()`` for an item without text, which is a mask and not a vector."""
        _check_columns(table, self.columns)
        write = _attributes_text if self.name == ATTRIBUTES else _column_text
        rows = zip(*(table[column] for column in self.columns), strict=True)
        written = (write(self.columns, cells) for cells in rows)
        return {str(token): (text,) if text else () for token, text in zip(table.index, written, strict=True)}


COLUMN_VERSION = 1
ATTRIBUTES_VERSION = 1
REVIEWS = Template("reviews", 1)
GENERATED = Template("generated", 1)  # what a language model wrote; see llm/texts.py
PICKED = Template("no LLM", 1)  # what stands in its place where none was asked


def read_columns(path: str | Path, key: str | None = None) -> pd.DataFrame:
    """Read an atomic file as it stands: every cell a string, nothing guessed, nothing dropped.

    Parameters
    ----------
    path : path
        An atomic file: tab separated, header ``name:type``, no quoting.
    key : str, optional
        The column that identifies a row; by default ``item_id``, else the first column.

    Returns
    -------
    DataFrame of str
        Indexed by token, columns without their types; ``attrs["types"]`` holds these.

    Raises
    ------
    DataError
        If the file is no table of tabs in UTF-8, its header has no types, or a token stands twice.
    """
    table = _read_table(path)
    untyped = [column for column in table.columns if ":" not in column]
    if untyped:
        raise DataError(
            f"{path} has a header without types ({', '.join(untyped[:3])}); "
            "an atomic file names every column as `name:type`, e.g. `item_id:token`"
        )
    types = dict(column.rsplit(":", 1) for column in table.columns)
    table.columns = list(types)
    key = key or ("item_id" if "item_id" in types else table.columns[0])
    _check_columns(table, [key])
    repeated = table[key][table[key].duplicated()].unique()
    if len(repeated):
        raise DataError(
            f"{path} has {len(repeated):,} tokens in `{key}` that stand more than once, "
            f"e.g. {', '.join(repeated[:3])}; keep one row for each"
        )
    table = table.set_index(key)
    table.attrs["types"] = types
    return table


def _read_table(path):
    """Cells as strings; a row with more cells than the header is an error and never shifts the columns."""
    options = {
        "sep": "\t",
        "quoting": csv.QUOTE_NONE,
        "keep_default_na": False,
        "dtype": str,
        "index_col": False,
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(path, encoding="utf-8", **options)
    except (
        pd.errors.ParserError,
        pd.errors.ParserWarning,
        pd.errors.EmptyDataError,
        UnicodeDecodeError,
    ) as error:
        raise DataError(
            f"{path} cannot be read ({error}); "
            "expected UTF-8, one tab between cells and as many as in the header"
        ) from error


def field_template(table: pd.DataFrame, field: str) -> Template:
    """The template that writes ``field`` from the columns of ``table``.

    Raises
    ------
    SettingError
        If there is no such column, or no column that could be an attribute; names those there are.
    """
    if field in table.columns:
        return Template("column", COLUMN_VERSION, (field,))
    if field == ATTRIBUTES:
        columns = _attribute_columns(table)
        if not columns:
            raise SettingError(
                f"text field `{ATTRIBUTES}` needs a column whose values items share, such as genre or brand; "
                f"none of {', '.join(table.columns)} is one. Take `{ATTRIBUTES}` out of text_fields"
            )
        return Template(ATTRIBUTES, ATTRIBUTES_VERSION, columns)
    if field == "title":
        field = title_column(table) or field
    _check_columns(table, [field])
    return Template("column", COLUMN_VERSION, (field,))


def title_column(table: pd.DataFrame) -> str | None:
    """The column that holds titles, by the names that are known for it."""
    return next((column for column in TITLE_COLUMNS if column in table.columns), None)


def field_texts(table: pd.DataFrame, field: str) -> dict[str, tuple[str, ...]]:
    """Token to the texts of one field: ``()`` no text, usually one, several are averaged as vectors.

    Parameters
    ----------
    table : DataFrame
        What `read_columns` gives.
    field : str
        A column, ``title`` (also found as ``movie_title`` or ``name``), or ``attributes``.

    Raises
    ------
    SettingError
        If the table has no such column.
    """
    return field_template(table, field).texts(table)


def review_texts(
    reviews_by_item: Mapping[str, Sequence[tuple[str, float]]], limit: int = 20
) -> dict[str, tuple[str, ...]]:
    """Token to its most helpful reviews, at most ``limit``, the most helpful first, each text once.

    The caller passes reviews of the *training part only*: a review written with a validation or test
    interaction tells the model what it is asked to predict.

    Parameters
    ----------
    reviews_by_item : mapping of token to (text, helpful votes) pairs
        Ties keep their order.
    """
    texts = {}
    for token, reviews in reviews_by_item.items():
        ranked = (clean(text) for text, _ in sorted(reviews, key=lambda review: -review[1]))
        texts[token] = tuple(dict.fromkeys(text for text in ranked if text))[:limit]
    return texts


def _column_text(columns, cells):
    """The one cell, cleaned."""
    return clean(cells[0])


def _attributes_text(columns, cells):
    """``Genre: Action, Comedy. Year: 1995.``; a column without a value is left out."""
    written = []
    for column, cell in zip(columns, cells, strict=True):
        value = _price_range(cell) if column == "price" else _listed(clean(cell))
        if value:
            written.append(f"{label(column)}: {value}.")
    return " ".join(written)


def label(column: str) -> str:
    """How a column is called in a text."""
    return LABELS.get(column, column.replace("_", " ").strip().capitalize())


def _listed(cell):
    """The values of a cell with commas between: it is split at its own marks, else (token_seq) at spaces."""
    values = _LIST_MARK.split(cell) if _LIST_MARK.search(cell) else cell.split()
    values = (re.sub(r"^(\d+)\.0$", r"\1", value).replace("_", " ") for value in values if value)
    return ", ".join(values).rstrip(".")


def _price_range(cell):
    """``10 to 20`` for 12.99: a step of the 1-2-5 series, so that items share it; empty when no price."""
    match = re.fullmatch(r"\D{0,4}(\d{1,9}(?:\.\d+)?)\D{0,4}", clean(cell).replace(",", ""))
    price = float(match.group(1)) if match else 0.0
    if price <= 0:
        return ""
    steps = [step * 10**power for power in range(10) for step in (1, 2, 5)]
    above = next(step for step in steps if price < step)
    below = max([step for step in steps if step <= price], default=0)
    return f"{below} to {above}"


def _attribute_columns(table):
    """Columns whose short values items share, by label: brand, genre, year; no titles, plots or codes."""
    types = table.attrs.get("types", {})
    chosen = []
    for column in table.columns:
        is_number = types.get(column, "token") not in ("token", "token_seq")
        # Average ratings and counts are numbers too, and were often taken after the test part: left out.
        if column in TITLE_COLUMNS or (is_number and column != "price" and "year" not in column):
            continue
        values = table[column][table[column].str.strip() != ""]
        words = values.str.split().str.len().mean() if len(values) else 0
        is_shared = len(values) < 20 or values.nunique() <= len(values) / 2
        if column == "price" or (0 < words <= 12 and is_shared):
            chosen.append(column)
    return tuple(sorted(chosen, key=lambda column: (label(column), column)))


def _check_columns(table, columns):
    for column in columns:
        if column in table.columns:
            continue
        near = difflib.get_close_matches(column, [*table.columns, ATTRIBUTES], n=1)
        hint = f", did you mean `{near[0]}`?" if near else "."
        raise SettingError(f"no column `{column}`; there are {', '.join(table.columns)}{hint}")
