"""What every model of the house promises: a vector for each event of a history, and an item table to score it with.

RecBole's sequential models repeat ``predict`` and ``full_sort_predict`` thirteen times; here they are written once.

Shapes: B batch, L max history length, T packed events, I items with padding, H hidden.
"""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType

from ..data.dataset import ELAPSED, NEXT_ELAPSED, NEXT_ITEMS
from . import losses
from .layout import Layout

MOST = 1.0  # ids of a batch, as a share of all items, up to which a sampled loss makes the vectors of its items alone


class VectorRecommender(SequentialRecommender):
    """A causal sequential model whose score is a user vector times an item table.

    A subclass gives ``items`` and ``encode``; ``scored`` where vectors are normalised before they are multiplied, and
    ``regularisation`` where its loss has further terms.
    """

    input_type = InputType.POINTWISE
    causal = True  # whether it reads left to right, so that every position of a window can be a target
    reads_other_items = False  # whether a training batch reads items that it does not name

    def __init__(self, config, dataset, settings):
        super().__init__(config, dataset)
        self.settings = settings
        self.dense = config["train_rows"] == "dense"
        log_q_I = log_chances(dataset.train_counts()) if settings.negatives == "batch" else None
        self.register_buffer("log_q_I", log_q_I, persistent=False)
        self._kept = {}  # see current_items; a dict, for a module would register a table that is itself a weight

    @abstractmethod
    def items(self, item_N=None):
        """(I, H): one vector per item, as the histories read it; (N, H) of the items that ``item_N`` names."""

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
        s, item_seq_BL = self.settings, interaction[self.ITEM_SEQ]
        layout = Layout.of(interaction[self.ITEM_SEQ_LEN], only_last=not self.dense)
        target_T = layout.pack(interaction[NEXT_ITEMS]) if self.dense else interaction[self.POS_ITEM_ID]
        with_target_T = target_places(target_T)
        target_T = target_T[with_target_T]
        negative = item_N = None
        if s.loss != "ce":
            negative = losses.draw_negatives(s.negatives, s.n_negatives, target_T, self.n_items)
            item_N, item_seq_BL, target_T, negative = self._named(item_seq_BL, target_T, negative)
        self._kept["items"] = self.items(item_N)
        try:
            user_TH = self.encode(item_seq_BL, layout, *_times(interaction))
            if len(with_target_T) < len(user_TH):
                user_TH = F.embedding(with_target_T, user_TH)
            log_q = self.log_q_I if self.log_q_I is None or item_N is None else self.log_q_I[item_N]
            terms = (
                self.ranking_loss(user_TH, target_T, negative, log_q),
                *self.regularisation(interaction),
            )
        finally:
            self._kept.clear()
        return terms if len(terms) > 1 else terms[0]

    def _named(self, *ids):
        """The items that a batch names, (N,) with padding first, and its ids as places among them.

        A sampled loss needs the vectors of no others: of a million items a batch names some thousands. None, and the
        ids as they are, where the batch names about as many as there are, or further losses read others.
        """
        if self.reads_other_items or sum(each.numel() for each in ids) > MOST * self.n_items:
            return None, *ids
        first = ids[0].new_zeros(1)
        item_N, place = torch.unique(
            torch.cat([first, *(each.flatten() for each in ids)]), return_inverse=True
        )
        places = place[1:].split([each.numel() for each in ids])
        return item_N, *(part.view(each.shape) for part, each in zip(places, ids, strict=True))

    def ranking_loss(self, user_TH, target_T, negative=None, log_q=None):
        """The loss named by ``loss``: ce (full softmax), ssm (sampled softmax), gbce or bce."""
        s, item_IH = self.settings, self.scored(self.current_items())
        match s.loss:
            case "ce":
                return losses.full_softmax(user_TH, item_IH, target_T)
            case "ssm":
                return losses.sampled_softmax(user_TH, item_IH, target_T, negative, log_q)
            case "gbce" | "bce":
                calibration = s.gbce_calibration if s.loss == "gbce" else 0.0
                return losses.generalised_bce(
                    user_TH, item_IH, target_T, negative, calibration=calibration, n_items=self.n_items
                )

    def full_sort_predict(self, interaction):
        """(B, I): the score of every item as the next one."""
        user_BH = self.forward(
            interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN], *_times(interaction)
        )
        return user_BH @ self.scored_items().t()

    def predict(self, interaction):
        """(B,): the score of the one given item of each row."""
        user_BH = self.forward(
            interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN], *_times(interaction)
        )
        return (user_BH * self.scored(self.current_items()[interaction[self.ITEM_ID]])).sum(1)

    def scored_items(self):
        """(I, H): the items as the score multiplies them; made once per evaluation, as ``current_items`` are."""
        if self.training:
            return self.scored(self.current_items())
        if "scored" not in self._kept:
            with torch.no_grad():
                self._kept["scored"] = self.scored(self.current_items())
        return self._kept["scored"]

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


def target_places(target_T):
    """The places of the events that have a target; those of a window's context have none."""
    return torch.nonzero(target_T).squeeze(1)


def log_chances(count_I):
    """(I,): the logarithm of each item's share of the training events; one more than counted, so that none is 0."""
    chance_I = count_I.double() + 1
    return (chance_I / chance_I[1:].sum()).log().float()


def _times(interaction):
    """The elapsed times of a batch and of what follows each event; None where the data set does not give them."""
    return tuple(interaction[name] if name in interaction else None for name in (ELAPSED, NEXT_ELAPSED))
