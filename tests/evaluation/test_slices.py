"""Buckets take each target once, and their weighed means are the mean of all."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_llm.evaluation.ranks import metrics_from
from recbole_llm.evaluation.slices import (
    HISTORY_LENGTHS,
    TRAIN_COUNTS,
    buckets,
    by_shortened,
    item_slices,
    made_new,
    own_vectors,
    sliced,
    sliced_by_history,
)


@given(
    values=st.lists(st.integers(0, 200), min_size=1), tops=st.sampled_from([TRAIN_COUNTS, HISTORY_LENGTHS])
)
def test_every_target_stands_in_one_bucket(values, tops):
    masks = np.stack([mask for _, mask in buckets(values, tops)])
    assert (masks.sum(0) == 1).all()


def test_the_weighed_means_of_the_buckets_are_the_mean_of_all():
    rng = np.random.default_rng(0)
    ranks = pd.DataFrame({"rank_masked": rng.integers(1, 30, 500), "train_count": rng.integers(0, 90, 500)})
    parts = [ranks[mask] for _, mask in buckets(ranks["train_count"], TRAIN_COUNTS)]
    assert sum(map(len, parts)) == 500 and min(map(len, parts)) > 0
    for metric, value in metrics_from(ranks["rank_masked"], [10]).items():
        weighed = sum(len(part) * metrics_from(part["rank_masked"], [10])[metric] for part in parts) / 500
        assert weighed == pytest.approx(value), metric


def test_buckets_are_named_by_what_they_hold():
    assert [name for name, _ in buckets([0], TRAIN_COUNTS)] == ["0", "1-5", "6-10", "11-20", "21-50", "> 50"]
    assert [name for name, _ in buckets([0], HISTORY_LENGTHS)] == [
        "up to 5",
        "6-10",
        "11-20",
        "21-50",
        "> 50",
    ]


def test_the_share_of_own_vectors_stands_by_how_often_an_item_was_seen():
    items = pd.DataFrame({"train_count": [0, 0, 3, 60], "id_share": [0.0, 0.0, 0.25, 0.75]})
    lines = own_vectors(SimpleNamespace(items=items)).splitlines()
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[6:]] == [
        ["0", "2", "0.00"],
        ["1-5", "1", "0.25"],
        ["6-10", "0", ""],
        ["11-20", "0", ""],
        ["21-50", "0", ""],
        ["> 50", "1", "0.75"],
    ]
    assert own_vectors(SimpleNamespace(items=items[["train_count"]])) == ""


def ranked(**columns):
    """Forty targets, ten to a bucket of four; those of the first ten are new items."""
    frame = {
        "rank_masked": 1,
        "train_count": [0] * 40,
        "head": [True] * 35 + [False] * 5,
        "history_length": 3,
    }
    return pd.DataFrame(frame | columns)


def rows_of(text):
    return [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"
    ][2:]


def test_a_model_of_several_seeds_has_the_mean_of_them():
    text = sliced("seen", item_slices, [("a", [ranked(), ranked(rank_masked=3)])], metrics=["ndcg@10"])
    assert rows_of(text) == [
        ["0", "40", "0.7500"],
        *([name, "0", "too few"] for name in ("1-5", "6-10", "11-20", "21-50", "> 50")),
        ["most popular fifth of items", "35", "0.7500"],
        ["all other items", "5", "too few"],
    ]


def test_items_made_new_are_ranked_among_all_and_among_themselves():
    new = SimpleNamespace(name="a", ranks=ranked(rank_masked=30, rank_cold=[1] * 32 + [0] * 8))
    assert rows_of(made_new([new])) == [
        ["all items", "32", "0.0000", "0.0000"],
        ["new items alone", "32", "1.0000", "1.0000"],
    ]
    assert made_new([SimpleNamespace(name="a", ranks=ranked())]) == ""


def test_histories_cut_short_stand_beside_the_whole_ones():
    outcome = SimpleNamespace(name="a", ranks=ranked(), shortened={1: ranked(rank_masked=3), 5: ranked()})
    assert rows_of(by_shortened([outcome])) == [
        ["1", "0.5000", "1.0000"],
        ["5", "1.0000", "1.0000"],
        ["as trained", "1.0000", "1.0000"],
    ]
    assert by_shortened([SimpleNamespace(name="a", ranks=ranked(), shortened={})]) == ""


def test_histories_are_compared_only_where_all_models_tell_them_alike():
    tokens = {"user": [f"u{n}" for n in range(40)], "item": "i"}
    whole, cut = (ranked(history_length=[length] * 40, **tokens) for length in (60, 50))
    mirrored = whole.iloc[::-1]
    assert rows_of(sliced_by_history([("a", [whole, mirrored]), ("b", [mirrored])], ["ndcg@10"]))[-1] == [
        "> 50",
        "40",
        "1.0000",
        "1.0000",
    ]
    for other in (cut, whole[1:]):
        said = sliced_by_history([("a", [whole]), ("b", [other])])
        assert said.startswith("No table: ") and "|" not in said
