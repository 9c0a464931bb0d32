"""One's own tables -> atomic files in one command."""

import gzip
import json

import pandas as pd
import pytest

from dataset_prep import table
from dataset_prep.atomic import PrepError, check_atomic

SALES = "customer,sku,ts,stars\nann,7,30,5\nbob,8,10,4.5\nann,8,20,\n"
CATALOGUE = 'sku,title,description,unused\n7,"A ""good""\nchair",soft,x\n8,Table,,y\n9,Lamp,bright,z\n'


def prepare(tmp_path, inter, file="sales.csv", **options):
    path = tmp_path / file
    path.write_text(inter)
    return table.prepare(
        "shop", path, "customer", "sku", options.pop("time", "ts"), out=tmp_path / "out", **options
    )


def text_of(directory, suffix):
    return (directory / f"shop.{suffix}").read_text("utf-8")


def test_one_command_prepares_a_shop(tmp_path, capsys):
    (tmp_path / "sales.csv").write_text(SALES)
    (tmp_path / "catalogue.csv").write_text(CATALOGUE)
    (tmp_path / "people.csv").write_text("id,age\nann,31\nbob,40\ncarl,50\n")
    table.main(
        f"--name shop --inter {tmp_path}/sales.csv --user customer --item sku --time ts "
        f"--columns stars:float,age:token --items {tmp_path}/catalogue.csv --text title,description "
        f"--users {tmp_path}/people.csv --user_key id --out {tmp_path}/out".split()
    )
    directory = tmp_path / "out" / "shop"
    assert capsys.readouterr().out.splitlines()[-1] == str(directory)
    assert text_of(directory, "inter") == (
        "user_id:token\titem_id:token\ttimestamp:float\tstars:float\n"
        "ann\t8\t20\t\nann\t7\t30\t5\nbob\t8\t10\t4.5\n"
    )
    assert text_of(directory, "item") == (
        "item_id:token\ttitle:token_seq\tdescription:token_seq\n"
        '7\tA "good" chair\tsoft\n8\tTable\t\n9\tLamp\tbright\n'
    )
    assert text_of(directory, "user") == "user_id:token\tage:token\nann\t31\nbob\t40\n"
    prep = json.loads((directory / "prep.json").read_text())
    assert prep["cleaned"] == {"title": 1}
    assert [(step["step"], step["before"], step["after"]) for step in prep["steps"]] == [
        ("user_id without interactions", 3, 2)
    ]
    check_atomic(directory, "shop")


def test_every_kind_of_file_gives_the_same_data(tmp_path):
    frame = pd.DataFrame({"customer": ["ann", "bob"], "sku": [7, 8], "ts": [30, 10]})
    (tmp_path / "a.tsv").write_text(frame.to_csv(sep="\t", index=False))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + frame.to_csv(index=False, sep=";").encode())
    (tmp_path / "a.jsonl").write_text(frame.to_json(orient="records", lines=True) + "\n\n")
    frame.to_parquet(tmp_path / "a.parquet")
    contents = []
    for file, separator in (
        ("a.tsv", None),
        ("a.csv.gz", None),
        ("a.csv", ";"),
        ("a.jsonl", None),
        ("a.parquet", None),
    ):
        out = tmp_path / file.replace(".", "_")
        directory = table.prepare(
            "shop", tmp_path / file, "customer", "sku", "ts", out=out, separator=separator
        )
        contents.append(text_of(directory, "inter"))
    assert contents == ["user_id:token\titem_id:token\ttimestamp:float\nann\t7\t30\nbob\t8\t10\n"] * 5


def test_half_of_an_emoji_in_json_lines_is_replaced(tmp_path):
    row = '{"customer": "a", "sku": 1, "ts": 1, "note": "half \\ud83d"}\n'
    directory = prepare(tmp_path, row, "s.jsonl", columns={"note": "token_seq"})
    assert text_of(directory, "inter").splitlines()[1] == "a\t1\t1\thalf ?"


@pytest.mark.parametrize(
    ("times", "unit", "expected"),
    [
        (["2024-01-31", "2024-01-31T12:00:00Z"], "s", ["1706659200", "1706702400"]),
        (["2024-01-31T13:00:00+01:00", "2024-01-31 12:00:00.25"], "s", ["1706702400", "1706702400.25"]),
        (["1706702400000", "1706702400250"], "ms", ["1706702400", "1706702400.25"]),
        (["1706702400000000000", "1706702401000000000"], "ns", ["1706702400", "1706702401"]),
        (["1e9", "1000000001.5"], "s", ["1000000000", "1000000001.5"]),
    ],
)
def test_times_are_numbers_or_dates(tmp_path, times, unit, expected):
    rows = "".join(f"ann,{place},{time}\n" for place, time in enumerate(times))
    directory = prepare(tmp_path, "customer,sku,ts\n" + rows, time_unit=unit)
    assert [line.split("\t")[2] for line in text_of(directory, "inter").splitlines()[1:]] == expected


def test_dates_of_parquet_files_are_times(tmp_path):
    frame = pd.DataFrame({"customer": ["ann"], "sku": ["7"], "ts": pd.to_datetime(["2024-01-31 12:00"])})
    frame.to_parquet(tmp_path / "a.parquet")
    directory = table.prepare("shop", tmp_path / "a.parquet", "customer", "sku", "ts", out=tmp_path / "out")
    assert text_of(directory, "inter").splitlines()[1] == "ann\t7\t1706702400"


def test_without_times_the_order_of_rows_is_the_order_of_time(tmp_path):
    directory = prepare(tmp_path, "customer,sku\nann,7\nbob,8\nann,9\n", time=None)
    assert text_of(directory, "inter").splitlines()[1:] == ["ann\t7\t1", "ann\t9\t2", "bob\t8\t1"]
    assert "rows are taken to be in order" in (directory / "prep.json").read_text()


def test_filters_drop_rare_users_items_and_repeats(tmp_path):
    rows = "".join(
        f"{user},{sku},{time}\n"
        for time, (user, sku) in enumerate(["a7", "a8", "a7", "b7", "b8", "c7", "b9"])
    )
    (tmp_path / "catalogue.csv").write_text(CATALOGUE)
    directory = prepare(
        tmp_path, "customer,sku,ts\n" + rows, k_user=2, k_item=2, distinct=True,
        items=tmp_path / "catalogue.csv", text=["title"],
    )  # fmt: skip
    assert [line.split("\t")[:2] for line in text_of(directory, "inter").splitlines()[1:]] == [
        ["a", "7"], ["a", "8"], ["b", "7"], ["b", "8"],
    ]  # fmt: skip
    assert [line.split("\t")[0] for line in text_of(directory, "item").splitlines()[1:]] == ["7", "8"]
    steps = json.loads((directory / "prep.json").read_text())["steps"]
    assert [(step["step"], step["before"], step["after"]) for step in steps] == [
        ("repeated interactions", 7, 6),
        ("k-core", 6, 4),
        ("item_id without interactions", 3, 2),
    ]


def test_items_missing_from_the_catalogue_are_kept_without_text(tmp_path):
    (tmp_path / "catalogue.csv").write_text("sku,title\n7,Chair\n")
    directory = prepare(tmp_path, SALES, items=tmp_path / "catalogue.csv", text=["title"])
    assert text_of(directory, "item").splitlines()[1:] == ["7\tChair", "8\t"]
    assert "1 item_id are not in their table, e.g. 8" in (directory / "prep.json").read_text()


@pytest.mark.parametrize(
    ("inter", "file", "message"),
    [
        (
            SALES.replace(",", ";"),
            "s.csv",
            "s.csv:1: no column `customer`, only .*; fields seem to be parted by ';': give --sep",
        ),
        (SALES.replace("ts", "when"), "s.csv", "s.csv:1: no column `ts`, only customer, sku, when, stars"),
        (SALES.replace("10", "noon"), "s.csv", r"s.csv:3: ts 'noon' is not a number \(1 rows\)"),
        (SALES.replace("10", ""), "s.csv", "s.csv:3: ts '' is not a number"),
        (SALES.replace("10", "inf"), "s.csv", "s.csv:3: ts 'inf' is not finite"),
        (
            SALES.replace("30", "x").replace("10", "y").replace("20", "2024-01-01"),
            "s.csv",
            "s.csv:2: ts 'x' is neither",
        ),
        (
            SALES.replace("bob", " "),
            "s.csv",
            "s.csv:3: customer ' ' is empty .* every interaction needs its user",
        ),
        (
            SALES.replace("4.5", "good"),
            "s.csv",
            "s.csv:3: stars 'good' is not a number .* give the column the type token",
        ),
        (SALES + "bob,9,40,1,2\n", "s.csv", "s.csv: Expected 4 fields in line 5, saw 5; quote the text"),
        (
            SALES.replace(",30,5", ",30,5,9").replace("4.5", "4,5").replace("20,", "20,,"),
            "s.csv",
            "s.csv:2: more fields",
        ),
        (SALES.splitlines()[0] + "\n", "s.csv", "s.csv has a header and no row"),
        ("", "s.csv", "s.csv is empty"),
        (SALES, "s.xls", "s.xls: expected a table of .csv"),
        ('{"customer": "a", "sku": 1, "ts": 1}\n{"customer": "a"\n', "s.jsonl", "s.jsonl:2: not JSON"),
        ('\n{"customer": "a", "sku": 1}\n', "s.jsonl", "s.jsonl:2: no field `ts`, only customer, sku"),
        (
            '\n\n{"customer": "a", "sku": 1, "ts": "x"}\n',
            "s.jsonl",
            "s.jsonl:3: ts 'x' is neither a number nor",
        ),
        ("[1]\n", "s.jsonl", "s.jsonl:1: a list, expected one object"),
        ("junk", "s.parquet", "s.parquet is damaged"),
        (SALES, "s.csv.gz", "s.csv.gz is damaged"),
    ],
)
def test_bad_interactions_are_refused_with_file_line_and_cure(tmp_path, inter, file, message):
    with pytest.raises(PrepError, match=message):
        prepare(tmp_path, inter, file, columns={"stars": "float"})
    assert not (tmp_path / "out").exists()


def test_the_line_is_right_after_quoted_line_breaks(tmp_path):
    inter = 'customer,sku,ts,note\nann,7,1,"two\nlines"\n\nbob,8,soon,"a\nb"\n'
    with pytest.raises(PrepError, match="s.csv:5: ts 'soon' is not a number"):
        prepare(tmp_path, inter, "s.csv")


@pytest.mark.parametrize(
    ("catalogue", "options", "message"),
    [
        ("sku,title\n7,Chair\n8,Table\n7,Stool\n", {}, "c.csv:4: sku '7' stands a second time"),
        ("sku,title\n7,Chair\n,Table\n", {}, "c.csv:3: sku '' is empty"),
        ("id,title\n7,Chair\n", {}, "c.csv:1: no column `sku`, only id, title"),
        ("sku,name\n7,Chair\n", {}, "none of the tables has the column `title`"),
        ("sku,title\nA7,Chair\n", {}, "no item_id of the interactions, e.g. '7', is in its table, e.g. 'A7'"),
        (
            "sku,title\n7,Chair\n",
            {"columns": {"stars": "number"}},
            "column `stars` has the type 'number', expected one of",
        ),
        (
            "sku,title\n7,Chair\n",
            {"k_user": 9},
            "no interaction of 3 is left with k_user 9, k_item 0; lower them",
        ),
    ],
)
def test_bad_catalogues_and_options_are_refused(tmp_path, catalogue, options, message):
    (tmp_path / "c.csv").write_text(catalogue)
    with pytest.raises(PrepError, match=message):
        prepare(tmp_path, SALES, items=tmp_path / "c.csv", text=["title"], **options)


def test_atomic_files_of_another_hand_are_never_overwritten(tmp_path, capsys):
    (tmp_path / "out" / "shop").mkdir(parents=True)
    (tmp_path / "out" / "shop" / "shop.inter").write_text("mine")
    with pytest.raises(
        PrepError, match="shop holds atomic files that dataset_prep did not write; choose another name"
    ):
        prepare(tmp_path, SALES)
    arguments = (
        f"--name shop --inter {tmp_path}/sales.csv --user customer --item sku --time ts --out {tmp_path}/out"
    )
    with pytest.raises(SystemExit, match="1"):
        table.main(arguments.split())
    assert "choose another name" in capsys.readouterr().err
    assert (tmp_path / "out" / "shop" / "shop.inter").read_text() == "mine"
