"""Which interactions stay, and in what order: each filter returns its counts."""

import numpy as np
import pandas as pd


def chronological(inter, user="user_id", time="timestamp"):
    """Interactions grouped by user, oldest first within a user.

    Users keep the order of their first appearance. The sort is stable: events of one user with equal times
    keep their order in ``inter``. It matters: 1,268 of the first 2,999 users of ml-1m have a tied last
    event, which is the target of the leave-one-out test.

    Parameters
    ----------
    inter : DataFrame
    user, time : str
        Columns of ``inter``; times are integers or float64.

    Returns
    -------
    DataFrame
        The same rows, index 0..n-1.
    """
    user_codes, _ = pd.factorize(inter[user])
    order = np.lexsort((inter[time].to_numpy(), user_codes))
    return inter.iloc[order].reset_index(drop=True)


def first_of_each_pair(inter, user="user_id", item="item_id"):
    """Interactions without the repeats of a (user, item) pair; the first one in file order stays."""
    return inter[~inter.duplicated([user, item])].reset_index(drop=True)


def k_core(inter, k_user=5, k_item=5, user="user_id", item="item_id"):
    """The largest part of ``inter`` where users have ``k_user`` and items ``k_item`` interactions or more.

    Parameters
    ----------
    inter : DataFrame
    k_user, k_item : int
        0 or 1 switches that side of the filter off.
    user, item : str
        Columns of ``inter``.

    Returns
    -------
    DataFrame
        The rows that stay, in their order, index 0..n-1; it may be empty.
    list of dict
        One entry for each round that dropped something: how many ``users``, ``items`` (below the limit) and
        ``interactions`` it dropped.
    """
    user_codes, item_codes = (pd.factorize(inter[column])[0] for column in (user, item))
    stays = np.arange(len(inter))
    rounds = []
    while len(stays):
        user_counts = np.bincount(user_codes[stays])
        item_counts = np.bincount(item_codes[stays])
        good = (user_counts[user_codes[stays]] >= k_user) & (item_counts[item_codes[stays]] >= k_item)
        if good.all():
            break
        rounds.append(
            {
                "users": int(((user_counts > 0) & (user_counts < k_user)).sum()),
                "items": int(((item_counts > 0) & (item_counts < k_item)).sum()),
                "interactions": int((~good).sum()),
            }
        )
        stays = stays[good]
    return inter.iloc[stays].reset_index(drop=True), rounds
