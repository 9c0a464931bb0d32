"""Atomic files: what is written is what RecBole reads, and what RecBole would misread is refused."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_prep.atomic import (
    PrepError,
    Record,
    _write_table,
    check_atomic,
    chronological,
    clean_text,
    k_core,
    state_of,
    write_atomic,
)
from dataset_prep.cells import READ_AS_MISSING, float_cells

TITLES = {"title": "token_seq"}


def events(rows):
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


def read_as_recbole_does(path):
    """Cells as RecBole 1.2.1 reads them: pandas' Python engine, csv quoting on."""
    return pd.read_csv(path, delimiter="\t", dtype=str, engine="python").fillna("")


def test_files_have_typed_headers_line_feeds_and_sorted_rows(tmp_path):
    inter = events([("u2", "a", 5), ("u1", "b", 9), ("u2", "c", 3), ("u1", "a", 9)])
    item = pd.DataFrame({"item_id": ["a", "b", "c"], "title": ["One\ttwo\n", '"Quoted" it', None]})
    record = Record("toy", {})
    write_atomic(tmp_path, "toy", inter, item, types=TITLES, record=record)
    assert (tmp_path / "toy.inter").read_bytes() == (
        b"user_id:token\titem_id:token\ttimestamp:float\nu2\tc\t3\nu2\ta\t5\nu1\tb\t9\nu1\ta\t9\n"
    )
    assert (tmp_path / "toy.item").read_text("utf-8") == (
        "item_id:token\ttitle:token_seq\na\tOne two\nb\t“Quoted” it\nc\t\n"
    )
    assert record.cleaned == {"title": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy.inter", "toy.item"]


def test_ties_in_time_keep_the_file_order():
    inter = events([("u", f"i{row}", 7) for row in range(200)] + [("v", "x", 1), ("u", "first", 6)])
    assert chronological(inter)["item_id"].tolist() == ["first", *(f"i{row}" for row in range(200)), "x"]


def test_times_are_whole_numbers_however_they_are_held(tmp_path):
    inter = events([("u", "a", 978300760.0), ("u", "b", 1e9), ("u", "c", 1.6e9 + 1)])
    write_atomic(tmp_path, "toy", inter)
    lines = (tmp_path / "toy.inter").read_text().splitlines()[1:]
    assert [line.split("\t")[2] for line in lines] == ["978300760", "1000000000", "1600000001"]


def test_float32_times_are_refused(tmp_path):
    inter = events([("u", "a", 978300760)]).astype({"timestamp": "float32"})
    with pytest.raises(PrepError, match="toy.inter: timestamp is float32, which rounds Unix seconds by 64 s"):
        write_atomic(tmp_path, "toy", inter)
    assert not list(tmp_path.iterdir())


@given(st.lists(st.floats(allow_infinity=False) | st.integers(-(2**53), 2**53).map(float), min_size=1))
def test_floats_come_back_exactly_and_without_exponent(numbers):
    cells = float_cells(pd.Series(numbers, dtype="float64"), "column")
    assert not any("e" in cell for cell in cells)
    back = [float(cell) if cell else np.nan for cell in cells]
    np.testing.assert_array_equal(back, numbers)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cn", "Cs"]), max_size=12), min_size=1, max_size=6))
def test_any_text_reads_the_same_with_csv_quoting_on_and_off(texts):
    item = pd.DataFrame({"item_id": np.arange(len(texts)), "title": texts, "brand": texts[::-1]})
    written = io.BytesIO()
    types = TITLES | {"item_id": "token", "brand": "token"}
    _write_table(written, item, types, "toy.item", dict.fromkeys(item, 0))
    expected = ["" if cell in READ_AS_MISSING else cell for cell in map(clean_text, texts)]
    assert read_as_recbole_does(io.BytesIO(written.getvalue()))["title:token_seq"].tolist() == expected


@pytest.mark.parametrize("word", sorted(READ_AS_MISSING))
def test_the_words_refused_as_ids_are_those_that_pandas_drops(word):
    assert pd.read_csv(io.StringIO(f"id\tx\n{word}\t1\n"), delimiter="\t", engine="python")["id"].isna().all()


def test_cleaning_is_idempotent_and_keeps_inner_quotes():
    assert clean_text('  "A"\x00 "b"\u2028c ') == '“A” "b" c'
    assert clean_text('"open') == "“open"
    assert clean_text("lone \ud83d surrogate") == "lone surrogate"
    assert clean_text(clean_text('""')) == clean_text('""') == "“”"


@pytest.mark.parametrize(
    ("inter", "item", "types", "message"),
    [
        ([("u", "NA", 1)], None, {}, "toy.inter, column item_id: the id 'NA' is read by RecBole as missing"),
        ([("u", "[PAD]", 1)], None, {}, r"the id '\[PAD\]' is read by RecBole as missing or as padding"),
        ([("u", " ", 1)], None, {}, "the id '' is read by RecBole as missing"),
        ([("u", None, 1), ("u", "b", 2)], None, {}, "toy.inter, column item_id: row 1 has no id"),
        ([("u", "a b", 1), ("u", "a  b", 2)], None, {}, "two ids become 'a b' once cleaned"),
        ([("u", "a", None), ("u", "b", 2)], None, {}, "toy.inter: row 1 has no timestamp"),
        ([("u", "a", "soon")], None, {}, "toy.inter: timestamp is str, expected integers or float64"),
        ([], None, {}, "toy.inter would have no row"),
        ([("u", "a", 1)], {"item_id": ["a", "b", "a"]}, {}, "toy.item: 1 repeated item_id, e.g. 'a'"),
        ([("u", "a", 1)], {"sku": ["a"]}, {}, "toy.item has no column `item_id`, only sku"),
        ([("u", "a", 1)], {"item_id": ["a"], "t": ["x"]}, {}, "toy.item: column `t` has the type None"),
        (
            [("u", "a", 1)],
            {"item_id": ["a"], "t": ["x"]},
            {"t": "float"},
            "toy.item, t: a value is not a number",
        ),
        (
            [("u", "a", 1)],
            {"item_id": ["a"], "t": [np.inf]},
            {"t": "float"},
            "toy.item, t: a value is infinite",
        ),
        ([("u", "a", 1)], {"item_id": ["a"], "t": ["1 x"]}, {"t": "float_seq"}, "row 1 holds 'x'"),
    ],
)
def test_bad_tables_are_refused_and_nothing_is_left_behind(tmp_path, inter, item, types, message):
    with pytest.raises(PrepError, match=message):
        write_atomic(
            tmp_path, "toy", events(inter), None if item is None else pd.DataFrame(item), types=types
        )
    assert not list(tmp_path.iterdir())


def test_k_core_drops_in_rounds_and_counts_them():
    inter = events([("u", "a", 1), ("u", "b", 2), ("v", "a", 3), ("v", "b", 4), ("w", "b", 5), ("w", "c", 6)])
    core, rounds = k_core(inter, 2, 2)
    assert core[["user_id", "item_id"]].agg("".join, axis=1).tolist() == ["ua", "ub", "va", "vb"]
    assert rounds == [
        {"users": 0, "items": 1, "interactions": 1},
        {"users": 1, "items": 0, "interactions": 1},
    ]
    assert k_core(inter, 0, 0)[0].equals(inter)
    assert k_core(inter, 3, 0)[0].empty


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_k_core_equals_the_one_by_one_definition(pairs, k_user, k_item):
    rest = list(pairs)
    while True:
        bad = [
            p
            for p in rest
            if sum(q[0] == p[0] for q in rest) < k_user or sum(q[1] == p[1] for q in rest) < k_item
        ]
        if not bad:
            break
        rest.remove(bad[0])
    core, rounds = k_core(pd.DataFrame(pairs, columns=["user_id", "item_id"], dtype="int64"), k_user, k_item)
    assert list(core.itertuples(index=False, name=None)) == rest
    assert sum(entry["interactions"] for entry in rounds) == len(pairs) - len(rest)


GOOD = "user_id:token\titem_id:token\ttimestamp:float\nu\ta\t1\nu\tb\t2\n"


def test_a_good_data_set_passes_the_check(tmp_path):
    (tmp_path / "toy.inter").write_text(GOOD.replace("\n", "\r\n"))
    (tmp_path / "toy.item").write_text("item_id:token\tprice:float\na\t\nb\t1.5")
    assert check_atomic(tmp_path, "toy") == {
        "inter": {"rows": 2, "columns": {"user_id": "token", "item_id": "token", "timestamp": "float"}},
        "item": {"rows": 2, "columns": {"item_id": "token", "price": "float"}},
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "toy.inter does not exist; prepare the data set"),
        ("", "toy.inter is empty"),
        (GOOD[: GOOD.index("\n") + 1], "toy.inter has a header and no row"),
        (GOOD.replace("\t", ","), r"toy.inter:1: fields are parted by ',', expected a tab"),
        (GOOD.replace(":float", ""), "toy.inter:1: the header field 'timestamp' has no type"),
        (GOOD.replace("user_id", "item_id"), "toy.inter:1: a column stands twice"),
        (
            GOOD.replace("timestamp", "time"),
            "toy.inter:1: no column `timestamp`, only user_id, item_id, time",
        ),
        (GOOD.replace("b\t2", "b\t2\t3"), "toy.inter:3: 4 fields, the header has 3"),
        (GOOD.replace("u\ta\t1", "u\ta"), "toy.inter:2: 2 fields, the header has 3"),
        (GOOD.replace("u\tb", "\tb"), "toy.inter:3: user_id is empty"),
        (GOOD.replace("\t2", "\tyesterday"), "toy.inter:3: timestamp 'yesterday' is not a number"),
        (GOOD.replace("\t2", "\t"), "toy.inter:3: timestamp '' is not a number"),
        (GOOD.replace("\tb", '\t"b'), 'toy.inter:3: a field begins with " and the quote is not closed'),
        (GOOD.encode("utf-16-le"), "toy.inter:1"),
        (GOOD.replace("\tb", "\té").encode("latin-1"), "toy.inter:3: not UTF-8 .byte 0xe9."),
    ],
)
def test_bad_interactions_are_refused_by_line(tmp_path, content, message):
    if content is not None:
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "toy.inter").write_bytes(data)
    with pytest.raises(PrepError, match=message):
        check_atomic(tmp_path, "toy")


def test_repeated_item_ids_are_refused_by_line(tmp_path):
    (tmp_path / "toy.inter").write_text(GOOD)
    (tmp_path / "toy.item").write_text("item_id:token\na\nb\na\n")
    with pytest.raises(PrepError, match="toy.item:4: item_id 'a' stands here a second time"):
        check_atomic(tmp_path, "toy")


def test_the_record_tells_ready_stale_foreign_and_damaged_apart(tmp_path):
    raw = tmp_path / "raw.csv"
    raw.write_text("x")
    out = tmp_path / "toy"
    assert state_of(out, "toy", {}) == "absent"
    record = Record("toy", {"k": 5})
    record.read(raw, {"raw.csv": 1})
    write_atomic(out, "toy", events([("u", "a", 1)]), record=record)
    assert state_of(out, "toy", {"k": 5}) == "foreign"
    record.finish(out)
    assert state_of(out, "toy", {"k": 5}) == "ready"
    assert state_of(out, "toy", {"k": 5}, raw_path=tmp_path) == "ready"
    assert state_of(out, "toy", {"k": 5}, raw_path=tmp_path / "other") == "stale"
    assert state_of(out, "toy", {"k": 4}) == "stale"
    raw.write_text("xy")
    assert state_of(out, "toy", {"k": 5}) == "stale"
    (out / "toy.inter").write_text(GOOD)
    with pytest.raises(
        PrepError, match="toy.inter is not the file that was prepared .* delete prep.json to use"
    ):
        state_of(out, "toy", {"k": 5})
    (out / "prep.json").write_text("{")
    with pytest.raises(PrepError, match="prep.json cannot be read"):
        state_of(out, "toy", {"k": 5})


def test_the_record_names_inputs_steps_and_outputs_with_hashes(tmp_path, capsys):
    record = Record("toy", {})
    record.step("5-core", 10, 7, "too few")
    write_atomic(tmp_path, "toy", events([("u", "a", 1)]), record=record)
    record.finish(tmp_path)
    prep = json.loads((tmp_path / "prep.json").read_text())
    assert prep["steps"] == [{"step": "5-core", "before": 10, "after": 7, "why": "too few"}]
    assert prep["command"] == "pytest"
    (output,) = prep["outputs"]
    assert output["rows"] == 1 and output["columns"][2] == "timestamp:float"
    assert len(output["sha256"]) == 64
    assert "3 of 10" in capsys.readouterr().out


def test_a_new_preparation_takes_the_old_one_away_and_leaves_foreign_files(tmp_path):
    users = pd.DataFrame({"user_id": ["u"]})
    record = Record("toy", {})
    write_atomic(tmp_path, "toy", events([("u", "a", 1)]), user=users, record=record)
    record.finish(tmp_path)
    (tmp_path / "toy.kg").write_text("mine")
    write_atomic(tmp_path, "toy", events([("u", "b", 1)]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy.inter", "toy.kg"]
