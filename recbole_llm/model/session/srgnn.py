"""SRGNN: a session as a graph of its items, read by a gated graph network, its parts weighed by the last item.

Shu Wu et al., "Session-based Recommendation with Graph Neural Networks", AAAI 2019, https://arxiv.org/abs/1811.00855

The numbers are the paper's, but for rounding; they are computed where they differ. What an item sends to its
neighbours and what the gates take from it is the same in all sessions, so before the first step it is made once for
each distinct item of the batch, the two linear maps between an item and a gate multiplied into one. A node that occurs
in its session more than once is weighed once and counted as often as it occurs.

RecBole's model of this name is the same one, padded; it stays reachable as ``RecBole-SRGNN``.

Shapes: B sessions, N nodes of all sessions, M distinct items of the batch, I items with padding, H hidden.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ...config import settings_from
from .attention import SoftAttention
from .base import SessionRecommender, SessionSettings, Views
from .even import evened
from .gates import gated_step
from .graph import SessionGraph


@dataclass(frozen=True)
class Settings(SessionSettings):
    """The keys of ``properties/model/SRGNN.yaml``, where each has its meaning and its default."""

    step: int


class SRGNN(SessionRecommender):
    """The model; its item table is its item embeddings."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset, settings_from(config, Settings))
        size = self.settings.hidden_size
        self.graph_network = GatedGraphNetwork(size, self.settings.step)
        self.attention = SoftAttention(size)
        self.transform = nn.Linear(2 * size, size)
        self.start_weights()

    def views(self, item_seq_BL, layout, item_IH):
        """The last node's vector, and the sum of all nodes weighed by their bearing on it, eq. (6)."""
        graph = SessionGraph.of(item_seq_BL, layout)
        node_NH = self.graph_network(graph, item_IH)
        local_BH = F.embedding(graph.last_B, node_NH)
        weight_N = self.weights(graph, self.attention(graph, node_NH, local_BH))
        global_BH = graph.sums(node_NH * weight_N[:, None])
        return Views(layout, graph, item_IH, node_NH, local_BH, global_BH)

    def weights(self, graph, score_N):
        """(N,): how much each node counts for the long-term view: by its score, as often as it occurs."""
        return score_N * graph.count_N

    def session(self, views):
        """(B, H): both views joined, eq. (7)."""
        return self.transform(torch.cat([views.global_BH, views.local_BH], 1))


class GatedGraphNetwork(nn.Module):
    """Nodes that read the mean of those before them and of those after them, and gate what they take; eqs. (1)-(5)."""

    def __init__(self, size, steps):
        super().__init__()
        self.steps = steps
        self.before, self.after = nn.Linear(size, size), nn.Linear(size, size)
        self.before_bias, self.after_bias = nn.Parameter(torch.empty(size)), nn.Parameter(torch.empty(size))
        self.input_gates, self.hidden_gates = nn.Linear(2 * size, 3 * size), nn.Linear(size, 3 * size)

    def forward(self, graph, item_IH):
        """(N, H): the vectors of the nodes after all steps."""
        item_M, place_N = torch.unique(graph.item_N, return_inverse=True)
        vector_MH = F.embedding(item_M, item_IH)
        for _ in range(self.steps):
            vector_MH = self._step(graph, vector_MH, place_N)
            place_N = torch.arange(len(vector_MH), device=vector_MH.device)
        return vector_MH

    def _step(self, graph, vector_MH, place_N):
        """(N, H): the nodes after a step, where before it node n had the vector ``vector_MH[place_N[n]]``."""
        from_before, from_after = self.input_gates.weight.chunk(2, 1)
        weight_9HH = torch.cat(
            [from_before @ self.before.weight, from_after @ self.after.weight, self.hidden_gates.weight]
        )
        bias_9H = torch.cat(
            [from_before @ self.before.bias, from_after @ self.after.bias, self.hidden_gates.bias]
        )
        constant_3H = F.linear(
            torch.cat([self.before_bias, self.after_bias]), self.input_gates.weight, self.input_gates.bias
        )
        given_M9H = F.linear(evened(vector_MH), weight_9HH, bias_9H).to(vector_MH.dtype)
        given = (part_M3H.contiguous() for part_M3H in given_M9H.chunk(3, 1))
        return gated_step(graph, place_N, vector_MH, *given, constant_3H.to(vector_MH.dtype))
