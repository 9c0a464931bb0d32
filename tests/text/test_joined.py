"""One text of all that is known of an item."""

import pandas as pd
import pytest

from recbole_llm.text.joined import Joined, article_first
from recbole_llm.text.templates import field_template


def shop(**columns):
    table = pd.DataFrame(columns, index=[f"i{row}" for row in range(len(next(iter(columns.values()))))])
    table.attrs["types"] = {"title": "token_seq", "plot": "token_seq", "class": "token_seq"}
    return table


TABLE = shop(
    title=["Matrix, The (1999)", "Alien", ""],
    plot=["A hacker learns.", "", ""],
    **{"class": ["Action Sci-Fi", "", ""]},
)


def joined(*fields):
    return Joined.of(field_template(TABLE, field) for field in fields)


def test_each_part_has_its_label_and_what_is_missing_is_left_out():
    assert joined("title", "plot", "class").texts(TABLE) == {
        "i0": ("Title: The Matrix (1999). Plot: A hacker learns. Genre: Action Sci-Fi.",),
        "i1": ("Title: Alien.",),
        "i2": (),
    }


def test_attributes_stand_as_they_are():
    table = TABLE.drop(columns="plot")
    table.attrs = TABLE.attrs
    both = Joined.of(field_template(table, field) for field in ("title", "attributes"))
    assert both.texts(table)["i0"] == ("Title: The Matrix (1999). Genre: Action, Sci-Fi.",)


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("Matrix, The (1999)", "The Matrix (1999)"),
        ("Affair to Remember, An", "An Affair to Remember"),
        ("Misérables, Les (1995)", "Les Misérables (1995)"),
        ("Avventura, L' (1960)", "L'Avventura (1960)"),
        ("Crying Game, The (Soldier's Wife, The) (1992)", "The Crying Game (Soldier's Wife, The) (1992)"),
        ("Good, The Bad", "Good, The Bad"),
        ("The Rock (1996)", "The Rock (1996)"),
    ],
)
def test_an_article_comes_first_as_people_say_it(title, said):
    assert article_first(title) == said
