"""The inflated metrics of LLM4SBR's released code, by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from recbole_llm.evaluation.legacy import legacy_metrics_from, section
from recbole_llm.evaluation.ranks import metrics_from


def test_ranks_between_k_and_twenty_vanish_from_the_mean():
    ranks = [1, 2, 7, 30]
    assert metrics_from(ranks, [5])["mrr@5"] == pytest.approx(1.5 / 4)
    found = legacy_metrics_from(ranks, [5, 20])
    assert found["mrr@5"] == pytest.approx(1.5 / 3) and found["recall@5"] == 0.5
    assert found["mrr@20"] == pytest.approx(metrics_from(ranks, [20])["mrr@20"])


def test_the_factor_between_both_is_that_of_the_targets_left_out():
    ranks = np.random.default_rng(0).integers(1, 60, 500)
    right, legacy = metrics_from(ranks, [5, 10, 20]), legacy_metrics_from(ranks, [5, 10, 20])
    for k in (5, 10, 20):
        factor = 1 - (right["recall@20"] - right[f"recall@{k}"])
        assert legacy[f"mrr@{k}"] * factor == pytest.approx(right[f"mrr@{k}"])
        assert legacy[f"ndcg@{k}"] * factor == pytest.approx(right[f"ndcg@{k}"])


def test_where_all_targets_are_left_out_there_is_nothing():
    assert legacy_metrics_from([7, 9], [5])["mrr@5"] == 0.0


def test_the_page_says_both_where_it_is_asked_to():
    ranks = pd.DataFrame({"rank": [1, 7, 30], "rank_masked": [1, 4, 30]})
    settings = {"legacy_mrr": True, "topk": [5, 20, 50]}
    text = section([SimpleNamespace(name="SRGNN", settings=settings, ranks=ranks)])
    assert (
        "| SRGNN | history not masked | 5 | 0.3333 | 0.5000 | 0.3333 | 0.5000 |" in text
        and "| 50 |" not in text
    )
    assert section([SimpleNamespace(name="SRGNN", settings={}, ranks=ranks)]) == ""
