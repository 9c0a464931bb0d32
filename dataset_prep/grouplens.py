"""The raw layouts of MovieLens: ``ratings.dat`` (1m, 10m), ``ratings.csv`` (20m on), ``u.data`` (100k).

A fourth layout is RecBole's own copy of ml-100k, in its wheel. Encoding is UTF-8, else latin-1 (ml-100k,
ml-1m).
"""

import csv
import io

import pandas as pd

from dataset_prep.errors import PrepError
from dataset_prep.titles import in_order, split_year

RATING_COLUMNS = ["user_id", "item_id", "rating", "timestamp"]
RATING_LAYOUTS = {  # file -> separator and header
    "ratings.dat": ("::", None),
    "ratings.csv": (",", ["userId", "movieId", "rating", "timestamp"]),
    "u.data": ("\t", None),
    "ml-100k.inter": ("\t", ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]),
}
GENRES = (  # the flags of ml-100k's u.item, in order; the first one is "unknown"
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror "
    "Musical Mystery Romance Sci-Fi Thriller War Western"
).split()
TYPES = {"movie_title": "token_seq", "release_year": "token", "genre": "token_seq"}
USER_COLUMNS = {
    "users.dat": ("::", ["user_id", "gender", "age", "occupation", "zip"]),
    "u.user": ("|", ["user_id", "age", "gender", "occupation", "zip_code"]),
    "ml-100k.user": ("\t", ["user_id", "age", "gender", "occupation", "zip_code"]),
}
GRAPH_COLUMNS = {"kg": ["head_id", "relation_id", "tail_id"], "link": ["item_id", "entity_id"]}


def read_ratings(source, record):
    """Ratings in file order: ``user_id``, ``item_id``, ``timestamp`` as int64, ``rating`` as a number."""
    member = next(member for member in RATING_LAYOUTS if member in source)
    separator, header = RATING_LAYOUTS[member]
    with source.open(member) as file:
        if separator == "::":  # a tab instead lets pandas' fast reader do the work
            file = io.BytesIO(file.read().replace(b"::", b"\t"))
        tabs = separator.replace("::", "\t")
        try:
            table = pd.read_csv(file, sep=tabs, header=0 if header else None, low_memory=False)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError):
            table = None
    if table is None or not _is_sound(table, header):
        _explain(source, member, separator, header)
    table.columns = RATING_COLUMNS
    record.read(source.file_of(member), {member: len(table)})
    return table


def _is_sound(table, header):
    if header and list(table.columns) != header:
        return False
    if table.empty or table.shape[1] != 4 or not isinstance(table.index, pd.RangeIndex):
        return False
    user, item, rating, time = (dtype.kind for dtype in table.dtypes)
    return (user, item, time) == ("i", "i", "i") and rating in "if" and not table.iloc[:, 2].isna().any()


def _explain(source, member, separator, header):
    """Find the first bad line of a file that the fast reader refused, and raise with its number."""
    where = source.where(member)
    with source.open(member) as file:
        number = 0
        for number, line in enumerate(file, 1):
            fields = line.decode("latin-1").rstrip("\r\n").split(separator)
            if number == 1 and header:
                if fields != header:
                    raise PrepError(
                        f"{where}:1: the header is {separator.join(fields)!r}, "
                        f"expected {separator.join(header)!r}"
                    )
                continue
            if len(fields) != 4:
                raise PrepError(
                    f"{where}:{number}: {len(fields)} fields parted by {separator!r}, expected 4 "
                    "(user, item, rating, time); correct the delimiter or the line"
                )
            for column, text in zip(RATING_COLUMNS, fields, strict=True):
                if not _is_number(text, whole=column != "rating"):
                    kind = "a number" if column == "rating" else "a whole number"
                    raise PrepError(f"{where}:{number}: {column} {text!r} is not {kind}; correct the line")
    raise PrepError(f"{where} has no rating after {number} lines; fetch it again")


def _is_number(text, whole):
    try:
        return (int if whole else float)(text) is not None
    except ValueError:
        return False


def _text_rows(source, member, separator, width, header=None):
    """Line number and fields of each row of a small text file; UTF-8, else latin-1 (ml-100k, ml-1m)."""
    if member not in source:
        raise PrepError(f"{source.path} has no {member}; it belongs to the data set, fetch it too")
    with source.open(member) as file:
        data = file.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    if separator == ",":
        lines = csv.reader(io.StringIO(text, newline=""))
    else:
        lines = (line.rstrip("\r").split(separator) for line in text.rstrip("\n").split("\n"))
    rows = []
    for number, fields in enumerate(lines, 1):
        if len(fields) != width:
            raise PrepError(
                f"{source.where(member)}:{number}: {len(fields)} fields parted by {separator!r}, "
                f"expected {width}; correct the delimiter or the line"
            )
        rows.append((number, fields))
    if header and rows[0][1] != header:
        raise PrepError(f"{source.where(member)}:1: the header is {rows[0][1]}, expected {header}")
    return rows[1:] if header else rows


def read_movies(source, record):
    """One row per film: ``item_id``, ``movie_title`` in order, ``release_year``, ``genre`` (spaced)."""
    member = next((member for member in _MOVIE_ROWS if member in source), "movies.dat")
    films, seen = [], set()
    for number, (item, title, genres) in _MOVIE_ROWS[member](source):
        if not item.isdecimal() or item in seen:
            why = "stands a second time" if item in seen else "is not a whole number"
            raise PrepError(f"{source.where(member)}:{number}: item id {item!r} {why}; correct the line")
        seen.add(item)
        title, year = split_year(title)
        if title in ("unknown", "unkonwn (unkonwn)"):  # ml-100k's item 267, misspelt in RecBole's copy
            title = ""  # a placeholder: no text is better than a wrong one
        genres = "" if genres in ("unknown", "(no genres listed)") else genres.replace("|", " ")
        films.append((int(item), in_order(title), year, genres))
    record.read(source.file_of(member), {member: len(films)})
    return pd.DataFrame(films, columns=["item_id", *TYPES])


def _flagged_movies(source):
    for number, (item, title, _, _, _, *flags) in _text_rows(source, "u.item", "|", 24):
        genres = [genre for genre, flag in zip(GENRES, flags, strict=True) if flag == "1"]
        yield number, (item, title, "|".join(genres))


def _shipped_movies(source):
    header = ["item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq"]
    for number, (item, title, year, genres) in _text_rows(source, "ml-100k.item", "\t", 4, header):
        yield number, (item, f"{title} ({year})", genres.replace(" ", "|"))


_MOVIE_ROWS = {  # file -> line number and (item, title with year, genres parted by |)
    "movies.dat": lambda source: _text_rows(source, "movies.dat", "::", 3),
    "movies.csv": lambda source: _text_rows(source, "movies.csv", ",", 3, ["movieId", "title", "genres"]),
    "u.item": _flagged_movies,
    "ml-100k.item": _shipped_movies,
}


def read_users(source, record):
    """Users with their age, gender, occupation and zip code, or None where the data set has none."""
    member = next((m for m in USER_COLUMNS if m in source), None)
    if member is None:
        return None
    separator, columns = USER_COLUMNS[member]
    rows = _text_rows(source, member, separator, len(columns))
    if member == "ml-100k.user":
        rows = rows[1:]
    record.read(source.file_of(member), {member: len(rows)})
    return pd.DataFrame([fields for _, fields in rows], columns=columns)


def read_graph(source, record):
    """The knowledge graph of RecBole's copy of ml-100k, ``{"kg": triples, "link": item and entity}``; else ``{}``."""
    graph = {}
    for suffix, columns in GRAPH_COLUMNS.items():
        member = f"ml-100k.{suffix}"
        if member in source:
            header = [f"{column}:token" for column in columns]
            rows = _text_rows(source, member, "\t", len(columns), header)
            graph[suffix] = pd.DataFrame([fields for _, fields in rows], columns=columns)
            record.read(source.file_of(member), {member: len(rows)})
    return graph
