"""What a model's ten best items are like, beside whether the target is among them.

Coverage, the Gini index of how often each item is recommended, the share of recommendations from the long tail, novelty
(self-information) and the diversity of a list: Saúl Vargas and Pablo Castells, "Rank and Relevance in Novelty and
Diversity Metrics for Recommender Systems", RecSys 2011, https://doi.org/10.1145/2043932.2043955.

Shapes: B lists, K items of a list, I items with padding, D text-vector size.
"""

import numpy as np

from .markdown import percent, table

HEAD = 0.2  # the share of the items, the most popular, that is not the long tail
WORDS = {
    "coverage": "items in any list",
    "gini": "Gini index",
    "tail_share": "long tail",
    "novelty": "novelty (bits)",
    "diversity": "diversity of texts",
}


def head_of(count_I):
    """(I,) bool: the most popular fifth of the items by training count; of equals, those with the lower id."""
    head = np.zeros(len(count_I), bool)
    order = np.argsort(-np.asarray(count_I)[1:], kind="stable") + 1
    head[order[: max(round(HEAD * len(order)), 1)]] = True
    return head


def beyond_accuracy(list_BK, count_I, known_I, users, text_ID=None, present_I=None):
    """The measures of ``WORDS`` as a dict of floats.

    Parameters
    ----------
    list_BK : int array
        The best items of each list, seen ones left out; -1 where a list has no more.
    count_I : int array
        How often each item stands in the training part.
    known_I : int array
        How many users of the training part know the item.
    users : int
        Of the training part; an item that all of them know is not new at all.
    text_ID, present_I : arrays, optional
        Vectors of length 1 and whether an item has one; without them there is no ``diversity``.
    """
    shown = list_BK[list_BK >= 0]
    times_I = np.bincount(shown, minlength=len(count_I))[1:]
    found = {
        "coverage": float((times_I > 0).mean()),
        "gini": gini(times_I),
        "tail_share": float((~head_of(count_I))[shown].mean()),
        "novelty": float(np.log2(users / np.maximum(known_I, 1))[shown].mean()),
    }
    if text_ID is not None:
        diversity = _diversity(list_BK, text_ID, present_I)
        found |= {} if diversity is None else {"diversity": diversity}
    return found


def gini(values):
    """The Gini index of numbers of 0 or more: 0 where all are equal, near 1 where one has everything."""
    values = np.sort(values)
    place = np.arange(1, len(values) + 1)
    return float(((2 * place - len(values) - 1) * values).sum() / (len(values) * values.sum()))


def _diversity(list_BK, text_ID, present_I):
    """The mean of 1 - cosine over the pairs of a list's items with text, then over such lists, if any."""
    known_BK = present_I[list_BK] & (list_BK >= 0)
    sum_BD = np.stack([text_ID[items[known]].sum(0) for items, known in zip(list_BK, known_BK, strict=True)])
    count_B = known_BK.sum(1)
    has_pair = count_B > 1
    pairs_B = count_B * (count_B - 1)
    cosine_B = ((sum_BD**2).sum(1) - count_B)[has_pair] / pairs_B[has_pair]  # each pair twice, as in pairs_B
    return float(1 - cosine_B.mean()) if has_pair.any() else None


def section(outcomes):
    """What the page says of it; empty where no outcome has ranks."""
    outcomes = [outcome for outcome in outcomes if outcome.beyond]
    if not outcomes:
        return ""
    return f"## Beyond accuracy\n\n{words()}\n\n{beyond_table([(o.name, o.beyond) for o in outcomes])}"


def words():
    """What the columns of ``beyond_table`` mean."""
    return (
        "Of the ten best items of every list, history masked: how many of all items stand in any list; the Gini index "
        "of how often each does (0: all alike); the share outside the most popular fifth; the mean of "
        "log2(users / users who know the item); one less the mean cosine between the texts of a list's items."
    )


def beyond_table(measured):
    """A row per (name, measures)."""
    known = [key for key in WORDS if any(key in found for _, found in measured)]
    rows = [
        [name, *(_written(key, found[key]) if key in found else "" for key in known)]
        for name, found in measured
    ]
    return table(["", *(WORDS[key] for key in known)], rows)


def _written(key, value):
    if key in ("coverage", "tail_share"):
        return percent(value, 1)
    return f"{value:.2f}"
