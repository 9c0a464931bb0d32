"""RecBole's own causal models on dense windows: every position of a window is a target, not the last one alone.

The model's code is RecBole's; only ``gather_indexes``, which picks the last position, is left out while training.
"""

from ..data.dataset import NEXT_ITEMS
from ..errors import SettingError
from . import losses
from .base import with_target
from .layout import Layout

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
        """Mean cross-entropy over all positions of all windows."""
        layout = Layout.of(interaction[self.ITEM_SEQ_LEN])
        self.gather_indexes = lambda output_BLH, _: output_BLH
        try:
            user_BLH = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        finally:
            del self.gather_indexes  # the class's own again
        user_TH, target_T = with_target(layout.pack(user_BLH), layout.pack(interaction[NEXT_ITEMS]))
        return losses.full_softmax(user_TH, self.item_embedding.weight, target_T)
