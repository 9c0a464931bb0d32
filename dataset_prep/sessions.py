r"""Histories -> sessions: cut where a user paused, filtered, and divided into parts that any model can be run on.

    python -m dataset_prep.sessions --dataset=ml-1m --gap_minutes=10 --targets=last
    python -m dataset_prep.sessions --dataset=amazon-beauty --gap_minutes=none --targets=all

Reads the atomic files of ``--dataset`` (prepared when they are not there) and writes others, called
``<dataset>-sessions`` unless ``--name`` says otherwise. A session stands there as a user: ``17.3`` is the third one of
user 17, and where a whole history is one session (``--gap_minutes=none``) it keeps its user's name.

The filters, in this order, each with its counts in ``prep.json``: users whose times are counts (1, 2, 3, ...: gaps
between them say nothing; where sessions are cut), items with fewer than ``--k_item`` events, sessions of one event.

The events stay as they are. Each says in the columns ``paper``, ``clean`` and ``every`` which part it is a target of:
train, valid, test, or none, and then it is no more than read (``session_parts.py``). So one data set has four roads:
``split_column: paper``, ``clean`` or ``every``, and without that key RecBole's leave-one-out. Ready-made rows
(RecBole's ``benchmark_filename``) would hold every prefix in full, and neither ranks, nor seen items, nor leaks could
be told of them.

Protocol: Shutong Qiao et al., "Multi-view Intent Learning and Alignment with Large Language Models for Session-based
Recommendation" (LLM4SBR), 2024, https://arxiv.org/abs/2402.13840; the filters are those of SR-GNN.
"""

import argparse
import csv
from pathlib import Path

import pandas as pd

from dataset_prep import prepare as prepare_source
from dataset_prep.atomic import Record, chronological, own_state_of, write_atomic
from dataset_prep.errors import PrepError
from dataset_prep.gaps import TIME, are_counts, cut
from dataset_prep.session_parts import CLEAN, EVERY, PAPER, clean_parts, every_parts, paper_parts, targets_of

SPLITS = (PAPER, CLEAN, EVERY)  # columns of the events


def prepare(
    dataset,
    name=None,
    *,
    gap_minutes=10,
    targets="all",
    k_item=5,
    test_share=0.1,
    valid_share=0.1,
    seed=2020,
    raw_path=None,
    out="dataset",
):
    """Folder of atomic files of sessions; made when it is not there yet.

    Parameters
    ----------
    dataset : str
        The data set whose histories are cut; prepared if it can be by name.
    name : str, optional
        The name of the sessions' data set; ``<dataset>-sessions`` by default.
    gap_minutes : float or None
        A longer pause ends a session; None: a user's whole history is one session.
    targets : {"all", "last"}
        What a session is asked for: every event but its first (SR-GNN's prefixes), or its last alone.
    k_item : int
        Items with fewer events are dropped; 0 keeps all.
    test_share, valid_share : float
        The test part, as a share of all; the validation part, as a share of what is then left.
    seed : int
        Of what is drawn.
    raw_path : path, optional
        Where the raw files of ``dataset`` are.
    out : path
        The folder of data sets.

    Returns
    -------
    Path
        ``<out>/<name>``.

    Raises
    ------
    PrepError
        For times that cannot be cut, settings that cannot be, and where too little is left.
    """
    name = name or f"{dataset}-sessions"
    settings = {"dataset": dataset, "gap_minutes": gap_minutes, "targets": targets, "k_item": k_item}
    settings |= {"test_share": test_share, "valid_share": valid_share, "seed": seed}
    _check_settings(name, settings)
    source = Path(prepare_source(dataset, raw_path, out))
    directory = Path(out) / name
    if own_state_of(directory, name, settings) == "ready":
        return directory
    record = Record(name, settings)
    events = _read(source, dataset, record)
    if gap_minutes is not None:
        events = _timed(events, source / f"{dataset}.inter", record)
    events = _dropped(events, "item_id", k_item, f"items with fewer than {k_item} events", record)
    has_clock = gap_minutes is not None or not are_counts(events["user_id"], events[TIME]).any()
    if gap_minutes is not None:
        events["user_id"] = cut(events, gap_minutes)
    events = _dropped(events, "user_id", 2, "sessions of one event", record)
    is_target = targets_of(events, targets)
    events[PAPER] = paper_parts(is_target, test_share, valid_share, seed)
    shares = test_share, valid_share, None if has_clock else seed
    events[CLEAN] = clean_parts(events, is_target, *shares)
    events[EVERY] = every_parts(events, is_target, *shares)
    _note(events, is_target, has_clock, record)
    items, types = _items(source, dataset, events)
    write_atomic(directory, name, events, items, None, types | dict.fromkeys(SPLITS, "token"), record)
    record.finish(directory)
    return directory


def _check_settings(name, settings):
    gap, targets = settings["gap_minutes"], settings["targets"]
    if name == settings["dataset"]:
        raise PrepError(f"name is {name}, as the data set that is read is called; choose another one")
    if gap is not None and not 0 < gap < float("inf"):
        raise PrepError(
            f"gap_minutes is {gap}, expected more than 0, or none: a whole history is then one session"
        )
    if targets not in ("all", "last"):
        raise PrepError(f"targets is {targets!r}, expected all (every event but the first) or last")
    for key in ("test_share", "valid_share"):
        if not 0 < settings[key] < 1:
            raise PrepError(f"{key} is {settings[key]}, expected more than 0 and less than 1")


def _read(source, dataset, record):
    """Users, items and times, user by user in order of time."""
    path = source / f"{dataset}.inter"
    table = _table(path)
    record.read(path, {path.name: len(table)})
    events = table[["user_id", "item_id"]].copy()
    exact = pd.to_numeric(table[TIME])
    events[TIME] = exact.astype("int64") if (exact % 1 == 0).all() else exact
    return chronological(events)


def _table(path):
    """An atomic file as text, its columns without their types."""
    table = pd.read_csv(path, sep="\t", quoting=csv.QUOTE_NONE, dtype=str, keep_default_na=False)
    return table.rename(columns=lambda column: column.rpartition(":")[0])


def _timed(events, path, record):
    """The events of users with a clock's times."""
    if events[TIME].nunique() == 1:
        raise PrepError(
            f"{path}: all {len(events):,} events have the time {events[TIME].iloc[0]}, and sessions are cut at gaps "
            "in time; give --gap_minutes=none: a whole history is then one session"
        )
    is_count = are_counts(events["user_id"], events[TIME])
    kept = events[~is_count].reset_index(drop=True)
    if kept.empty:
        raise PrepError(
            f"{path}: the times of all {events['user_id'].nunique():,} users are counts (1, 2, 3, ...), and sessions "
            "are cut at gaps in time; give --gap_minutes=none: a whole history is then one session"
        )
    if is_count.any():
        record.step(
            "users without a clock", len(events), len(kept), "their times count 1, 2, 3, ...: no gaps"
        )
    return kept


def _dropped(events, column, least, what, record):
    """The events whose ``column`` has ``least`` events or more."""
    size = events.groupby(column)[column].transform("size")
    kept = events[size >= least].reset_index(drop=True)
    if kept.empty:
        raise PrepError(
            f"no event of {len(events):,} is left without {what}; lower --k_item, or raise --gap_minutes"
        )
    values = f"{events[column].nunique() - kept[column].nunique():,} of {events[column].nunique():,}"
    record.step(what, len(events), len(kept), f"{values} dropped")
    return kept


def _note(events, is_target, has_clock, record):
    """What was made, in numbers; too few sessions are refused."""
    sessions = events["user_id"].nunique()
    if sessions < 3:
        raise PrepError(
            f"{sessions} session{'s' * (sessions > 1)} of {len(events):,} events left, expected 3 or more: training, "
            "validation and test need one each; lower --gap_minutes or --k_item"
        )
    for column in SPLITS:
        counts = events[column].value_counts()
        lacking = [part for part in ("train", "valid", "test") if part not in counts]
        if lacking:
            raise PrepError(
                f"{sessions:,} sessions with {is_target.sum():,} targets are too few: the {' and '.join(lacking)} part "
                f"of the {column} split would be empty; raise --test_share and --valid_share"
            )
        shares = ", ".join(f"{part} {counts[part]:,}" for part in ("train", "valid", "test"))
        record.note(f"{column}: {shares} targets")
    record.note(
        f"{sessions:,} sessions of {len(events):,} events and {events['item_id'].nunique():,} items, "
        f"{len(events) / sessions:.2f} events a session"
    )
    if not has_clock:
        record.note("clean: times do not compare between sessions, so whole sessions were drawn by the seed")


def _items(source, dataset, events):
    """The rows of the items that are left, and their columns' types; None where there is no such file."""
    path = source / f"{dataset}.item"
    if not path.exists():
        return None, {}
    items = _table(path)
    with path.open(encoding="utf-8") as file:
        types = dict(column.rpartition(":")[::2] for column in file.readline().rstrip("\r\n").split("\t"))
    return items[items["item_id"].isin(events["item_id"])].reset_index(drop=True), types


def _minutes(text):
    return None if text.lower() == "none" else float(text)


def main(arguments=None):
    """Command line of this module, and of ``recbole-llm prep sessions``."""
    parser = argparse.ArgumentParser(
        prog="python -m dataset_prep.sessions", description="histories -> sessions, as atomic files"
    )
    parser.add_argument("--dataset", required=True, help="whose histories are cut")
    parser.add_argument("--name", help="the sessions' data set (default: <dataset>-sessions)")
    parser.add_argument(
        "--gap_minutes",
        type=_minutes,
        default=10,
        help="a longer pause ends a session (default: 10), or none",
    )
    parser.add_argument("--targets", default="all", help="all: every event but the first (default), or last")
    parser.add_argument("--k_item", type=int, default=5, help="least events of an item (default: 5)")
    parser.add_argument("--test_share", type=float, default=0.1, help="of all targets (default: 0.1)")
    parser.add_argument("--valid_share", type=float, default=0.1, help="of what is left (default: 0.1)")
    parser.add_argument("--seed", type=int, default=2020, help="of what is drawn (default: 2020)")
    parser.add_argument(
        "--raw_path", help="raw files of the data set (default: RECBOLE_LLM_RAW, else download)"
    )
    parser.add_argument(
        "--data_path", dest="out", default="dataset", help="folder of data sets (default: dataset)"
    )
    try:
        print(prepare(**vars(parser.parse_args(arguments))))
    except PrepError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
