"""What every model of the house promises: a vector for each event of a history, and an item table to score it with.

RecBole's sequential models repeat ``predict`` and ``full_sort_predict`` thirteen times; here they are written once.

Shapes: B batch, L max history length, T packed events, I items with padding, H hidden.
"""

from abc import abstractmethod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType

from ..data.dataset import ELAPSED, NEXT_ELAPSED, NEXT_ITEMS
from ..data.parts import ROW_END
from ..errors import ArtifactError
from . import losses
from .layout import Layout, is_even, so_far

MOST = 1.0  # ids of a batch, as a share of all items, up to which a sampled loss makes the vectors of its items alone


class Beside(NamedTuple):
    """What stands beside the items of a batch's histories; None where it is not given.

    Times in whole units since a history's first event, (B, L): of its events, and of what comes after each. The user,
    (B,), and the place of what comes after the history among the data set's events, (B,).
    """

    elapsed_BL: torch.Tensor | None = None
    next_elapsed_BL: torch.Tensor | None = None
    user_B: torch.Tensor | None = None
    end_B: torch.Tensor | None = None


class VectorRecommender(SequentialRecommender):
    """A causal sequential model whose score is a user vector times an item table.

    A subclass gives ``items`` and ``encode``; ``scored`` where the score multiplies other vectors than the histories
    read, and ``regularisation`` where its loss has further terms.

    Attributes
    ----------
    text_fingerprints : dict of str to str
        By field, what tells the text vectors apart that the weights were trained on; empty where none are read.
    told_terms : dict of str to torch.Tensor
        By name, the terms of the last batch's loss, which reports tell apart: a sum may hide what one of them does.
    """

    input_type = InputType.POINTWISE
    learns = True  # whether it has weights to train
    causal = True  # whether it reads left to right, so that every position of a window can be a target
    leaves_out_seen = True  # whether its full softmax can leave out what a history has: ``no_repeats``
    reads_other_items = False  # whether a training batch reads items that it does not name
    n_fixed = 0  # the last numbers of each scored vector that learn nothing
    reads_times = False  # whether times are read beside the items, where they are known
    items_are_dear = False  # whether to make fewer of them is worth a search for those that a batch names

    def __init__(self, config, dataset, settings):
        super().__init__(config, dataset)
        self.settings = settings
        self.dense = config["train_rows"] == "dense"
        self.no_repeats = bool(config["no_repeats"])
        log_q_I = None
        if getattr(settings, "negatives", None) == "batch":
            log_q_I = log_chances(dataset.train_counts())
        self.register_buffer("log_q_I", log_q_I, persistent=False)
        self.text_fingerprints, self.told_terms = {}, {}
        self._kept = {}  # see current_items; a dict, for a module would register a table that is itself a weight
        self.register_load_state_dict_post_hook(_forget)  # called wherever in another model this one stands

    @abstractmethod
    def items(self, item_N=None):
        """(I, H): one vector per item, as the histories read it; (N, H) of the items that ``item_N`` names."""

    @abstractmethod
    def encode(self, item_seq_BL, layout, beside):
        """(T, H): for each event that the layout asks for the vector that scores what comes next."""

    def scored(self, item_IH, item_N=None):
        """The vectors that the score multiplies, of all items or of those that ``item_N`` names; as read by default."""
        return item_IH

    def regularisation(self, interaction):
        """By name, further terms of the loss, already weighted; none by default."""
        return {}

    def forward(self, item_seq_BL, item_seq_len_B, *beside):
        """(B, H): the user vectors after each whole history; ``beside``: the fields of ``Beside``, as many as known."""
        return self.encode(item_seq_BL, Layout.of(item_seq_len_B, only_last=True), Beside(*beside))

    def calculate_loss(self, interaction):
        """The sum of ``loss_terms``: one number, for a batch may have other terms than the one before."""
        terms = self.loss_terms(interaction)
        self.told_terms = {name: term.detach() for name, term in terms.items()}
        return sum(terms.values())

    def loss_terms(self, interaction):
        """By name, the ranking loss at every position (dense rows) or the last (prefix rows), and what regularises."""
        s, item_seq_BL = self.settings, interaction[self.ITEM_SEQ]
        even = self.dense and is_even(item_seq_BL.device)
        layout = Layout.of(interaction[self.ITEM_SEQ_LEN], only_last=not self.dense, even=even)
        target_T = layout.pack(interaction[NEXT_ITEMS]) if self.dense else interaction[self.POS_ITEM_ID]
        with_target_T = target_places(target_T)
        target_T = target_T[with_target_T]
        negative = item_N = seen_TL = None
        if self.no_repeats:
            seen_TL = so_far(item_seq_BL, *(part[with_target_T] for part in layout.asked))
        if s.loss != "ce":
            negative = losses.draw_negatives(s.negatives, s.n_negatives, target_T, self.n_items)
            item_N, item_seq_BL, target_T, negative = self._named(item_seq_BL, target_T, negative)
        self._kept["items"] = self.items(item_N)
        try:
            user_TH = self.encode(item_seq_BL, layout, self.beside(interaction))
            if len(with_target_T) < len(user_TH):
                user_TH = F.embedding(with_target_T, user_TH)
            log_q = self.log_q_I if self.log_q_I is None or item_N is None else self.log_q_I[item_N]
            scored_IH = self.scored(self.current_items(), item_N)
            ranking = self.ranking_loss(user_TH, scored_IH, target_T, negative, log_q, seen_TL)
            return {"ranking": ranking} | self.regularisation(interaction)
        finally:
            self._kept.clear()

    def _named(self, *ids):
        """The items that a batch names, (N,) with padding first, and its ids as places among them.

        A sampled loss needs the vectors of no others: of a million items a batch names some thousands. None, and the
        ids as they are, where the batch names about as many as there are, or further losses read others.
        """
        many = sum(each.numel() for each in ids) > MOST * self.n_items
        if self.reads_other_items or (many and not self.items_are_dear):
            return None, *ids
        first = ids[0].new_zeros(1)
        item_N, place = torch.unique(
            torch.cat([first, *(each.flatten() for each in ids)]), return_inverse=True
        )
        places = place[1:].split([each.numel() for each in ids])
        return item_N, *(part.view(each.shape) for part, each in zip(places, ids, strict=True))

    def ranking_loss(self, user_TH, item_IH, target_T, negative=None, log_q=None, seen_TL=None):
        """The loss named by ``loss``: ce (full softmax), ssm (sampled softmax), gbce or bce."""
        s = self.settings
        match s.loss:
            case "ce":
                return losses.full_softmax(user_TH, item_IH, target_T, self.n_fixed, seen_TL)
            case "ssm":
                return losses.sampled_softmax(user_TH, item_IH, target_T, negative, log_q)
            case "gbce" | "bce":
                calibration = s.gbce_calibration if s.loss == "gbce" else 0.0
                return losses.generalised_bce(
                    user_TH, item_IH, target_T, negative, calibration=calibration, n_items=self.n_items
                )

    def full_sort_predict(self, interaction):
        """(B, I): the score of every item as the next one; with ``no_repeats`` -inf for those of the history."""
        score_BI = self.every_score(interaction)
        return without_seen(score_BI, interaction[self.ITEM_SEQ]) if self.no_repeats else score_BI

    def every_score(self, interaction):
        """(B, I): the same, but of the history's items too."""
        return self._users(interaction) @ self.scored_items().t()

    def predict(self, interaction):
        """(B,): the score of the one given item of each row, whether or not it was seen."""
        user_BH = self._users(interaction)
        item_B = interaction[self.ITEM_ID]
        return (user_BH * self.scored(self.current_items()[item_B], item_B)).sum(1)

    def _users(self, interaction):
        """(B, H): the user vectors of a batch."""
        columns = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
        return self.forward(*columns, *self.beside(interaction))

    def beside(self, interaction):
        """The ``Beside`` of a batch."""
        names = (ELAPSED, NEXT_ELAPSED, self.USER_ID, ROW_END)
        return Beside(*(interaction[name] if name in interaction else None for name in names))

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

    # ------------------------------------------------------------------ export: a subclass has ``read`` then

    @property
    def not_exported(self):
        """Why no encoder of item vectors can be exported, in a sentence; None where it can."""
        return f"{type(self).__name__} cannot be exported so far; LLMSeqRec and HierLLMRec can"

    def items_as_read(self):
        """(I, H): the items as ``read`` takes them."""
        return self.current_items()

    # ------------------------------------------------------------------ checkpoints

    other_parameter_name = ("text_fingerprints",)

    def load_other_parameter(self, parameters):
        """Refuse weights that were trained on other text vectors, or beside another language model."""
        for field, key in (parameters or {}).get("text_fingerprints", {}).items():
            if self.text_fingerprints.get(field) != key:
                raise ArtifactError(
                    f"the weights were trained with {key[:19]} as `{field}`, found "
                    f"{str(self.text_fingerprints.get(field))[:19]}; use the same text and models, or train again"
                )

    def train(self, mode=True):
        """Switch between training and evaluation; the items are made anew."""
        self._kept.clear()
        return super().train(mode)


def _forget(model, incompatible_keys):
    """Make the items anew of other weights."""
    model._kept.clear()


def without_seen(score_BI, item_seq_BL):
    """The scores, changed in place: -inf for the items of each history."""
    return score_BI.scatter_(1, item_seq_BL, -torch.inf)


def target_places(target_T):
    """The places of the events that have a target; those of a window's context have none."""
    return torch.nonzero(target_T).squeeze(1)


def log_chances(count_I):
    """(I,): the logarithm of each item's share of the training events; one more than counted, so that none is 0."""
    chance_I = count_I.double() + 1
    return (chance_I / chance_I[1:].sum()).log().float()
