r"""Your own tables -> atomic files: CSV, TSV, Parquet or JSON lines of interactions, items and users.

    python -m dataset_prep.table --inter sales.csv --user customer --item sku --time bought_at \
        --items catalogue.csv --item_key sku --text title,description --name shop

Times are numbers (``--time_unit s``, ms, us or ns) or ISO-8601 dates, which count as UTC where they name no
zone. Without ``--time`` the order of the rows is the order of time.
"""

import argparse
from pathlib import Path

import pandas as pd

from dataset_prep.atomic import Record, first_of_each_pair, k_core, own_state_of, write_atomic
from dataset_prep.cells import TYPES
from dataset_prep.errors import PrepError
from dataset_prep.tabular import UNITS, read_table, seconds, typed


def prepare(
    name,
    inter,
    user,
    item,
    time=None,
    *,
    items=None,
    item_key=None,
    text=(),
    users=None,
    user_key=None,
    columns=None,
    out="dataset",
    separator=None,
    time_unit="s",
    k_user=0,
    k_item=0,
    distinct=False,
):
    """Folder of atomic files of your own tables.

    Parameters
    ----------
    name : str
        The data set's name.
    inter : path
        Interactions: .csv, .tsv, .txt (tab), .jsonl, .ndjson or .parquet; the text ones may be gzipped.
    user, item, time : str
        Its columns. Without ``time`` the file is taken to be in order; ``timestamp`` counts 1, 2, ... per
        user.
    items, users : path, optional
        Tables of items and users.
    item_key, user_key : str, optional
        Their id columns; by default called as ``item`` and ``user``.
    text : sequence of str
        Columns of ``items`` that are text (``token_seq``).
    columns : dict of str to str, optional
        More columns to take, column -> type, from whichever table has them.
    out : path
        The folder of data sets.
    separator : str, optional
        Of the CSV files; by default a comma, in .tsv and .txt a tab.
    time_unit : {"s", "ms", "us", "ns"}
        What the numbers in ``time`` count since 1970.
    k_user, k_item : int
        Least number of interactions of a user, of an item. With ``k_item``, items without interactions go
        too.
    distinct : bool
        Keep only the first interaction of a user with an item.

    Returns
    -------
    Path
        ``<out>/<name>``.

    Raises
    ------
    PrepError
        With file, line and cure; also where atomic files stand that this package did not write.
    """
    directory = Path(out) / name
    roles = {"user": user, "item": item, "time": time, "text": list(text), "columns": columns or {}}
    limits = {"time_unit": time_unit, "k_user": k_user, "k_item": k_item, "distinct": distinct}
    record = Record(name, {"name": name, **roles, **limits})
    own_state_of(directory, name, record.settings)
    types = {"rating": "float"} | dict.fromkeys(text, "token_seq") | (columns or {})
    events = _interactions(Path(inter), (user, item, time), types, separator, time_unit, record)
    catalogue = _entities(items, item_key or item, "item_id", types, separator, record)
    people = _entities(users, user_key or user, "user_id", types, separator, record)
    _check_columns([*text, *(columns or {})], types, [events, catalogue, people])
    events = _filtered(events, k_user, k_item, distinct, record)
    catalogue = _matched(catalogue, events, "item_id", k_item > 1, record)
    people = _matched(people, events, "user_id", True, record)
    write_atomic(directory, name, events, catalogue, people, types, record)
    record.finish(directory)
    return directory


def _filtered(events, k_user, k_item, distinct, record):
    if distinct:
        before, events = len(events), first_of_each_pair(events)
        record.step("repeated interactions", before, len(events), "same user and item: the first stays")
    if k_user > 1 or k_item > 1:
        before, (events, rounds) = len(events), k_core(events, k_user, k_item)
        why = f"users with fewer than {k_user}, items with fewer than {k_item}, {len(rounds)} rounds"
        record.step("k-core", before, len(events), why, rounds=rounds)
        if events.empty:
            raise PrepError(
                f"no interaction of {before:,} is left with k_user {k_user}, k_item {k_item}; lower them"
            )
    return events


def _interactions(path, names, types, separator, time_unit, record):
    """Columns ``user_id``, ``item_id``, ``timestamp`` and the typed ones that the table has."""
    user, item, time = names
    needed = [name for name in names if name is not None]
    table = read_table(path, needed, [name for name in types if name not in needed], separator)
    frame = table.frame
    record.read(path, {path.name: len(frame)})
    for column in (user, item):
        table.refuse(
            frame[column].isna() | (frame[column].astype(str).str.strip() == ""),
            column,
            "is empty",
            "every interaction needs its user and its item",
        )
    events = pd.DataFrame({"user_id": frame[user], "item_id": frame[item]})
    if time is None:
        events["timestamp"] = events.groupby("user_id", sort=False).cumcount() + 1
        record.note("no time column: rows are taken to be in order, timestamps count 1, 2, 3, ... per user")
    else:
        events["timestamp"] = seconds(table, time, time_unit)
    for column, kind in types.items():
        if column in frame and column not in needed:
            events[column] = typed(table, column, kind)
    return events


def _entities(path, key, id_column, types, separator, record):
    """The table of items or users, its key renamed to RecBole's; None where there is no file."""
    if path is None:
        return None
    path = Path(path)
    table = read_table(path, [key], [name for name in types if name != key], separator)
    frame = table.frame
    record.read(path, {path.name: len(frame)})
    no_id = frame[key].isna() | (frame[key].astype(str).str.strip() == "")
    table.refuse(no_id, key, "is empty", "every row needs an id")
    table.refuse(frame[key].duplicated(), key, "stands a second time", "keep one row for each id")
    entities = pd.DataFrame({id_column: frame[key]})
    for column, kind in types.items():
        if column in frame and column != key:
            entities[column] = typed(table, column, kind)
    return entities


def _check_columns(asked, types, tables):
    present = {column for table in tables if table is not None for column in table}
    for column in asked:
        if types[column] not in TYPES:
            raise PrepError(
                f"column `{column}` has the type {types[column]!r}, expected one of {', '.join(TYPES)}"
            )
        if column not in present:
            raise PrepError(f"none of the tables has the column `{column}`; check its name")


def _matched(entities, events, key, only_seen, record):
    """Entities for every id that has interactions: missing ones are added, unseen ones may go."""
    if entities is None:
        return None
    if not all(pd.api.types.is_integer_dtype(table[key].dtype) for table in (entities, events)):
        entities[key], events[key] = entities[key].astype(str), events[key].astype(str)  # 7 is "7" in a CSV
    lacking = pd.Index(events[key].unique()).difference(entities[key])
    if len(lacking) == events[key].nunique():
        raise PrepError(
            f"no {key} of the interactions, e.g. {lacking[0]!r}, is in its table, e.g. "
            f"{entities[key].iloc[0]!r}; check the key"
        )
    if len(lacking):
        record.note(f"{len(lacking):,} {key} are not in their table, e.g. {lacking[0]}: kept, without text")
    if only_seen:
        seen = entities[entities[key].isin(events[key])]
        record.step(
            f"{key} without interactions", len(entities), len(seen), "nothing is known of what they do"
        )
        entities = seen
    return pd.concat([entities, pd.DataFrame({key: lacking})], ignore_index=True)


def _typed_columns(text):
    """``rating:float,channel:token`` as a dict."""
    pairs = [part.partition(":") for part in text.split(",") if part]
    return {column: kind or "token" for column, _, kind in pairs}


def main(arguments=None):
    """Command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m dataset_prep.table", description="your own tables -> atomic files"
    )
    parser.add_argument("--name", required=True, help="the data set's name")
    parser.add_argument("--inter", required=True, help="interactions: .csv .tsv .jsonl .parquet")
    parser.add_argument("--user", required=True, help="column of users")
    parser.add_argument("--item", required=True, help="column of items")
    parser.add_argument(
        "--time", help="column of times: numbers or ISO-8601 dates (default: the order of the rows)"
    )
    parser.add_argument(
        "--time_unit", choices=UNITS, default="s", help="what numeric times count (default: s)"
    )
    parser.add_argument("--items", help="table of items")
    parser.add_argument("--item_key", help="its id column (default: as --item)")
    parser.add_argument("--text", default="", help="its text columns, e.g. title,description")
    parser.add_argument("--users", help="table of users")
    parser.add_argument("--user_key", help="its id column (default: as --user)")
    parser.add_argument(
        "--columns", default="", help="more columns with types, e.g. rating:float,brand:token"
    )
    parser.add_argument(
        "--sep", dest="separator", help="separator of the CSV files (default: comma; tab in .tsv)"
    )
    parser.add_argument("--k_user", type=int, default=0, help="least interactions of a user")
    parser.add_argument("--k_item", type=int, default=0, help="least interactions of an item")
    parser.add_argument("--distinct", action="store_true", help="keep the first of a user with an item")
    parser.add_argument("--out", default="dataset", help="folder of data sets (default: dataset)")
    given = vars(parser.parse_args(arguments))
    given["text"] = [column for column in given["text"].split(",") if column]
    given["columns"] = _typed_columns(given["columns"])
    try:
        print(prepare(**given))
    except PrepError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
