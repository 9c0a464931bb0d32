"""What every model of the house promises: a vector for each event of a history, and an item table to score it with.

RecBole's sequential models repeat ``predict`` and ``full_sort_predict`` thirteen times; here they are written once.

Shapes: B batch, L max history length, T packed events, I items with padding, H hidden.
"""

from abc import abstractmethod

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType

from ..data.dataset import ELAPSED, NEXT_ELAPSED, NEXT_ITEMS
from . import losses
from .layout import Layout


class VectorRecommender(SequentialRecommender):
    """A causal sequential model whose score is a user vector times an item table.

    A subclass gives ``items`` and ``encode``; ``scored`` where vectors are normalised before they are multiplied, and
    ``regularisation`` where its loss has further terms.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config, dataset, settings):
        super().__init__(config, dataset)
        self.settings = settings
        self.dense = config["train_rows"] == "dense"
        log_q_I = log_chances(dataset.train_counts()) if settings.negatives == "batch" else None
        self.register_buffer("log_q_I", log_q_I, persistent=False)
        self._kept = {}  # see current_items; a dict, for a module would register a table that is itself a weight

    @abstractmethod
    def items(self):
        """(I, H): one vector per item, as the histories read it."""

    @abstractmethod
    def encode(self, item_seq_BL, layout, elapsed_BL, next_elapsed_BL=None):
        """(T, H): for each event that the layout asks for the vector that scores what comes next."""

    def scored(self, item_IH):
        """The item vectors as the score multiplies them; as they are by default."""
        return item_IH

    def regularisation(self, interaction):
        """A tuple of further loss terms, already weighted; none by default."""
        return ()

    def forward(self, item_seq_BL, item_seq_len_B, elapsed_BL=None, next_elapsed_BL=None):
        """(B, H): the user vectors after each whole history."""
        layout = Layout.of(item_seq_len_B, only_last=True)
        return self.encode(item_seq_BL, layout, elapsed_BL, next_elapsed_BL)

    def calculate_loss(self, interaction):
        """The ranking loss at every position (dense rows) or at the last one (prefix rows), and what regularises."""
        layout = Layout.of(interaction[self.ITEM_SEQ_LEN], only_last=not self.dense)
        self._kept["items"] = self.items()
        try:
            user_TH = self.encode(interaction[self.ITEM_SEQ], layout, *_times(interaction))
            if self.dense:
                user_TH, target_T = with_target(user_TH, layout.pack(interaction[NEXT_ITEMS]))
            else:
                target_T = interaction[self.POS_ITEM_ID]
            terms = (self.ranking_loss(user_TH, target_T), *self.regularisation(interaction))
        finally:
            self._kept.clear()
        return terms if len(terms) > 1 else terms[0]

    def ranking_loss(self, user_TH, target_T):
        """The loss named by ``loss``: ce (full softmax), ssm (sampled softmax), gbce or bce."""
        s, item_IH = self.settings, self.scored(self.current_items())
        if s.loss == "ce":
            return losses.full_softmax(user_TH, item_IH, target_T)
        negative = losses.draw_negatives(s.negatives, s.n_negatives, target_T, self.n_items)
        if s.loss == "ssm":
            return losses.sampled_softmax(user_TH, item_IH, target_T, negative, self.log_q_I)
        calibration = s.gbce_calibration if s.loss == "gbce" else 0.0
        return losses.generalised_bce(user_TH, item_IH, target_T, negative, calibration=calibration)

    def full_sort_predict(self, interaction):
        """(B, I): the score of every item as the next one."""
        user_BH = self.forward(
            interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN], *_times(interaction)
        )
        return user_BH @ self.scored(self.current_items()).t()

    def predict(self, interaction):
        """(B,): the score of the one given item of each row."""
        user_BH = self.forward(
            interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN], *_times(interaction)
        )
        return (user_BH * self.scored(self.current_items()[interaction[self.ITEM_ID]])).sum(1)

    def current_items(self):
        """(I, H): ``items()``, made once per training batch and once per evaluation, until ``train()`` is called.

        Within a batch the histories and the scores so share one draw of every dropout.
        """
        if "items" in self._kept:
            return self._kept["items"]
        if self.training:
            return self.items()
        with torch.no_grad():
            self._kept["items"] = self.items()
        return self._kept["items"]

    def load_state_dict(self, *args, **kwargs):
        """Take other weights; the items are made anew."""
        self._kept.clear()
        return super().load_state_dict(*args, **kwargs)

    def train(self, mode=True):
        """Switch between training and evaluation; the items are made anew."""
        self._kept.clear()
        return super().train(mode)


def with_target(user_TH, target_T):
    """The user vectors and targets of the events that have a target; a window's context has none."""
    place_T = torch.nonzero(target_T).squeeze(1)
    return (user_TH, target_T) if len(place_T) == len(target_T) else (user_TH[place_T], target_T[place_T])


def log_chances(count_I):
    """(I,): the logarithm of each item's share of the training events; one more than counted, so that none is 0."""
    chance_I = count_I.double() + 1
    return (chance_I / chance_I[1:].sum()).log().float()


def _times(interaction):
    """The elapsed times of a batch and of what follows each event; None where the data set does not give them."""
    return tuple(interaction[name] if name in interaction else None for name in (ELAPSED, NEXT_ELAPSED))
