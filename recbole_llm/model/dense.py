"""RecBole's own causal models on dense windows: every position of a window is a target, not the last one alone.

The modules and weights are RecBole's, so a model trained here is RecBole's model; SASRec's are read without padding.
"""

import torch

from ..data.dataset import NEXT_ITEMS
from ..errors import SettingError
from . import losses
from .base import target_places
from .dropout import dropped, rate_of
from .encoders import read
from .layout import Layout, is_even, so_far
from .unseen import Unseen

PARTS = 4  # of GRU4Rec's batch, rows of like length together: less padding is computed


def dense(model_class):
    """``model_class`` trained with a full softmax at every position of a window.

    Raises
    ------
    SettingError
        If the model reads a history as a whole, so that a position would see its own target.
    """
    name = model_class.__name__
    if name not in READERS:
        *most, last = READERS
        raise SettingError(
            f"train_rows: dense needs a model that reads left to right, but {name} is not known to; "
            f"RecBole's {', '.join(most)} and {last} are. Set train_rows: prefix"
        )
    return type(name, (READERS[name], model_class), {})


class _Dense(Unseen):
    def calculate_loss(self, interaction):
        """Mean cross-entropy over all positions of all windows that have a target."""
        item_seq_BL = interaction[self.ITEM_SEQ]
        user_TH, *places = self.read(item_seq_BL, interaction[self.ITEM_SEQ_LEN])
        target_T = interaction[NEXT_ITEMS][tuple(places)]
        taught_T = target_places(target_T)
        seen_TL = so_far(item_seq_BL, *(part[taught_T] for part in places)) if self.no_repeats else None
        return losses.full_softmax(
            user_TH[taught_T], self.item_embedding.weight, target_T[taught_T], seen_TL=seen_TL
        )


class _DenseSASRec(_Dense):
    def forward(self, item_seq, item_seq_len):
        """(B, H): the user vectors after each whole history."""
        return self._encode(item_seq, Layout.of(item_seq_len, only_last=True))

    def read(self, item_seq_BL, length_B):
        """(T, H), (T,) and (T,): the vector of every event, its row and its position there."""
        layout = Layout.of(length_B, even=is_even(length_B.device))
        return self._encode(item_seq_BL, layout), *layout.asked

    def _encode(self, item_seq_BL, layout):
        item_TH = self.item_embedding(layout.pack(item_seq_BL))
        input_TH = self.LayerNorm(item_TH + self.position_embedding(layout.position_T))
        return read(self.trm_encoder, dropped(input_TH, rate_of(self.dropout)), layout)


class _DenseS3Rec(_Dense):
    """Finetuned as SASRec is trained; pretrained by RecBole's losses, on windows as in its paper, not on prefixes."""

    _encode, read = _DenseSASRec._encode, _DenseSASRec.read

    def calculate_loss(self, interaction):
        """That of the stage."""
        stage = super() if self.train_stage == "finetune" else super(_Dense, self)
        return stage.calculate_loss(interaction)


class _DenseGRU4Rec(_Dense):
    def read(self, item_seq_BL, length_B):
        """(T, H), (T,) and (T,): the vectors of all places, behind histories too, their rows and positions there."""
        self.gather_indexes = lambda output_BLH, _: output_BLH  # RecBole's picks the last position
        parts = []
        try:
            for rows in length_B.argsort(stable=True).tensor_split(min(PARTS, len(length_B))):
                longest = int(length_B[rows[-1]])
                user_BLH = self.forward(item_seq_BL[rows, :longest], length_B[rows])
                position_L = torch.arange(longest, device=rows.device)
                places = rows.repeat_interleave(longest), position_L.repeat(len(rows))
                parts.append((user_BLH.flatten(0, 1), *places))
        finally:
            del self.gather_indexes  # the class's own again
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))


READERS = {"SASRec": _DenseSASRec, "S3Rec": _DenseS3Rec, "GRU4Rec": _DenseGRU4Rec}
