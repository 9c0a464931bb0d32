"""TAGNN: SRGNN whose session vector also looks at the session with the eyes of the item that is to be scored.

Feng Yu et al., "TAGNN: Target Attentive Graph Neural Networks for Session-based Recommendation", SIGIR 2020,
https://arxiv.org/abs/2005.02844

For item i the session's events are weighed by a softmax of v_i W h_j (eq. (6)), their sum g_i is added to the session
vector s, and the score is (s + g_i) v_i. Written as s v_i + the weighed sum of h_j v_i, neither g_i (B x I x H numbers)
nor anything else is made for more than some sessions at a time.

Differs from the paper as its authors' code does: the weights of SRGNN's soft attention go through a softmax over the
session, and g_i is added to the session vector where the paper joins three vectors before a linear map.

Shapes: B sessions, I items with padding, H hidden, C nodes of a piece, P sessions of a piece.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from ...errors import SettingError
from .graph import softmax
from .srgnn import SRGNN, Settings  # noqa: F401 - its keys are SRGNN's

CELLS = 2**20  # numbers (nodes times items) held at a time, and some copies of them


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
        return torch.cat([_scores(*piece, views.item_IH) for piece in self._pieces(session_BH, views)])

    def score_of(self, session_BH, views, item_B):
        """(B,): the score of one item after each session."""
        graph, item_BH = views.graph, F.embedding(item_B, views.item_IH)
        item_NH = graph.spread(item_BH)
        bearing_N = (self.target(views.node_NH) * item_NH).sum(1)
        share_N = softmax(bearing_N, graph.session_N, len(item_B), graph.count_N)
        said_N = share_N * (views.node_NH * item_NH).sum(1)
        return (session_BH * item_BH).sum(1) + graph.sums(said_N[:, None]).squeeze(1)

    def session_loss(self, session_BH, views, target_B):
        """Mean cross-entropy of what came after each session; the scores are made again on the way back, not kept."""
        total, rows = 0, 0
        for piece in self._pieces(session_BH, views):
            targets = target_B[rows : (rows := rows + len(piece[0]))]
            total = total + checkpoint(_loss, *piece, views.item_IH, targets, use_reentrant=False)
        return total / len(target_B)

    def _pieces(self, session_BH, views):
        """Session vectors (P, H), nodes (C, H), nodes as targets see them (C, H), their sessions and counts (C,)."""
        graph = views.graph
        slices = graph.pieces(max(CELLS // len(views.item_IH), 1))
        sessions, nodes = ([one[kind].stop - one[kind].start for one in slices] for kind in (0, 1))
        parts = (
            session_BH.split(sessions),
            views.node_NH.split(nodes),
            self.target(views.node_NH).split(nodes),
            graph.session_N.split(nodes),
            graph.count_N.split(nodes),
        )
        for session_PH, node_CH, seen_CH, session_C, count_C in zip(*parts, strict=True):
            yield session_PH, node_CH, seen_CH, session_C - session_C[0], count_C


def _scores(session_PH, node_CH, seen_CH, session_C, count_C, item_IH):
    """(P, I): (s + g_i) v_i of every item and session."""
    item_HI = item_IH.t()
    bearing_CI = (seen_CH @ item_HI).to(item_IH.dtype)
    top_PI = bearing_CI.new_full((len(session_PH), len(item_IH)), -torch.inf)
    top_PI = top_PI.scatter_reduce(0, session_C[:, None].expand_as(bearing_CI), bearing_CI.detach(), "amax")
    mass_CI = (bearing_CI - top_PI.index_select(0, session_C)).exp() * count_C[:, None]
    mass_PI, said_PI = (
        torch.zeros_like(top_PI).index_add(0, session_C, each_CI)
        for each_CI in (mass_CI, mass_CI * (node_CH @ item_HI))
    )
    return said_PI / mass_PI + session_PH @ item_HI


def _loss(*piece):
    *session, target_P = piece
    score_PI = _scores(*session)
    no_padding_I = torch.arange(score_PI.shape[1], device=score_PI.device) > 0
    return F.cross_entropy(score_PI.where(no_padding_I, -torch.inf), target_P, reduction="sum")
