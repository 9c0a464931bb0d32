"""GCE-GNN: the items of a session, read from its own graph and from a graph of all training sessions.

Ziyang Wang et al., "Global Context Enhanced Graph Neural Networks for Session-based Recommendation", SIGIR 2020,
https://arxiv.org/abs/2106.05081

Differs from the paper: an item's neighbours in the global graph are those that it met most often, no sample of them;
their weight is their share of its meetings, where the paper has the count, which grows with the data; the global graph
is read one hop deep, which its tables find enough.

Shapes: B sessions, N nodes of all sessions, R relations between nodes, I items with padding, K neighbours in the global
graph, H hidden, C nodes of a piece.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from ...config import settings_from
from ..dropout import Dropout
from ..items import shares
from .attention import ReversedPositionAttention
from .base import SessionRecommender, SessionSettings, Views
from .global_graph import neighbours
from .graph import SessionGraph, softmax, sums

CELLS = 2**19  # numbers of the neighbours' vectors that are held at a time, and some copies of them
SLOPE = 0.2  # of LeakyReLU below zero


@dataclass(frozen=True)
class Settings(SessionSettings):
    """The keys of ``properties/model/GCEGNN.yaml``, where each has its meaning and its default."""

    n_neighbours: int
    window: int
    dropout_global: float
    dropout_local: float


class GCEGNN(SessionRecommender):
    """The model; its item table is its item embeddings."""

    reads_other_items = True
    own_view = "global"

    def __init__(self, config, dataset):
        super().__init__(config, dataset, settings_from(config, Settings))
        s = self.settings
        neighbour_IK, share_IK = neighbours(dataset, s.n_neighbours, s.window)
        self.register_buffer("neighbour_IK", neighbour_IK, persistent=False)
        self.register_buffer("share_IK", share_IK, persistent=False)
        self.global_layer, self.local_layer = GlobalLayer(s.hidden_size), LocalLayer(s.hidden_size)
        self.drop_global, self.drop_local = Dropout(s.dropout_global), Dropout(s.dropout_local)
        self.attention = ReversedPositionAttention(s.hidden_size, self.max_seq_length)
        self.start_weights()

    def views(self, item_seq_BL, layout, item_IH):
        """The last event's vector, and the sum of all events weighed by what they are and where they stand."""
        graph = SessionGraph.of(item_seq_BL, layout)
        own_NH = F.embedding(graph.item_N, item_IH)
        mean_BH = graph.sums(own_NH * graph.count_N[:, None]) / graph.length_B[:, None]
        wide_NH = self._from_all_sessions(graph, own_NH, mean_BH, item_IH)
        near_NH = self.local_layer(graph, own_NH)
        node_NH = self.drop_global(wide_NH) + self.drop_local(near_NH)  # eq. (9)
        global_BH = self.attention(graph, layout, F.embedding(graph.node_T, node_NH))
        return Views(layout, graph, item_IH, node_NH, F.embedding(graph.last_B, node_NH), global_BH)

    def session(self, views):
        """(B, H): the long-term view, eq. (13); the last event is in it, by its position."""
        return views.global_BH

    def _from_all_sessions(self, graph, own_NH, mean_BH, item_IH):
        """(N, H): each node as the global graph shows it, some nodes at a time and made again on the way back."""
        most = max(CELLS // self.neighbour_IK.shape[1] // item_IH.shape[1], 1)
        parts = zip(
            own_NH.split(most), graph.spread(mean_BH).split(most), graph.item_N.split(most), strict=True
        )
        return torch.cat(
            [
                checkpoint(
                    self.global_layer,
                    *(own_CH, mean_CH, item_IH, self.neighbour_IK[item_C], self.share_IK[item_C]),
                    use_reentrant=False,
                )
                for own_CH, mean_CH, item_C in parts
            ]
        )


class GlobalLayer(nn.Module):
    """An item and what it met in all training sessions, weighed by how near that is to this session; eqs. (1)-(5)."""

    def __init__(self, size):
        super().__init__()
        self.near = nn.Linear(size + 1, size, bias=False)
        self.weigh = nn.Linear(size, 1, bias=False)
        self.join = nn.Linear(2 * size, size, bias=False)

    def forward(self, own_CH, mean_CH, item_IH, neighbour_CK, share_CK):
        """(C, H): the nodes; ``mean_CH`` is the mean of the events of each one's session."""
        neighbour_CKH = F.embedding(neighbour_CK, item_IH)
        near_CKH = self.near(torch.cat([mean_CH[:, None] * neighbour_CKH, share_CK[..., None]], -1))
        score_CK = self.weigh(F.leaky_relu(near_CKH, SLOPE)).squeeze(-1)
        weight_CK = shares(score_CK, neighbour_CK > 0).to(own_CH.dtype)
        met_CH = torch.einsum("ck,ckh->ch", weight_CK, neighbour_CKH)
        return F.relu(self.join(torch.cat([own_CH, met_CH], 1)).to(own_CH.dtype))


class LocalLayer(nn.Module):
    """A node and its neighbours in its session, weighed by likeness, one way for each relation; eqs. (6)-(8)."""

    def __init__(self, size):
        super().__init__()
        self.relation = nn.Embedding(4, size)  # a node to itself, before, after, before and after

    def forward(self, graph, node_NH):
        """(N, H): what each node reads."""
        reader_R, read_R, kind_R = graph.relations
        read_RH = F.embedding(read_R, node_NH)
        score_R = (F.embedding(reader_R, node_NH) * read_RH * self.relation(kind_R)).sum(1)
        share_R = softmax(F.leaky_relu(score_R, SLOPE), reader_R, len(node_NH))
        return sums(read_RH * share_R[:, None], reader_R, len(node_NH))
