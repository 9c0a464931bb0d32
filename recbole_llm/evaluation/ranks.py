"""One row per evaluated target: its rank with and without the items that its user has seen.

The rank is one more than the number of items that score higher than the target and half of those that score the same:
the middle of where chance would put it, so that a model that scores all items alike ranks its target in the middle.
RecBole's ``topk`` breaks such ties arbitrarily.

Shapes: B rows, I items with padding, S seen (row, item) pairs, P targets (P = B for sequential data).
"""

import numpy as np
import pandas as pd
import torch

from ..errors import DataError

COLUMNS = ("user", "item", "rank", "rank_masked", "train_count", "history_length")


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


class RankTable:
    """Collects ranks batch by batch during one evaluation."""

    def __init__(self):
        self.batches = []

    def add(self, row, user, item, rank, rank_masked, history_length):
        """Append (P,) tensors: what the targets are ordered by, internal ids, ranks and history lengths."""
        columns = (row, user, item, rank, rank_masked, history_length)
        self.batches.append(torch.stack([column.cpu() for column in columns]).numpy())

    def frame(self, dataset, train_counts):
        """The table with external tokens, in the order of the data set's rows; columns as in ``COLUMNS``."""
        found = np.concatenate(self.batches, 1)
        _, user, item, rank, rank_masked, length = found[:, found[0].argsort(kind="stable")]
        return pd.DataFrame(
            {
                "user": dataset.id2token(dataset.uid_field, user),
                "item": dataset.id2token(dataset.iid_field, item),
                "rank": rank,
                "rank_masked": rank_masked,
                "train_count": np.asarray(train_counts)[item],
                "history_length": length,
            }
        )


def metrics_from(ranks, topk):
    """Recall@k, NDCG@k and MRR@k of an array of ranks with one target a row, as a dict of floats; for checks."""
    ranks = np.asarray(ranks, float)
    found = {}
    for k in topk:
        hit = ranks <= k
        found[f"recall@{k}"] = hit.mean()
        found[f"ndcg@{k}"] = np.where(hit, 1 / np.log2(ranks + 1), 0).mean()
        found[f"mrr@{k}"] = np.where(hit, 1 / ranks, 0).mean()
    return found
