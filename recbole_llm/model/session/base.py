"""What every session model promises: two views of a session, its vector, and an item table to score it with.

A session model reads a session as a whole, so that a row has one target (``train_rows: prefix``). Who wraps a session
model (LLM4SBR does) asks it for its parts: ``items()``, the table; ``views``, all that it makes of the sessions of a
batch with that table; ``session``, the vector that it would score with. ``scores``, ``score_of`` and ``session_loss``
take the views and any session vector in that one's place.

Shapes: B sessions, L max session length, T packed events, N nodes of all sessions, I items with padding, H hidden.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from .. import losses
from ..base import VectorRecommender
from ..layout import Layout
from .graph import SessionGraph


@dataclass(frozen=True)
class SessionSettings:
    """The keys that all session models have."""

    hidden_size: int
    loss: Literal["ce", "ssm", "gbce", "bce"]
    negatives: Literal["shared", "row", "batch"]
    n_negatives: int
    gbce_calibration: float


@dataclass(frozen=True)
class Views:
    """What a session model makes of the sessions of a batch."""

    layout: Layout
    graph: SessionGraph
    item_IH: torch.Tensor  # the table of items that they were read with, or are to be scored with
    node_NH: torch.Tensor  # the vector of each node of the sessions' graphs
    local_BH: torch.Tensor  # the short-term view: what the last event says
    global_BH: torch.Tensor  # the long-term view: what all events together say
    further_loss: torch.Tensor | None = None  # already weighted; of a training batch alone
    n_fixed: int = 0  # the last numbers of each item of ``item_IH`` learn nothing

    @property
    def event_TH(self):
        """(T, H): the vector of each event, packed as the layout says; ``layout.pad`` makes it (B, L, H)."""
        return F.embedding(self.graph.node_T, self.node_NH)


class ProductScore:
    """Scores of a session vector that are its product with the items of the views."""

    def scores(self, session_BH, views):
        """(B, I): the score of every item after each session."""
        return session_BH @ views.item_IH.t()

    def score_of(self, session_BH, views, item_B):
        """(B,): the score of one item after each session."""
        return (session_BH * F.embedding(item_B, views.item_IH)).sum(1)

    def session_loss(self, session_BH, views, target_B, seen_BL=None):
        """Mean cross-entropy of what came after each session among all items but those of ``seen_BL``."""
        return losses.full_softmax(session_BH, views.item_IH, target_B, views.n_fixed, seen_BL)


class SessionRecommender(ProductScore, VectorRecommender):
    """A session model whose score is a session vector times an item table.

    A subclass gives ``views`` and ``session``; ``items`` where its table is more than embeddings; ``scores``,
    ``score_of`` and ``session_loss`` where its score is more than a product.
    """

    causal = False
    own_view = None  # "global" or "local", where ``session`` is that view itself
    fixed_length = False  # whether all session vectors are of one length, as behind a layer norm

    def __init__(self, config, dataset, settings):
        super().__init__(config, dataset, settings)
        self.item_embedding = nn.Embedding(self.n_items, settings.hidden_size, padding_idx=0)

    def items(self, item_N=None):
        """(I, H): the item embeddings; (N, H) of the items that ``item_N`` names."""
        return self.item_embedding.weight if item_N is None else self.item_embedding(item_N)

    @abstractmethod
    def views(self, item_seq_BL, layout, item_IH):
        """The ``Views`` of the sessions that stand as ``layout`` says in ``item_seq_BL``, read with these items."""

    @abstractmethod
    def session(self, views):
        """(B, H): the vector that scores what comes after each session."""

    # ------------------------------------------------------------------ what the base asks for

    def encode(self, item_seq_BL, layout, beside):
        """(B, H): the session vectors; what stands beside the items is not read."""
        self._kept["views"] = views = self.views(item_seq_BL, layout, self.current_items())
        return self.session(views)

    def loss_terms(self, interaction):
        """By name, the ranking loss after each session and what regularises.

        Autocast is for the ranking loss alone: graphs have another size at every step, and oneDNN would write a kernel
        for each (``layout.py``).
        """
        device = interaction[self.ITEM_SEQ].device.type
        self._kept["autocast"] = torch.is_autocast_enabled(device)
        with torch.autocast(device, enabled=False):
            return super().loss_terms(interaction)

    def ranking_loss(self, user_TH, item_IH, target_T, negative=None, log_q=None, seen_TL=None):
        """The loss named by ``loss``."""
        device = user_TH.device.type
        with torch.autocast(device, torch.get_autocast_dtype(device), enabled=self._kept["autocast"]):
            if self.settings.loss == "ce":
                views = replace(self._kept["views"], item_IH=item_IH, n_fixed=self.n_fixed)
                return self.session_loss(user_TH, views, target_T, seen_TL)
            return super().ranking_loss(user_TH, item_IH, target_T, negative, log_q)

    def regularisation(self, interaction):
        """By name, what the views of the batch add to the loss."""
        further = self._kept["views"].further_loss
        return {} if further is None else {"contrast": further}

    def every_score(self, interaction):
        """(B, I): the score of every item as the next one, those of the session among them."""
        return self.scores(*self._read(interaction))

    def predict(self, interaction):
        """(B,): the score of the one given item of each row."""
        return self.score_of(*self._read(interaction), interaction[self.ITEM_ID])

    def _read(self, interaction):
        """(B, H): the vectors of the sessions; and their views, with the items that are to be scored."""
        session_BH = self._users(interaction)
        return session_BH, replace(self._kept.pop("views"), item_IH=self.scored_items())

    def start_weights(self):
        """All weights uniform within 1 / sqrt(H) of zero, as the papers of the session models have them."""
        bound = 1 / math.sqrt(self.settings.hidden_size)
        for weight in self.parameters():
            nn.init.uniform_(weight, -bound, bound)
