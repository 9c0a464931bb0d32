"""RecBole's own models where nobody takes an item twice (``no_repeats``): what was read is no candidate.

On prefix rows their loss stays RecBole's, but the scores that it is handed lack the items of the row's history, and
padding. On dense rows ``dense.py`` has a loss that lacks them.
"""

import torch.nn.functional as F
from torch import nn

from .base import without_seen
from .losses import PADDING_LOGIT

# models that hand the scores of all items to ``loss_fct``
ON_PREFIXES = ("GRU4Rec", "SASRec", "NARM", "STAMP", "GCSAN", "SRGNN")


def without_repeats(model_class):
    """``model_class``, which ``can_leave_out_seen``, with a loss and a ranking that do; ours do so themselves."""
    if hasattr(model_class, "leaves_out_seen"):
        return model_class
    return type(model_class.__name__, (_OnPrefixes, model_class), {})


def can_leave_out_seen(model_class, config):
    """Whether a model's loss on prefix rows can leave out what a history has."""
    if hasattr(model_class, "leaves_out_seen"):
        return model_class.leaves_out_seen
    return model_class.__name__.removeprefix("RecBole-") in ON_PREFIXES and config["loss_type"] == "CE"


class Unseen:
    """In front of a model of RecBole's: its ranking, with ``no_repeats``, without what was read."""

    leaves_out_seen = True

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.no_repeats = bool(config["no_repeats"])

    def full_sort_predict(self, interaction):
        """(B, I): RecBole's scores; with ``no_repeats`` -inf for the items of the history."""
        score_BI = super().full_sort_predict(interaction)
        return without_seen(score_BI, interaction[self.ITEM_SEQ]) if self.no_repeats else score_BI


class _OnPrefixes(Unseen):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        if self.no_repeats:
            self.loss_fct = _OfUnseen()

    def calculate_loss(self, interaction):
        """RecBole's loss, which is handed the scores of what was not read."""
        if self.no_repeats:
            self.loss_fct.seen_BL = interaction[self.ITEM_SEQ]
        return super().calculate_loss(interaction)


class _OfUnseen(nn.CrossEntropyLoss):
    seen_BL = None  # the histories of the batch, padding behind

    def forward(self, score_BI, target_B):
        """Mean cross-entropy of each row's target among the items that it has not read."""
        padding_too_BM = F.pad(self.seen_BL, (0, 1))
        return super().forward(score_BI.scatter(1, padding_too_BM, PADDING_LOGIT), target_B)
