"""Which items stand near each other in the training sessions, of all users.

Shapes: I items with padding, K neighbours of an item.
"""

import numpy as np
import torch


def neighbours(dataset, n_neighbours, window):
    """The items that most often stand within ``window`` steps of each item, and what share of such meetings each has.

    Parameters
    ----------
    dataset : OffsetDataset
        The training part: what its rows read or aim at is counted, and nothing else.
    n_neighbours : int
        K.
    window : int
        How many steps to either side.

    Returns
    -------
    LongTensor, (I, K)
        The neighbours, those met most often first; 0 where an item has fewer.
    FloatTensor, (I, K)
        Their shares, 0 where there is none.
    """
    place = dataset.own_places()
    item, start = dataset.events[dataset.iid_field][place].numpy(), dataset.user_start[place].numpy()
    keys = []
    for step in range(1, window + 1):
        one, other, together = item[:-step], item[step:], start[:-step] == start[step:]
        met = together & (one != other)
        keys += [one[met] * dataset.item_num + other[met], other[met] * dataset.item_num + one[met]]
    key, count = np.unique(np.concatenate(keys), return_counts=True)
    owner, neighbour = np.divmod(key, dataset.item_num)
    order = np.lexsort((neighbour, -count, owner))  # the most frequent first; of equals the lower id
    owner, neighbour, count = owner[order], neighbour[order], count[order]
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    meetings = np.bincount(owner, weights=count, minlength=dataset.item_num)
    kept = rank < n_neighbours
    neighbour_IK = np.zeros((dataset.item_num, n_neighbours), np.int64)
    share_IK = np.zeros((dataset.item_num, n_neighbours), np.float32)
    neighbour_IK[owner[kept], rank[kept]] = neighbour[kept]
    share_IK[owner[kept], rank[kept]] = count[kept] / meetings[owner[kept]]
    return torch.from_numpy(neighbour_IK), torch.from_numpy(share_IK)
