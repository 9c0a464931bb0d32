"""How a session's events are weighed against each other for its long-term view.

Shapes: B sessions, T packed events, N nodes of all sessions, L max session length, H hidden.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .even import evened


class SoftAttention(nn.Module):
    """A session's nodes weighed by q sigmoid(W1 last + W2 node + c), by their bearing on the last; SRGNN's eq. (6)."""

    def __init__(self, size):
        super().__init__()
        self.of_last, self.of_node = nn.Linear(size, size), nn.Linear(size, size)
        self.weigh = nn.Linear(size, 1, bias=False)

    def forward(self, graph, node_NH, last_BH):
        """(N,): the weight of each node."""
        seen_NH = graph.spread(self.of_last(last_BH)) + self.of_node(evened(node_NH))[: len(node_NH)]
        return self.weigh(torch.sigmoid(seen_NH)).squeeze(1).to(node_NH.dtype)


class ReversedPositionAttention(nn.Module):
    """A session's events weighed by what they are and how far from its end they stand; GCE-GNN's eqs. (10)-(13).

    z = tanh(W3 [event; position]), weight q sigmoid(W4 z + W5 mean + c), mean the mean of the events.
    """

    def __init__(self, size, max_length):
        super().__init__()
        self.position = nn.Embedding(max_length, size)
        self.place = nn.Linear(2 * size, size)
        self.of_event, self.of_mean = nn.Linear(size, size), nn.Linear(size, size, bias=False)
        self.weigh = nn.Linear(size, 1, bias=False)

    def forward(self, graph, layout, event_TH):
        """(B, H): the weighed sum of each session's events."""
        mean_BH = graph.event_sums(event_TH) / graph.length_B[:, None]
        from_end_T = graph.length_B[graph.session_T] - 1 - layout.position_T
        placed_TH = torch.tanh(self.place(torch.cat([event_TH, self.position(from_end_T)], 1)))
        seen_TH = self.of_event(placed_TH) + F.embedding(graph.session_T, self.of_mean(mean_BH))
        return graph.event_sums(event_TH * self.weigh(torch.sigmoid(seen_TH)))
