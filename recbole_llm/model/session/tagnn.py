"""TAGNN: SRGNN whose session vector also looks at the session with the eyes of the item that is to be scored.

Feng Yu et al., "TAGNN: Target Attentive Graph Neural Networks for Session-based Recommendation", SIGIR 2020,
https://arxiv.org/abs/2005.02844

For item i the session's events are weighed by a softmax of v_i W h_j (eq. (6)), their sum g_i is added to the session
vector s, and the score is (s + g_i) v_i (``target_attention.py``).

Differs from the paper as its authors' code does: the weights of SRGNN's soft attention go through a softmax over the
session, and g_i is added to the session vector where the paper joins three vectors before a linear map.

Shapes: B sessions, N nodes, I items with padding, H hidden.
"""

import torch.nn.functional as F
from torch import nn

from ...errors import SettingError
from . import target_attention
from .graph import softmax
from .srgnn import SRGNN, Settings  # noqa: F401 - its keys are SRGNN's


class TAGNN(SRGNN):
    """The model; its item table is its item embeddings."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        if self.settings.loss != "ce":
            raise SettingError(
                f"TAGNN makes a session vector for every item, and loss: {self.settings.loss} has one for all; "
                "set loss: ce"
            )
        self.target = nn.Linear(self.settings.hidden_size, self.settings.hidden_size, bias=False)
        self.start_weights()

    def weights(self, graph, score_N):
        """(N,): how much each node counts for the long-term view: its share of its session's."""
        return softmax(score_N, graph.session_N, len(graph.last_B), graph.count_N)

    def scores(self, session_BH, views):
        """(B, I): the score of every item after each session."""
        nodes = views.node_NH, self.target(views.node_NH)
        return target_attention.scores(session_BH, *nodes, views.item_IH, views.graph)

    def score_of(self, session_BH, views, item_B):
        """(B,): the score of one item after each session."""
        graph, item_BH = views.graph, F.embedding(item_B, views.item_IH)
        item_NH = graph.spread(item_BH[:, : self.settings.hidden_size])
        bearing_N = (self.target(views.node_NH) * item_NH).sum(1)
        share_N = softmax(bearing_N, graph.session_N, len(item_B), graph.count_N)
        said_N = share_N * (views.node_NH * item_NH).sum(1)
        return (session_BH * item_BH).sum(1) + graph.sums(said_N[:, None]).squeeze(1)

    def session_loss(self, session_BH, views, target_B, seen_BL=None):
        """Mean cross-entropy of what came after each session among all items but those of ``seen_BL``."""
        nodes = views.node_NH, self.target(views.node_NH)
        return target_attention.loss(session_BH, *nodes, views.item_IH, views.graph, target_B, seen_BL)
