"""Ranks by hand, with ties and masks, and against a double loop over every score."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llm.errors import DataError
from recbole_llm.evaluation.ranks import COLUMNS, RankTable, hide_seen, metrics_from, ranks_of

INF = float("inf")
# padding, then four items
SCORES = torch.tensor([[-INF, 0.1, 0.9, 0.5, 0.3], [-INF, 0.8, 0.2, 0.4, 0.6]])


def test_a_rank_is_one_more_than_the_number_of_better_items():
    assert ranks_of(SCORES, torch.tensor([0, 1]), torch.tensor([3, 2])).tolist() == [2, 4]


def test_the_best_item_has_rank_one_and_the_worst_the_number_of_items():
    assert ranks_of(SCORES, torch.tensor([0, 0]), torch.tensor([2, 1])).tolist() == [1, 4]


def test_a_row_may_have_several_targets_or_none():
    assert ranks_of(SCORES, torch.tensor([1, 1, 1]), torch.tensor([1, 4, 3])).tolist() == [1, 2, 3]
    none = torch.empty(0, dtype=torch.long)
    assert ranks_of(SCORES, none, none).tolist() == []


def test_half_of_the_items_with_the_same_score_come_before_the_target():
    tied = torch.tensor([[-INF, 0.5, 0.5, 0.5, 0.7]])
    assert ranks_of(tied, torch.tensor([0, 0, 0]), torch.tensor([1, 2, 3])).tolist() == [3, 3, 3]
    alike = torch.tensor([[-INF, *[0.0] * 9]])
    assert ranks_of(alike, torch.tensor([0]), torch.tensor([4])).tolist() == [5]


@pytest.mark.parametrize("broken", [float("nan"), INF, -INF])
def test_a_model_that_has_diverged_has_no_ranks(broken):
    scores = torch.tensor([[-INF, broken, 1.0], [-INF, 2.0, 1.0]])
    with pytest.raises(
        DataError, match="1 of 2 targets have a score that is not finite.*lower learning_rate"
    ):
        ranks_of(scores, torch.tensor([0, 1]), torch.tensor([1, 1]))


def test_more_targets_than_are_counted_at_once_keep_their_order():
    n = 600  # two full blocks of 256 and a part
    row, target = torch.arange(n), torch.arange(n) % 7 + 1
    scores = -torch.arange(8.0).repeat(n, 1)
    scores[:, 0] = -INF
    assert torch.equal(ranks_of(scores, row, target), target)


def test_masked_items_no_longer_stand_above_the_target():
    seen_row, seen_item = torch.tensor([0, 1, 1]), torch.tensor([2, 1, 4])
    hidden = hide_seen(SCORES.clone(), seen_row, seen_item, torch.tensor([0, 1]), torch.tensor([3, 2]))
    expected = [[-INF, 0.1, -INF, 0.5, 0.3], [-INF, -INF, 0.2, 0.4, -INF]]
    torch.testing.assert_close(hidden, torch.tensor(expected), rtol=0, atol=0)
    assert ranks_of(hidden, torch.tensor([0, 1]), torch.tensor([3, 2])).tolist() == [1, 2]


def test_a_target_that_the_user_has_seen_before_keeps_its_score():
    hidden = hide_seen(
        SCORES.clone(), torch.tensor([0, 0]), torch.tensor([3, 3]), torch.tensor([0]), torch.tensor([3])
    )
    assert torch.equal(hidden[0], SCORES[0])


@st.composite
def batches(draw):
    n_rows, n_items = draw(st.integers(1, 5)), draw(st.integers(1, 8))
    few = st.integers(-2, 2).map(float)  # few values, so that ties are common
    scores = draw(
        st.lists(st.lists(few, min_size=n_items, max_size=n_items), min_size=n_rows, max_size=n_rows)
    )
    scores = torch.cat([torch.full((n_rows, 1), -INF), torch.tensor(scores)], 1)
    target = torch.tensor(draw(st.lists(st.integers(1, n_items), min_size=n_rows, max_size=n_rows)))
    pair = st.tuples(st.integers(0, n_rows - 1), st.integers(1, n_items))
    return scores, target, draw(st.lists(pair, max_size=12))


@settings(deadline=None, max_examples=60)
@given(batches())
def test_ranks_are_those_of_a_double_loop_masked_or_not(batch):
    scores, target, seen = batch
    row = torch.arange(len(target))
    seen_row, seen_item = torch.tensor(seen, dtype=torch.long).reshape(-1, 2).T
    found = (
        ranks_of(scores, row, target),
        ranks_of(hide_seen(scores.clone(), seen_row, seen_item, row, target), row, target),
    )
    for b in range(len(target)):
        rivals = [item for item in range(1, scores.shape[1]) if item != target[b]]
        for rank, left_out in ((found[0][b], []), (found[1][b], seen)):
            better = sum(scores[b, i] > scores[b, target[b]] for i in rivals if (b, i) not in left_out)
            same = sum(scores[b, i] == scores[b, target[b]] for i in rivals if (b, i) not in left_out)
            assert rank == 1 + better + same // 2


def test_the_table_has_tokens_and_training_counts_in_the_order_of_the_rows():
    names = {"user_id": np.array(["[PAD]", "ann", "bob", "eve"]), "item_id": np.array(["[PAD]", "x", "y"])}
    dataset = SimpleNamespace(
        uid_field="user_id", iid_field="item_id", id2token=lambda field, ids: names[field][ids]
    )
    table = RankTable()
    table.add(*(torch.tensor(column) for column in ([40, 2], [3, 1], [2, 1], [7, 1], [5, 1], [20, 3])))
    table.add(*(torch.tensor(column) for column in ([9], [2], [2], [4], [4], [1])))
    frame = table.frame(dataset, torch.tensor([0, 10, 0]))
    assert tuple(frame) == COLUMNS
    assert frame.to_numpy().tolist() == [
        ["ann", "x", 1, 1, 10, True, 3],
        ["bob", "y", 4, 4, 0, False, 1],
        ["eve", "y", 7, 5, 0, False, 20],
    ]


def test_metrics_by_hand():
    found = metrics_from([1, 3, 11], [2, 10])
    assert found == pytest.approx(
        {
            "recall@2": 1 / 3,
            "ndcg@2": 1 / 3,
            "mrr@2": 1 / 3,
            "recall@10": 2 / 3,
            "ndcg@10": (1 + 0.5) / 3,
            "mrr@10": (1 + 1 / 3) / 3,
        }
    )


def test_metrics_are_those_of_recboles_evaluator():
    from recbole.evaluator.metrics import MRR, NDCG, Recall

    ranks, n_items, k = np.array([1, 2, 5, 9, 10, 11, 40]), 50, 10
    hits = (np.arange(1, n_items + 1) == ranks[:, None])[:, :k]
    found = metrics_from(ranks, [k])
    config = {"topk": [k], "metric_decimal_place": 12}
    lengths = np.ones(len(ranks), dtype=int)
    theirs = {
        "recall@10": Recall(config).metric_info(hits, lengths),
        "ndcg@10": NDCG(config).metric_info(hits, lengths),
        "mrr@10": MRR(config).metric_info(hits),
    }
    for name, values in theirs.items():
        assert found[name] == pytest.approx(values[:, -1].mean(), abs=1e-12), name
