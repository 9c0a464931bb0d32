"""Buckets take each target once, and their weighed means are the mean of all."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_llm.evaluation.ranks import metrics_from
from recbole_llm.evaluation.slices import HISTORY_LENGTHS, TRAIN_COUNTS, buckets, own_vectors


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
    assert own_vectors(SimpleNamespace(items=None)) == ""
