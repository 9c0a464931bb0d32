"""Lines of the Amazon dumps -> tables: the fields of each release under one name, text freed of HTML."""

import ast
import html
import json
import re
from pathlib import Path

import pandas as pd

from dataset_prep.errors import PrepError
from dataset_prep.source import open_lines, read_json, writable

REVIEW_COLUMNS = [
    "user_id",
    "item_id",
    "rating",
    "timestamp",
    "helpful",
    "review_summary",
    "review",
    "time_ms",
]
ITEM_COLUMNS = {
    "title": "token_seq",
    "brand": "token",
    "categories": "token_seq",
    "price": "float",
    "description": "token_seq",
}
_BLOCK = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|$)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--.*?-->", re.DOTALL)
_ASIN = re.compile(r"""["'](?:parent_asin|asin)["']\s*:\s*["']([^"']+)["']""")
_PRICE = re.compile(r"\$?\s*(\d[\d,]*(?:\.\d+)?)")


def clean_html(text):
    """Text without entities, tags, scripts and styles.

    >>> clean_html("Nail &amp;amp; Polish<br />5 &lt; 6")
    'Nail & Polish 5 < 6'
    """
    if "&" in text:
        text = html.unescape(html.unescape(text))  # the dumps hold entities of entities
    if "<" in text:
        text = " ".join(_TAG.sub(" ", _BLOCK.sub(" ", text)).split())
    return text


def read_reviews(path, record):
    """Interactions in file order; ``timestamp`` in whole seconds, ``time_ms`` in milliseconds.

    Raises
    ------
    PrepError
        With file and line, for a line that is no object or lacks the fields of all three releases.
    """
    rows, anonymous, number = [], 0, 0
    with open_lines(path) as file:
        for number, line in enumerate(file, 1):
            row = _object(path, number, line)
            try:
                values = _review_2023(row) if "parent_asin" in row else _review_2014(row)
            except KeyError as error:
                raise PrepError(
                    f"{path}:{number}: no field {error}; a review of 2014 or 2018 has reviewerID, asin, "
                    "unixReviewTime, one of 2023 user_id, parent_asin and timestamp: is it the reviews' file?"
                ) from error
            except (TypeError, ValueError) as error:
                raise PrepError(
                    f"{path}:{number}: a time, rating or vote is not a number ({error})"
                ) from error
            if values[0] and values[1]:
                rows.append(values)
            else:
                anonymous += 1
    if not rows:
        raise PrepError(f"{path} holds no review in {number} lines; fetch it again")
    record.read(path, {Path(path).name: number})
    record.step("reviews without user or item", number, number - anonymous, "they belong to no history")
    return pd.DataFrame(rows, columns=REVIEW_COLUMNS)


def _review_2014(row):
    """2014 has ``helpful: [votes for, votes]``, 2018 ``vote: "1,024"`` or none."""
    seconds = int(row["unixReviewTime"])
    votes = row["helpful"][0] if "helpful" in row else str(row.get("vote") or 0).replace(",", "")
    texts = (clean_html(row.get(name) or "") for name in ("summary", "reviewText"))
    return (
        row["reviewerID"],
        row["asin"],
        float(row["overall"]),
        seconds,
        float(votes),
        *texts,
        seconds * 1000,
    )


def _review_2023(row):
    time_ms = int(row["timestamp"])
    texts = (clean_html(row.get(name) or "") for name in ("title", "text"))
    votes = float(row.get("helpful_vote") or 0)
    return (row["user_id"], row["parent_asin"], float(row["rating"]), time_ms // 1000, votes, *texts, time_ms)


def read_metadata(path, wanted, record):
    """One row per item of ``wanted`` that has metadata, in file order: ``item_id`` and ``ITEM_COLUMNS``.

    Lines of other items are passed over unparsed: most of a dump concerns items that the k-core dropped.
    """
    items, twice, broken, number = {}, 0, 0, 0
    with open_lines(path) as file:
        for number, line in enumerate(file, 1):
            named = _ASIN.findall(line.decode("utf-8", errors="replace"))
            if named and wanted.isdisjoint(named):
                continue
            row = _object(path, number, line)
            item = row.get("parent_asin") or row.get("asin")
            if item is None:
                raise PrepError(
                    f"{path}:{number}: no field asin or parent_asin; is this the file of metadata?"
                )
            if item in items:
                twice += 1
            elif item in wanted:
                items[item] = _item(row)
                broken += "getTime" in str(row.get("title"))
    if not number:
        raise PrepError(f"{path} is empty; fetch it again")
    record.read(path, {Path(path).name: number})
    if twice:
        record.note(f"{twice:,} items stand more than once in the metadata: the first line stays")
    if broken:
        record.note(f"{broken:,} titles were scraped page code and are left empty")
    return pd.DataFrame(
        [(item, *values) for item, values in items.items()], columns=["item_id", *ITEM_COLUMNS]
    )


def _item(row):
    title = clean_html(_joined(row.get("title")))
    if "getTime" in title:  # the 2018 dump holds such pages; its authors tell to drop them
        title = ""
    path = row.get("categories") or row.get("category") or []
    if path and isinstance(path[0], list):  # 2014: several paths, the first is the main one
        path = path[0]
    brand = row.get("brand") or row.get("store") or (row.get("details") or {}).get("Brand")
    categories = " > ".join(clean_html(str(step)) for step in path if "<" not in str(step))
    return (
        title,
        clean_html(_joined(brand)),
        categories,
        _price(row.get("price")),
        clean_html(_joined(row.get("description"))),
    )


def _joined(value):
    return " ".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _price(value):
    """The price as a number; None where it is absent, a range or scraped page code."""
    found = _PRICE.fullmatch(str(value).strip()) if value is not None else None
    return float(found[1].replace(",", "")) if found else None


def _object(path, number, line):
    """A line as a dict: JSON, else a Python literal (metadata of 2014), which is never run as code."""
    text = line.decode("utf-8", errors="replace").strip()
    try:
        row = read_json(text)
    except json.JSONDecodeError as error:
        try:
            row = writable(ast.literal_eval(text))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise PrepError(
                f"{path}:{number}: neither JSON nor a Python literal ({error.msg}); fetch it again"
            ) from None
    if not isinstance(row, dict):
        raise PrepError(f"{path}:{number}: a {type(row).__name__}, expected one object on each line")
    return row
