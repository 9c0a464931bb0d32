"""The three releases of the Amazon dumps -> atomic files."""

import gzip
import json

import pandas as pd
import pytest

import dataset_prep
from dataset_prep import amazon
from dataset_prep.amazon_lines import _price, clean_html
from dataset_prep.atomic import PrepError

META_2014 = {
    "asin": "A",
    "title": "Nail &amp;amp; Polish",
    "price": 4.5,
    "brand": "O'Neill",
    "categories": [["Beauty", "Nails &amp; Hands"], ["Gifts"]],
    "description": "Red<br />and <b>shiny</b>",
    "related": {"also_bought": ["B", "Z"]},
}
META_2018 = {
    "asin": "A",
    "title": "Nail & Polish",
    "price": "$1,204.50",
    "brand": "O'Neill",
    "category": ["Beauty", "Nails & Hands", "</span></span>"],
    "description": ["Red", "and shiny"],
}
META_2023 = {
    "parent_asin": "A",
    "title": "Nail & Polish",
    "price": 4.5,
    "store": "O'Neill",
    "categories": ["Beauty", "Nails & Hands"],
    "description": ["Red", "and shiny"],
    "details": {},
}


def review(release, user, item, time, rating=5.0, votes=2):
    if release == "2023":
        row = {"user_id": user, "parent_asin": item, "asin": item + "x", "timestamp": time * 1000 + 7}
        texts = {"title": "So &quot;good&quot;", "text": "I<br />like it", "images": []}
        return row | texts | {"rating": rating, "helpful_vote": votes}
    row = {"reviewerID": user, "asin": item, "unixReviewTime": time, "overall": rating}
    row |= {"summary": 'So "good"', "reviewText": "I\nlike it"}
    if release == "2014":
        return row | {"helpful": [votes, votes + 1]}
    return row | ({"vote": f"{votes:,}"} if votes else {})


def write_lines(path, rows, write=json.dumps):
    data = "".join(write(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def reviews_of(release):
    """Three users of three items each, one repeated; one item and one user too few."""
    rows = [
        review(release, user, item, 1_500_000_000 + 10 * place)
        for user in "uvw"
        for place, item in enumerate("BAC")
    ]
    rows.append(review(release, "u", "A", 1_500_000_900, rating=1.0))
    rows.append(review(release, "u", "D", 1_500_000_901))
    rows.append(review(release, "x", "A", 1_500_000_902, votes=1200))
    return rows


def rows_of(directory, suffix):
    path = directory / f"{directory.name}.{suffix}"
    table = pd.read_csv(path, sep="\t", quoting=3, dtype=str, keep_default_na=False)
    return table.rename(columns=lambda name: name.split(":")[0])


@pytest.mark.parametrize(
    ("release", "name", "review_file", "meta_file", "meta", "write", "price"),
    [
        ("2014", "amazon-beauty", "reviews_Beauty_5.json.gz", "meta_Beauty.json.gz", META_2014, repr, "4.5"),
        ("2018", "amazon-luxury-beauty-18", "Luxury_Beauty_5.json.gz", "meta_Luxury_Beauty.json.gz",
         META_2018, json.dumps, "1204.5"),
        ("2023", "amazon-all-beauty-23", "All_Beauty.jsonl", "meta_All_Beauty.jsonl",
         META_2023, json.dumps, "4.5"),
    ],
)  # fmt: skip
def test_each_release_becomes_the_same_atomic_files(
    tmp_path, monkeypatch, release, name, review_file, meta_file, meta, write, price
):
    raw = tmp_path / "raw" / name
    raw.mkdir(parents=True)
    write_lines(raw / review_file, reviews_of(release))
    unwanted = meta | {("parent_asin" if release == "2023" else "asin"): "Q"}
    write_lines(raw / meta_file, [unwanted, meta, meta | {"title": "a second time"}], write)
    monkeypatch.setenv("RECBOLE_LLM_RAW", str(tmp_path / "raw"))
    directory = amazon.prepare(name, out=tmp_path / "out", k=3)
    inter = rows_of(directory, "inter")
    assert list(inter) == ["user_id", "item_id", "rating", "timestamp", "helpful", "review_summary", "review"]
    assert inter["user_id"].tolist() == list("uuuvvvwww") and inter["item_id"].tolist() == list("BAC" * 3)
    assert inter["timestamp"].tolist() == ["1500000000", "1500000010", "1500000020"] * 3
    assert inter.loc[1].tolist()[2:] == ["5", "1500000010", "2", 'So "good"', "I like it"]
    item = rows_of(directory, "item").set_index("item_id")
    assert item.loc["A"].tolist() == [
        "Nail & Polish",
        "O'Neill",
        "Beauty > Nails & Hands",
        price,
        "Red and shiny",
    ]
    assert item.loc["B"].tolist() == [""] * 5 and sorted(item.index) == ["A", "B", "C"]
    prep = json.loads((directory / "prep.json").read_text())
    assert [(step["before"], step["after"]) for step in prep["steps"]] == [(12, 12), (12, 11), (11, 9)]
    assert prep["steps"][2]["rounds"] == [{"users": 1, "items": 1, "interactions": 2}]
    assert "2 of 3 items have no metadata, e.g. B" in prep["notes"]


def test_milliseconds_order_events_that_share_a_second(tmp_path):
    rows = [
        review("2023", "u", item, 0) | {"timestamp": 1_600_000_000_000 + ms}
        for item, ms in (("A", 900), ("B", 100))
    ]
    reviews = write_lines(tmp_path / "r.jsonl", rows)
    metadata = write_lines(tmp_path / "m.jsonl", [META_2023])
    directory = amazon.prepare("mine", out=tmp_path / "out", reviews=reviews, metadata=metadata, k=0)
    assert rows_of(directory, "inter")[["item_id", "timestamp"]].values.tolist() == [
        ["B", "1600000000"],
        ["A", "1600000000"],
    ]


def test_scraped_page_code_is_no_title_and_no_price(tmp_path):
    meta = META_2018 | {
        "title": "var aPageStart = (new Date()).getTime();",
        "price": ".a-box-inner{background:#fff}",
    }
    reviews = write_lines(tmp_path / "r.json", [review("2018", "u", "A", 5)])
    metadata = write_lines(tmp_path / "m.json", [meta])
    directory = amazon.prepare("mine", out=tmp_path / "out", reviews=reviews, metadata=metadata, k=0)
    assert rows_of(directory, "item")[["title", "price"]].values.tolist() == [["", ""]]
    assert "1 titles were scraped page code" in (directory / "prep.json").read_text()


@pytest.mark.parametrize(
    ("value", "price"),
    [
        (4.5, 4.5),
        ("$12.99", 12.99),
        ("$1,204", 1204.0),
        ("$5 - $9", None),
        (None, None),
        ("None", None),
        ("", None),
    ],
)
def test_prices_are_numbers_or_nothing(value, price):
    assert _price(value) == price


def test_html_becomes_text():
    assert clean_html("a &lt; b &amp;amp; <script>x = 1</script>c<!-- no -->d<br/>e") == "a < b & c d e"
    assert clean_html("5 < 6 and 7 > 3") == "5 < 6 and 7 > 3"


@pytest.mark.parametrize("write", [json.dumps, ascii])
def test_half_of_an_emoji_does_not_stop_the_dump(tmp_path, write):
    row = review("2018", "u", "A", 5) | {"reviewText": "half \ud83d, whole \U0001f600"}
    reviews = write_lines(tmp_path / "r.json", [row], write)
    metadata = write_lines(tmp_path / "m.json", [META_2018])
    directory = amazon.prepare("mine", out=tmp_path / "out", reviews=reviews, metadata=metadata, k=0)
    assert rows_of(directory, "inter")["review"].tolist() == ["half ?, whole \U0001f600"]


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


GOOD = review("2018", "u", "A", 5)


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("r.json", lines(GOOD) + b"{broken\n", "r.json:2: neither JSON nor a Python literal"),
        ("r.json", b"__import__('os').getcwd()\n", "r.json:1: neither JSON nor a Python literal"),
        ("r.json", lines(GOOD) + b"[1]\n", "r.json:2: a list, expected one object on each line"),
        (
            "r.json",
            lines(META_2018),
            "r.json:1: no field 'unixReviewTime'; a review of 2014 or 2018 has reviewerID",
        ),
        (
            "r.json",
            lines(GOOD, GOOD | {"unixReviewTime": "noon"}),
            "r.json:2: a time, rating or vote is not a number",
        ),
        ("r.json", b"", "r.json is empty; fetch it again"),
        ("r.json", lines(GOOD | {"reviewerID": ""}), "r.json holds no review in 1 lines"),
        (
            "r.json.gz",
            gzip.compress(lines(*[GOOD] * 99), mtime=0)[:60],
            "r.json.gz is damaged .* fetch it again",
        ),
        ("r.json.gz", lines(GOOD), "r.json.gz is damaged .*Not a gzipped file"),
        ("r.json", None, "r.json does not exist"),
        ("m.json", b"{broken\n", "m.json:1: neither JSON nor a Python literal"),
        ("m.json", lines({"title": "x"}), "m.json:1: no field asin or parent_asin"),
        ("m.json", b"", "m.json is empty"),
    ],
)
def test_bad_dumps_are_refused_with_file_and_line(tmp_path, file, data, message):
    paths = {
        "r": write_lines(tmp_path / "good_r.json", [GOOD]),
        "m": write_lines(tmp_path / "good_m.json", [META_2018]),
    }
    paths[file[0]] = tmp_path / file
    if data is not None:
        (tmp_path / file).write_bytes(data)
    with pytest.raises(PrepError, match=message):
        amazon.prepare("mine", out=tmp_path / "out", reviews=paths["r"], metadata=paths["m"], k=0)
    assert not (tmp_path / "out").exists()


def test_a_filter_that_leaves_nothing_is_refused(tmp_path):
    reviews, metadata = (
        write_lines(tmp_path / "r.json", [GOOD]),
        write_lines(tmp_path / "m.json", [META_2018]),
    )
    with pytest.raises(PrepError, match="no review of 1 is left in the 5-core; lower k"):
        amazon.prepare("mine", out=tmp_path / "out", reviews=reviews, metadata=metadata)


def test_missing_dumps_are_named_with_address_and_place(tmp_path, monkeypatch):
    with pytest.raises(
        PrepError, match="holds no reviews_Beauty_5.json.gz; fetch https://snap.stanford.edu/.*_5.json.gz"
    ):
        amazon.prepare("amazon-beauty", tmp_path, tmp_path / "out")
    with pytest.raises(PrepError, match="mine is not a known Amazon data set .* give reviews and metadata"):
        amazon.prepare("mine", tmp_path, tmp_path / "out")
    with pytest.raises(PrepError, match="give both reviews and metadata"):
        amazon.prepare("mine", out=tmp_path / "out", reviews=tmp_path / "r.json")
    monkeypatch.delenv("RECBOLE_LLM_RAW", raising=False)
    monkeypatch.setitem(
        amazon.RELEASES, "", ("file:///nowhere/reviews_{}_5.json.gz", "file:///nowhere/meta_{}.json.gz")
    )
    with pytest.raises(
        PrepError, match="cannot be fetched .* by hand and put it at .*raw/amazon-beauty/reviews_Beauty_5"
    ):
        dataset_prep.prepare("amazon-beauty", out=tmp_path / "out")


def test_names_are_recboles():
    assert len(amazon.NAMES) == 24 + 29 + 33
    assert amazon.DUMPS["amazon-fashion-18"] == ("-18", "AMAZON_FASHION")
    assert amazon.DUMPS["amazon-instant-video"] == ("", "Amazon_Instant_Video")
    assert amazon.DUMPS["amazon-patio-lawn-garden-23"] == ("-23", "Patio_Lawn_and_Garden")


def test_the_command_line_prepares_files_of_ones_own(tmp_path, capsys):
    reviews, metadata = (
        write_lines(tmp_path / "r.json", [GOOD]),
        write_lines(tmp_path / "m.json", [META_2018]),
    )
    common = ["mine", "--reviews", str(reviews), "--metadata", str(metadata), "--out", str(tmp_path / "out")]
    amazon.main([*common, "--k", "0"])
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out" / "mine")
    with pytest.raises(SystemExit, match="1"):
        amazon.main(common)
    assert "no review of 1 is left in the 5-core" in capsys.readouterr().err
