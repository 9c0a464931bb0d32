"""The measures of lists, against RecBole's own and against loops."""

from itertools import combinations

import numpy as np
import pytest
import torch
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.metrics import GiniIndex, ItemCoverage

from recbole_llm.evaluation.beyond import beyond_accuracy, beyond_table, gini, head_of

RNG = np.random.default_rng(3)
COUNTS = np.array([0, *RNG.integers(0, 60, 30)])
LISTS = np.stack([RNG.permutation(np.arange(1, 20))[:10] for _ in range(12)])  # items 20 to 30 in none


def test_coverage_and_gini_are_recboles():
    data = DataStruct()
    data.set("rec.items", torch.from_numpy(LISTS))
    data.set("data.num_items", 30)
    settings = {"topk": [10], "metric_decimal_place": 9}
    found = beyond_accuracy(LISTS, COUNTS, COUNTS, users=100)
    assert found["gini"] == pytest.approx(GiniIndex(settings).calculate_metric(data)["giniindex@10"])
    assert found["coverage"] == pytest.approx(
        ItemCoverage(settings).calculate_metric(data)["itemcoverage@10"]
    )


def test_the_ends_of_gini():
    assert gini(np.full(50, 3)) == pytest.approx(0)
    assert gini(np.r_[np.zeros(99), 7]) == pytest.approx(0.99)


def test_the_head_is_the_most_popular_fifth_and_of_equals_the_first():
    assert np.flatnonzero(head_of([0, 5, 9, 5, 1, 1, 1, 1, 1, 1, 1])).tolist() == [1, 2]


def test_novelty_is_what_the_name_of_an_item_tells_in_bits():
    counts = np.array([0, 100, 25, 0])  # known to all, to a quarter, to nobody: as to one
    for item, bits in ((1, 0.0), (2, 2.0), (3, np.log2(100))):
        assert beyond_accuracy(np.array([[item]]), 9 * counts, counts, users=100)["novelty"] == pytest.approx(
            bits
        )


def test_diversity_is_the_mean_over_the_pairs_with_text():
    text_ID = RNG.normal(size=(31, 6)).astype(np.float32)
    text_ID /= np.linalg.norm(text_ID, axis=1, keepdims=True)
    present_I = RNG.random(31) < 0.8
    text_ID[~present_I] = 0
    of_lists = []
    for items in LISTS:
        pairs = [1 - text_ID[a] @ text_ID[b] for a, b in combinations(items[present_I[items]], 2)]
        of_lists += [np.mean(pairs)] if pairs else []
    found = beyond_accuracy(LISTS, COUNTS, COUNTS, 100, text_ID, present_I)
    assert found["diversity"] == pytest.approx(np.mean(of_lists), abs=1e-5)
    assert "diversity" not in beyond_accuracy(LISTS, COUNTS, COUNTS, 100)


def test_the_share_of_the_tail():
    counts = np.array([0, 9, 8, 1, 1, 1, 1, 1, 1, 1, 1])
    lists = np.array([[1, 3], [2, 4], [5, 6], [1, 2]])
    assert beyond_accuracy(lists, counts, counts, 10)["tail_share"] == 0.5


def test_a_place_that_no_item_was_left_for_is_in_no_measure():
    short = np.array([[1, 2, -1], [2, -1, -1]])
    text_ID, present_I = np.eye(4, dtype=np.float32), np.array([False, True, True, True])
    found = beyond_accuracy(short, np.array([0, 5, 5, 5]), np.array([0, 4, 2, 1]), 4, text_ID, present_I)
    assert found["coverage"] == pytest.approx(2 / 3) and found["diversity"] == 1
    assert found["novelty"] == pytest.approx((0 + 1 + 1) / 3)


def test_without_a_pair_of_texts_there_is_no_diversity():
    text_ID, present_I = np.eye(31, dtype=np.float32), np.zeros(31, bool)
    assert "diversity" not in beyond_accuracy(LISTS, COUNTS, COUNTS, 100, text_ID, present_I)


def test_a_table_leaves_empty_what_is_not_known():
    with_text, without = {"coverage": 0.5, "diversity": 0.25}, {"coverage": 1.0}
    assert beyond_table([("a", with_text), ("b", without)]).splitlines()[2:] == [
        "| a | 50.0 % | 0.25 |",
        "| b | 100.0 % |  |",
    ]
