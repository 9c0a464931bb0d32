"""Metrics by slices of the test targets: by how often the item was seen in training, by how long the history is.

Every target stands in one bucket, so the buckets' means, weighed by their sizes, are the mean of all.
"""

import numpy as np

from .markdown import table
from .outcomes import CONVENTIONS
from .ranks import metrics_from

TRAIN_COUNTS = (0, 5, 10, 20, 50)  # the highest value of each bucket; what is higher has a bucket of its own
HISTORY_LENGTHS = (5, 10, 20, 50)
FEWEST = 30  # targets, below which a mean says nothing


def buckets(values, tops):
    """``(name, mask)`` of each bucket of whole numbers from 0: up to each of ``tops``, and above the last."""
    values, low = np.asarray(values), 0
    for top in tops:
        name = str(top) if low == top else f"{low}-{top}" if low else f"up to {top}"
        yield name, (low <= values) & (values <= top)
        low = top + 1
    yield f"> {low - 1}", values >= low


def by_item(outcomes):
    """The section on rare and new items; empty where no outcome has ranks."""
    said = "Test targets by how often their item stands in the training part"
    return _section("Rare and new items", said, "times in training", outcomes, "train_count", TRAIN_COUNTS)


def by_history(outcomes):
    """The section on short and long histories, which are cut at ``MAX_ITEM_LIST_LENGTH``; empty without ranks."""
    said = "Test targets by how many events the model read before them"
    return _section("Short and long histories", said, "events", outcomes, "history_length", HISTORY_LENGTHS)


def own_vectors(outcome):
    """The section on how much of the items is their own vector; empty for a model without a gate.

    Where it is near 1 for rare items too, the gate has collapsed and their texts count for nothing.
    """
    if outcome.items is None:
        return ""
    rows = []
    for name, mask in buckets(outcome.items["train_count"], TRAIN_COUNTS):
        shares = outcome.items["id_share"][mask]
        rows.append([name, f"{len(shares):,}", f"{shares.mean():.2f}" if len(shares) else ""])
    return (
        "## Own vectors and texts\n\nHow much of an item is its own vector, by its gate: 0 is text alone, 1 no text."
        f"\n\n{table(['times in training', 'items', 'own vector'], rows)}"
    )


def _section(title, said, column_name, outcomes, column, tops):
    outcomes = [outcome for outcome in outcomes if outcome.ranks is not None]
    if not outcomes:
        return ""
    rows = []
    for of_each in zip(*(buckets(outcome.ranks[column], tops) for outcome in outcomes), strict=True):
        groups = [outcome.ranks[mask] for outcome, (_, mask) in zip(outcomes, of_each, strict=True)]
        row = [of_each[0][0], f"{len(groups[0]):,}"]
        for group in groups:
            found = metrics_from(group["rank_masked"], [10]) if len(group) >= FEWEST else {}
            row += [f"{found[m]:.4f}" if found else "too few" for m in ("ndcg@10", "recall@10")]
        rows.append(row)
    head = [column_name, "targets"]
    head += [f"{outcome.name} {metric}" for outcome in outcomes for metric in ("NDCG@10", "Recall@10")]
    return (
        f"## {title}\n\n{said}; {CONVENTIONS['masked']}, from the ranks; fewer than {FEWEST} targets are too few.\n\n"
        f"{table(head, rows)}"
    )
