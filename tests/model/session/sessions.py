"""What the tests of the session models share: sessions with all that is awkward, and a model to read them."""

import torch
from carousel import house

N_ITEMS = 17
KEYS = {"hidden_size": 8, "MAX_ITEM_LIST_LENGTH": 8, "enable_amp": False}
SESSIONS = (
    [3],  # one item
    [1, 2, 3, 2, 4],  # the example of SR-GNN's paper
    [5, 5, 5],  # one item again and again
    [6, 7, 6, 7, 6, 7, 6, 8],  # as long as may be
    [9, 10],
)


def batch_of(sessions=SESSIONS, length=8):
    """Item ids (B, L) and lengths (B,) of these sessions."""
    rows = [[*items, *[0] * (length - len(items))] for items in sessions]
    return torch.tensor(rows), torch.tensor([len(items) for items in sessions])


def model_of(folder, name, **keys):
    """A model on the carousel, its weights as it starts with them."""
    return house(folder, name, **KEYS | keys).model
