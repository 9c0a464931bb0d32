"""One row per evaluated target: its rank with and without the items that its user has seen.

``history_length`` is how many events the user had before the target, however few of them the model reads. In ranks that
were kept before this was so it stops at MAX_ITEM_LIST_LENGTH.

The rank is one more than the number of items that score higher than the target and half of those that score the same:
the middle of where chance would put it, so that a model that scores all items alike ranks its target in the middle.
RecBole's ``topk`` breaks such ties arbitrarily.

Shapes: B rows, I items with padding, S seen (row, item) pairs, P targets (P = B for sequential data).
"""

import numpy as np
import pandas as pd
import torch

from ..errors import DataError
from .beyond import head_of

COLUMNS = ("user", "item", "rank", "rank_masked", "train_count", "head", "history_length")
BEST = 10  # items of a row that are kept


def ranks_of(scores_BI, row_P, target_P):
    """(P,) int64: the place of each target in its row, from 1.

    Raises
    ------
    DataError
        If a target's score is not a finite number: the model has diverged, and no rank says anything.
    """
    target_score = scores_BI[row_P, target_P].unsqueeze(1)
    broken = int((~torch.isfinite(target_score)).sum())
    if broken:
        raise DataError(
            f"{broken} of {len(row_P)} targets have a score that is not finite: the model has diverged. "
            "Train with a lower learning_rate"
        )
    rank = torch.ones_like(row_P)
    for rows in torch.arange(len(row_P), device=row_P.device).split(256):
        scores = scores_BI[row_P[rows]]
        same = (scores == target_score[rows]).sum(1) - 1  # but the target itself
        rank[rows] += (scores > target_score[rows]).sum(1) + same // 2
    return rank


def hide_seen(scores_BI, seen_row_S, seen_item_S, row_P, target_P):
    """The scores, changed in place: -inf for seen items, but for a row's own target, even if it was seen before."""
    kept = scores_BI[row_P, target_P]
    scores_BI[seen_row_S, seen_item_S] = -torch.inf
    scores_BI[row_P, target_P] = kept
    return scores_BI


def ranks_among(scores_BI, among_I, row_P, target_P):
    """(P,) int64: the place of each target among the items ``among_I``, (I,) bool; 0 where it is none of them."""
    rank_P = torch.zeros_like(row_P)
    inside_P = among_I[target_P]
    if inside_P.any():
        place_I = torch.cumsum(among_I, 0) - 1
        rank_P[inside_P] = ranks_of(scores_BI[:, among_I], row_P[inside_P], place_I[target_P[inside_P]])
    return rank_P


class RankTable:
    """Collects ranks, and the best items of every row, batch by batch during one evaluation."""

    def __init__(self):
        self.batches, self.best = [], []

    def add(self, row, user, item, rank, rank_masked, history_length, rank_cold=None):
        """Append (P,) tensors: what the targets are ordered by, internal ids, ranks, and the users' events before."""
        columns = [row, user, item, rank, rank_masked, history_length]
        columns += [] if rank_cold is None else [rank_cold]
        self.batches.append(torch.stack([column.cpu() for column in columns]).numpy())

    def add_best(self, scores_BI):
        """Append the (B, BEST) best items of every row; -1 where all others are hidden."""
        score, best = scores_BI.topk(min(BEST, scores_BI.shape[1] - 1))
        best = best.masked_fill(score == -torch.inf, -1)
        self.best.append(best.to("cpu", torch.int32).numpy())

    def lists(self):
        """(rows, BEST) int32: the best items of every row, in the order of evaluation."""
        return np.concatenate(self.best)

    def frame(self, dataset, train_counts):
        """The table with external tokens, in the order of the data set's rows; columns as in ``COLUMNS``.

        Where ``cold_share`` made items new, ``rank_cold`` is the place among these alone, history masked, and 0 where
        the target is not new.
        """
        found = np.concatenate(self.batches, 1)
        _, user, item, rank, rank_masked, length, *cold = found[:, found[0].argsort(kind="stable")]
        return pd.DataFrame(
            {
                "user": dataset.id2token(dataset.uid_field, user),
                "item": dataset.id2token(dataset.iid_field, item),
                "rank": rank,
                "rank_masked": rank_masked,
                "train_count": np.asarray(train_counts)[item],
                "head": head_of(train_counts)[item],
                "history_length": length,
                **({"rank_cold": cold[0]} if cold else {}),
            }
        )


GAINS = {  # of a target by its rank from 1; with one target a row these are the metrics
    "recall": np.ones_like,
    "ndcg": lambda rank: 1 / np.log2(rank + 1),
    "mrr": lambda rank: 1 / rank,
}


def gain(rank, metric):
    """What each target counts for in a metric such as ``ndcg@10``, whose mean over the targets is the metric."""
    rank, (name, k) = np.asarray(rank, float), metric.split("@")
    return np.where(rank <= int(k), GAINS[name](rank), 0.0)


def metrics_from(ranks, topk):
    """Recall@k, NDCG@k and MRR@k of an array of ranks with one target a row, as a dict of floats."""
    return {metric: gain(ranks, metric).mean() for k in topk for metric in (f"{name}@{k}" for name in GAINS)}
