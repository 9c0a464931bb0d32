"""Item texts: what is read, what is written, what is refused."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_llm.errors import DataError, SettingError
from recbole_llm.text.plain import clean
from recbole_llm.text.templates import (
    Template,
    field_template,
    field_texts,
    read_columns,
    review_texts,
)

HEADER = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tgenre:token_seq\tprice:float\tplot:token_seq\n"
)
PLOT = "A long plot of many more words than an attribute has, so that nobody takes it for one of them."
ROWS = (
    f"7\tToy Story\t1995\tAnimation Comedy\t12.99\t{PLOT}\n"
    '12\t"Heat" &amp; Dust\t\tDrama\t\t\n'
    f"NA\tnull\t1994\t\t0\t{PLOT}\n"
)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "films.item"
    path.write_text(HEADER + ROWS, encoding="utf-8")
    return read_columns(path)


def test_cells_are_read_as_they_stand(table):
    assert list(table.index) == ["7", "12", "NA"]
    assert list(table.columns) == ["movie_title", "release_year", "genre", "price", "plot"]
    assert table.loc["12", "movie_title"] == '"Heat" &amp; Dust'
    assert table.loc["NA", "movie_title"] == "null"
    assert table.attrs["types"]["genre"] == "token_seq"


def test_a_column_is_its_own_text_and_an_empty_cell_is_no_text(table):
    assert field_texts(table, "plot") == {"7": (PLOT,), "12": (), "NA": (PLOT,)}
    assert field_texts(table, "release_year")["12"] == ()


def test_title_is_found_under_the_names_it_has(table):
    assert field_texts(table, "title") == {"7": ("Toy Story",), "12": ('"Heat" & Dust',), "NA": ("null",)}


def test_attributes_stand_side_by_side_and_empty_ones_are_left_out(table):
    assert field_texts(table, "attributes") == {
        "7": ("Genre: Animation, Comedy. Price: 10 to 20. Year: 1995.",),
        "12": ("Genre: Drama.",),
        "NA": ("Year: 1994.",),
    }


@pytest.mark.parametrize(
    ("price", "written"),
    [
        ("0.5", "0 to 1"),
        ("1", "1 to 2"),
        ("$1,250.00", "1000 to 2000"),
        ("49.99", "20 to 50"),
        ("free", None),
    ],
)
def test_prices_become_steps_that_items_share(price, written):
    table = pd.DataFrame({"price": [price]}, index=["a"])
    assert field_texts(table, "attributes")["a"] == ((f"Price: {written}.",) if written else ())


def test_codes_titles_and_ratings_are_no_attributes():
    many = [str(number) for number in range(40)]
    table = pd.DataFrame({"asin": many, "brand": ["Oak_Co", "Elm"] * 20, "stars": ["4.5"] * 40, "name": many})
    table.attrs["types"] = {"stars": "float"}
    assert field_template(table, "attributes").columns == ("brand",)
    assert field_texts(table, "attributes")["0"] == ("Brand: Oak Co.",)


def test_a_kept_template_writes_a_new_item_as_the_old_ones(table):
    template = field_template(table, "attributes")
    assert template == Template("attributes", 1, ("genre", "price", "release_year"))
    new = pd.DataFrame(
        {"genre": ["Horror|Film-Noir"], "price": [""], "release_year": ["2001.0"]}, index=["new"]
    )
    assert template.texts(new) == {"new": ("Genre: Horror, Film-Noir. Year: 2001.",)}


def test_a_wrong_field_is_answered_with_the_columns_there_are(table):
    with pytest.raises(SettingError) as error:
        field_texts(table, "genres")
    assert str(error.value) == (
        "no column `genres`; there are movie_title, release_year, genre, price, plot, did you mean `genre`?"
    )
    with pytest.raises(SettingError, match="none of title, asin is one"):
        field_texts(pd.DataFrame({"title": ["a"], "asin": [""]}), "attributes")


def test_a_header_without_types_and_repeated_tokens_are_refused(tmp_path):
    path = tmp_path / "films.item"
    path.write_text("item_id\ttitle:token_seq\n1\ta\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"header without types \(item_id\)"):
        read_columns(path)
    path.write_text("item_id:token\ttitle:token_seq\n1\ta\n2\tb\n1\tc\n", encoding="utf-8")
    with pytest.raises(DataError, match="has 1 tokens in `item_id` that stand more than once, e.g. 1"):
        read_columns(path)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (b"1\ta\textra\n2\tb\n", "Length of header"),
        (b"1\ta\n2\tb\textra\n", "Expected 2 fields in line 3, saw 3"),
        (b"1\tcaf\xe9\n", "can't decode byte 0xe9"),
    ],
)
def test_files_that_are_no_table_of_tabs_are_refused(tmp_path, rows, said):
    path = tmp_path / "films.item"
    path.write_bytes(b"item_id:token\ttitle:token_seq\n" + rows)
    with pytest.raises(DataError, match=f"films.item cannot be read .*{said}") as error:
        read_columns(path)
    assert str(error.value).endswith("expected UTF-8, one tab between cells and as many as in the header")
    path.write_bytes(b"")
    with pytest.raises(DataError, match="No columns to parse"):
        read_columns(path)


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("Tom &amp;amp; Jerry&#39;s", "Tom & Jerry's"),
        ("soft<br/>skin <b>now</b>", "soft skin now"),
        ("a<script>steal()</script>b<!-- hidden -->c", "a b c"),
        ("&lt;i&gt;bold&lt;/i&gt;", "bold"),
        ("I <3 this, 1 < 2 > 0", "I <3 this, 1 < 2 > 0"),
        ("zero\u200bwidth\ufeff bi\u202edi\u2066", "zerowidth bidi"),
        ("tags\U000e0041\U000e0042 fill\u3164 end\ufe0f", "tags fill end"),
        ("line\r\nbreak\ttab\x00\x1bnul\u2028sep", "line break tab nul sep"),
        ("&#8203;<sc\u200bript>x</script>y", "y"),
        ("Cafe\u0301", "Caf\u00e9"),
        ("lone \ud800 half", "lone half"),
    ],
)
def test_what_cannot_be_seen_does_not_stay(raw, plain):
    assert clean(raw) == plain


@given(st.text(max_size=60), st.integers(1, 40))
def test_clean_text_is_short_visible_and_stays_as_it_is(raw, limit):
    text = clean(raw, limit)
    assert len(text) <= limit
    assert text == " ".join(text.split())
    assert text.encode().decode() == text  # no half characters
    assert not any(ord(character) < 32 or character in "\u200b\u202e\u2066\ufeff" for character in text)
    assert clean(clean(raw)) == clean(raw)


@pytest.mark.parametrize(
    "unit", ["<script ", "<style><script", "<!--", "<", "<a", "&", "&amp;", "\u0316\u0301", "&#8203;"]
)
def test_a_hostile_cell_costs_little(unit):
    assert len(clean(unit * 1_000_000)) <= 8000
    assert clean("Soap" + unit * 1_000_000).startswith("Soa")


def test_reviews_come_the_most_helpful_first_and_at_most_so_many():
    reviews = {
        "a": [("fine", 1), ("<b>great</b>", 9), ("", 50), ("great", 2), ("fair", 1)],
        "b": [],
        "c": [(f"text {number}", number) for number in range(30)],
    }
    texts = review_texts(reviews)
    assert texts["a"] == ("great", "fine", "fair")
    assert texts["b"] == ()
    assert texts["c"] == tuple(f"text {number}" for number in range(29, 9, -1))
    assert review_texts(reviews, limit=1)["a"] == ("great",)


def test_ml1m_has_the_texts_that_its_readme_counts(shared_data):
    table = read_columns(shared_data / "atomic" / "ml-1m" / "ml-1m.item")
    assert field_texts(table, "title")["1"] == ("Toy Story",)
    assert field_texts(table, "attributes")["1"] == ("Genre: Animation, Children's, Comedy. Year: 1995.",)
    plots, described = (field_texts(table, field) for field in ("plot", "llm_description"))
    assert sum(not text for text in plots.values()) == 38
    assert [token for token, text in described.items() if not text] == ["1122"]
