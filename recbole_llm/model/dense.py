"""RecBole's own causal models on dense windows: every position of a window is a target, not the last one alone.

The model's code is RecBole's; only ``gather_indexes``, which picks the last position, is left out while training.
"""

import torch

from ..data.dataset import NEXT_ITEMS
from ..errors import SettingError
from . import losses
from .base import with_target

PARTS = 4  # of a batch, rows of like length together: less padding is computed
CAUSAL = ("SASRec", "GRU4Rec")  # each reads left to right, picks by gather_indexes, scores by item_embedding


def dense(model_class):
    """``model_class`` trained with a full softmax at every position of a window.

    Raises
    ------
    SettingError
        If the model reads a history as a whole, so that a position would see its own target.
    """
    if model_class.__name__ not in CAUSAL:
        raise SettingError(
            f"train_rows: dense needs a model that reads left to right, but {model_class.__name__} is not known to; "
            f"RecBole's {' and '.join(CAUSAL)} are. Set train_rows: prefix"
        )
    return type(model_class.__name__, (_Dense, model_class), {})


class _Dense:
    def calculate_loss(self, interaction):
        """Mean cross-entropy over all positions of all windows that have a target."""
        item_seq, length_B, next_item = (
            interaction[k] for k in (self.ITEM_SEQ, self.ITEM_SEQ_LEN, NEXT_ITEMS)
        )
        self.gather_indexes = lambda output_BLH, _: output_BLH
        parts = []
        try:
            for rows in length_B.argsort(stable=True).tensor_split(min(PARTS, len(length_B))):
                longest = int(length_B[rows[-1]])
                user_BLH = self.forward(item_seq[rows, :longest], length_B[rows])
                parts.append((user_BLH.flatten(0, 1), next_item[rows, :longest].flatten()))
        finally:
            del self.gather_indexes  # the class's own again
        user_TH, target_T = with_target(*(torch.cat(part) for part in zip(*parts, strict=True)))
        return losses.full_softmax(user_TH, self.item_embedding.weight, target_T)
