"""Histories cut into sessions, their filters and their two splits, and the counts of real data where it is at hand."""

import json

import numpy as np
import pandas as pd
import pytest

from dataset_prep import PrepError, sessions
from dataset_prep.gaps import cut
from dataset_prep.session_parts import clean_parts, paper_parts, targets_of
from recbole_llm import cli

DAY = 1_600_000_000


def write(folder, rows, name="shop", columns="user_id:token\titem_id:token\ttimestamp:float"):
    place = folder / name
    place.mkdir(parents=True)
    lines = ["\t".join(map(str, row)) for row in rows]
    (place / f"{name}.inter").write_text(columns + "\n" + "\n".join(lines) + "\n")
    return folder


def made(folder, name="shop", **options):
    """The events of the sessions and their ``prep.json``."""
    options = {"k_item": 0, "test_share": 0.2, "valid_share": 0.25} | options
    directory = sessions.prepare(name, out=folder, **options)
    table = pd.read_csv(directory / f"{name}-sessions.inter", sep="\t", dtype=str)
    table.columns = [column.partition(":")[0] for column in table.columns]
    return table, json.loads((directory / "prep.json").read_text())


def visits(n_users=5, n_visits=4, n_events=3):
    """Everyone comes ``n_visits`` times, an hour apart, for ``n_events`` events a minute apart."""
    return [
        (f"u{u}", f"i{(u + v + e) % 7}", DAY + 7 * u + 3600 * v + 60 * e)
        for u in range(n_users)
        for v in range(n_visits)
        for e in range(n_events)
    ]


def test_a_pause_longer_than_the_gap_ends_a_session(tmp_path):
    times = [0, 600, 1201, 1202, 1203 + 86400]
    rows = [("a", f"i{n}", DAY + time) for n, time in enumerate(times)] + [("b", "i0", DAY + 86401)] * 2
    events = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    assert cut(events, 10).tolist() == ["a.1", "a.1", "a.2", "a.2", "a.3", "b.1", "b.1"]


def test_events_are_put_in_order_first_and_ties_keep_the_order_of_the_file(tmp_path):
    rows = visits()
    rows[0], rows[1] = rows[1], rows[0]
    rows.append(("u4", "i0", rows[-1][2]))
    table, _ = made(write(tmp_path, rows))
    assert table[table["user_id"] == "u0.1"]["item_id"].tolist() == ["i0", "i1", "i2"]
    assert table[table["user_id"] == "u4.4"]["item_id"].tolist() == ["i0", "i1", "i2", "i0"]


def test_every_filter_is_named_and_counted_in_its_order(tmp_path):
    rows = visits() + [("u0", "rare", DAY + 99_999), ("u1", "i0", DAY + 99_999)]
    rows += [("counts", f"i{n}", n + 1) for n in range(5)]
    table, prep = made(write(tmp_path, rows), k_item=2)
    steps = [(step["step"], step["before"] - step["after"]) for step in prep["steps"]]
    assert steps == [
        ("users without a clock", 5),
        ("items with fewer than 2 events", 1),
        ("sessions of one event", 1),
    ]
    assert len(table) == 60 and table["user_id"].nunique() == 20
    assert "20 sessions of 60 events and 7 items, 3.00 events a session" in prep["notes"]


@pytest.mark.parametrize(("targets", "count"), [("all", 32), ("last", 16)])
def test_the_clean_split_is_of_whole_sessions_in_order_of_time(tmp_path, targets, count):
    rows = visits(n_users=4)  # visit by visit: two are trained on, one validates, one tests
    table, _ = made(write(tmp_path, rows), targets=targets, test_share=0.25, valid_share=0.34)
    table["timestamp"] = table["timestamp"].astype(int)
    aimed = table[table["clean"] != "none"]
    assert len(aimed) == count and (aimed.groupby("user_id")["clean"].nunique() == 1).all()
    assert aimed.groupby("clean")["user_id"].nunique().to_dict() == {"train": 8, "valid": 4, "test": 4}
    span = aimed.groupby("clean")["timestamp"].agg(["min", "max"])
    assert span["max"]["train"] < span["min"]["valid"] and span["max"]["valid"] < span["min"]["test"]


def test_a_target_that_is_not_later_than_training_is_none():
    """The last session begins before the one that is trained on ends."""
    events = pd.DataFrame({"user_id": [*"aaa", *"bb", *"ccc"], "timestamp": [1, 2, 9, 10, 11, 8, 10, 12]})
    part = clean_parts(events, targets_of(events, "all"), 0.34, 0.5)
    assert part.tolist() == ["none", "train", "train", "none", "valid", "none", "none", "test"]


def test_every_event_of_a_later_session_may_be_a_target_though_training_asks_for_the_last(tmp_path):
    table, prep = made(write(tmp_path, visits(n_users=4)), targets="last", test_share=0.25, valid_share=0.34)
    trains = table["clean"] == "train"
    assert (trains == (table["every"] == "train")).all() and trains.sum() == 8
    first = ~table["user_id"].duplicated()
    later = table["user_id"].isin(table["user_id"][table["clean"].isin(["valid", "test"])])
    assert (table["every"][later & ~first] != "none").all() and (table["every"][first] == "none").all()
    part_of = table[table["clean"] != "none"].set_index("user_id")["clean"]
    asked = table[table["every"] != "none"]
    assert (asked["every"] == asked["user_id"].map(part_of)).all()
    assert f"every: train 8, valid {4 * 2}, test {4 * 2} targets" in prep["notes"]


def test_the_paper_s_split_draws_targets_one_by_one_and_the_seed_says_which():
    is_target = np.arange(1000) % 5 > 0
    part = paper_parts(is_target, 0.1, 0.1, seed=1)
    assert (part[~is_target] == "none").all()
    names, counts = np.unique(part[is_target], return_counts=True)
    assert dict(zip(names, counts, strict=True)) == {"test": 80, "train": 648, "valid": 72}
    assert (part == paper_parts(is_target, 0.1, 0.1, seed=1)).all()
    assert (part != paper_parts(is_target, 0.1, 0.1, seed=2)).any()


def test_whole_histories_known_by_order_only_are_drawn_by_the_seed(tmp_path):
    rows = [(f"u{u}", f"i{n}", n + 1) for u in range(20) for n in range(4)]
    table, prep = made(write(tmp_path, rows), gap_minutes=None)
    assert set(table["user_id"]) == {f"u{u}" for u in range(20)}  # a session keeps its user's name
    aimed = table[table["clean"] != "none"]
    assert len(aimed) == 60 and (aimed.groupby("user_id")["clean"].nunique() == 1).all()
    assert "drawn by the seed" in prep["notes"][-1]
    again, _ = made(write(tmp_path / "again", rows), gap_minutes=None, seed=7)
    assert (table["clean"] != again["clean"]).any()


def test_items_keep_their_texts_and_those_without_events_go(tmp_path):
    folder = write(tmp_path, visits())
    (folder / "shop" / "shop.item").write_text(
        "item_id:token\ttitle:token_seq\n" + "".join(f"i{n}\tThing {n}\n" for n in range(9))
    )
    made(folder)
    assert (folder / "shop-sessions" / "shop-sessions.item").read_text().splitlines() == [
        "item_id:token\ttitle:token_seq",
        *(f"i{n}\tThing {n}" for n in range(7)),
    ]


def test_the_command_line_makes_them_once(tmp_path, capsys):
    folder = write(tmp_path, visits())
    words = (
        f"--dataset=shop --data_path={folder} --k_item=0 --targets=last --test_share=0.2 --valid_share=0.25"
    )
    for _ in range(2):
        cli.prep(["sessions", *words.split()])
        assert capsys.readouterr().out.splitlines()[-1] == str(folder / "shop-sessions")
    place = folder / "shop-sessions" / "prep.json"
    before = place.stat().st_mtime_ns
    cli.prep(["sessions", *words.split()])
    assert place.stat().st_mtime_ns == before
    cli.prep(["sessions", *words.split(), "--gap_minutes=none"])
    assert json.loads(place.read_text())["settings"]["gap_minutes"] is None


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (visits(), {"gap_minutes": 0}, "gap_minutes is 0, expected more than 0, or none"),
        (visits(), {"gap_minutes": -3}, "gap_minutes is -3, expected more than 0"),
        (visits(), {"targets": "some"}, "targets is 'some', expected all .* or last"),
        (visits(), {"test_share": 1.0}, "test_share is 1.0, expected more than 0 and less than 1"),
        ([("a", "i", 5), ("b", "i", 5)], {}, "all 2 events have the time 5.*give --gap_minutes=none"),
        (
            [(u, f"i{n}", n + 1) for u in "ab" for n in range(3)],
            {},
            r"times of all 2 users are counts \(1, 2, 3, ...\).*give --gap_minutes=none",
        ),
        (
            visits(1, 1, 4),
            {},
            "1 session of 4 events left, expected 3 or more.*lower --gap_minutes",
        ),
        (
            visits(),
            {"k_item": 99},
            "no event of 60 is left without items with fewer than 99 events; lower --k_item",
        ),
        (visits(9, 1, 1), {}, "no event of 9 is left without sessions of one event; .* raise --gap_minutes"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(tmp_path, rows, options, message):
    write(tmp_path, rows)
    with pytest.raises(PrepError, match=message):
        made(tmp_path, **options)


def test_gaps_need_times(tmp_path):
    write(tmp_path, [("a", "i"), ("a", "j")], columns="user_id:token\titem_id:token")
    with pytest.raises(PrepError, match="no column `timestamp`, only user_id, item_id; rename or add it"):
        made(tmp_path)


def test_too_few_targets_for_the_shares_are_refused(tmp_path):
    write(tmp_path, visits(1))
    with pytest.raises(
        PrepError, match="4 sessions with 8 targets are too few: the test part of the clean split"
    ):
        made(tmp_path, test_share=0.1)


def test_the_sessions_need_a_name_of_their_own(tmp_path):
    with pytest.raises(PrepError, match="name is shop, as the data set that is read is called"):
        sessions.prepare("shop", "shop", out=write(tmp_path, visits()))


def test_files_of_others_are_left_alone(tmp_path):
    write(write(tmp_path, visits()), visits(), name="shop-sessions")
    with pytest.raises(PrepError, match="dataset_prep did not write; choose another name"):
        made(tmp_path)


def linked(tmp_path, shared_data, name):
    (tmp_path / name).symlink_to(shared_data / "atomic" / name)
    return tmp_path


def test_amazon_beauty_has_the_paper_s_prefixes(tmp_path, shared_data):
    folder = linked(tmp_path, shared_data, "amazon-beauty")
    table, prep = made(folder, "amazon-beauty", gap_minutes=None, k_item=5, test_share=0.1, valid_share=0.1)
    assert (
        len(table) == 198_502
        and table["user_id"].nunique() == 22_363
        and table["item_id"].nunique() == 12_101
    )
    for column in ("paper", "clean", "every"):
        assert (table[column] != "none").sum() == 176_139
    assert (table["paper"] == "test").sum() == 17_614
    assert all(step["before"] == step["after"] for step in prep["steps"])


def test_ml_1m_has_sessions_where_its_times_are_true(tmp_path, shared_data):
    folder = linked(tmp_path, shared_data, "ml-1m")
    options = {"gap_minutes": 10, "targets": "last", "k_item": 5, "test_share": 0.1, "valid_share": 0.1}
    table, prep = made(folder, "ml-1m", **options)
    dropped = {step["step"]: (step["before"], step["after"]) for step in prep["steps"]}
    assert dropped == {
        "users without a clock": (1_000_209, 487_650),
        "items with fewer than 5 events": (487_650, 486_907),
        "sessions of one event": (486_907, 482_637),
    }
    assert table["user_id"].nunique() == 10_292
    times, ends = table["timestamp"].astype(int), table[table["clean"] != "none"]
    assert times.max() - times.min() > 86_400 * 365  # true times, not counts
    assert ends["clean"].value_counts().to_dict() == {"train": 8_337, "valid": 926, "test": 1_029}
