"""New items made on purpose: some items lose all their events of the training part and are then to be ranked.

The share of cold targets is then known and large enough to speak of, which it seldom is by nature.

Shapes: I items with padding, N events.
"""

import numpy as np

from ..errors import DataError


def choose(item_N, time_N, trained_N, n_items, share, by, seed):
    """(I,) bool: the items that are made new.

    Parameters
    ----------
    item_N, time_N : int64 arrays
        The item and the time of every event.
    trained_N : bool array
        Whether an event belongs to the training part; only items that occur there are chosen.
    share : float
        Of those items, as near as can be.
    by : str
        ``popularity``: one of each few items of like popularity, drawn by ``seed``; ``newest``: those whose first
        event is the latest.

    Raises
    ------
    DataError
        If no item or every item would be chosen.
    """
    count_I = np.bincount(item_N[trained_N], minlength=n_items)
    known = np.flatnonzero(count_I)
    wanted = round(share * len(known))
    if not 0 < wanted < len(known):
        raise DataError(
            f"cold_share {share} of {len(known):,} items in training is {wanted} items; expected one or more, not all"
        )
    if by == "newest":
        first_I = np.full(n_items, np.iinfo(np.int64).max)
        np.minimum.at(first_I, item_N, time_N)
        chosen = known[np.argsort(first_I[known], kind="stable")[-wanted:]]
    else:
        rng = np.random.default_rng(seed)
        alike = np.array_split(known[np.argsort(count_I[known], kind="stable")], wanted)
        chosen = np.array([rng.choice(few) for few in alike])
    cold_I = np.zeros(n_items, bool)
    cold_I[chosen] = True
    return cold_I
