"""S2-DHCN: items read through all training sessions that hold them, sessions also through those that they overlap with.

Xin Xia et al., "Self-Supervised Hypergraph Convolutional Networks for Session-based Recommendation", AAAI 2021,
https://arxiv.org/abs/2012.06852

Every training session is a hyperedge over its items: a layer gives an item the mean, over its sessions, of the mean of
their items (eq. (3)). The sessions of a batch form the line graph, weighed by the share of items that two have in
common (eqs. (7)-(8)). The vectors of a session from the two are to find each other (eq. (9)).

As in the authors' code, ``dhcn_detach`` keeps gradients of the second loss out of the line graph's vectors.

Shapes: B sessions, N nodes of all sessions, I items with padding, S training sessions, J distinct items of the batch, H
hidden.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ...config import settings_from
from .attention import ReversedPositionAttention
from .base import SessionRecommender, SessionSettings, Views
from .graph import SessionGraph


@dataclass(frozen=True)
class Settings(SessionSettings):
    """The keys of ``properties/model/DHCN.yaml``, where each has its meaning and its default."""

    n_layers: int
    lambda_ssl: float
    dhcn_detach: bool


class DHCN(SessionRecommender):
    """The model; its item table is what the hypergraph makes of its item embeddings."""

    reads_other_items = True
    own_view = "global"

    def __init__(self, config, dataset):
        super().__init__(config, dataset, settings_from(config, Settings))
        for name, value in zip(
            ("item", "session", "session_start", "item_start"), incidence(dataset), strict=True
        ):
            self.register_buffer(f"hyper_{name}", value, persistent=False)
        self.attention = ReversedPositionAttention(self.settings.hidden_size, self.max_seq_length)
        self.start_weights()

    def items(self, item_N=None):
        """(I, H): the mean of the layers of the hypergraph, eq. (4); row 0 is padding."""
        layers = [self.item_embedding.weight]
        for _ in range(self.settings.n_layers):
            session_SH = F.embedding_bag(self.hyper_item, layers[-1], self.hyper_session_start, mode="mean")
            layers.append(F.embedding_bag(self.hyper_session, session_SH, self.hyper_item_start, mode="mean"))
        return sum(layers) / len(layers)

    def views(self, item_seq_BL, layout, item_IH):
        """The last event's item, and all events weighed by what they are and where they stand, eqs. (5)-(6)."""
        graph = SessionGraph.of(item_seq_BL, layout)
        node_NH = F.embedding(graph.item_N, item_IH)
        global_BH = self.attention(graph, layout, F.embedding(graph.node_T, node_NH))
        further = None
        if self.training and self.settings.lambda_ssl > 0:
            further = self.settings.lambda_ssl * self._contrast(global_BH, self.through_overlaps(graph))
        return Views(layout, graph, item_IH, node_NH, F.embedding(graph.last_B, node_NH), global_BH, further)

    def session(self, views):
        """(B, H): the long-term view."""
        return views.global_BH

    def through_overlaps(self, graph):
        """(B, H): each session, at first the mean of its items, as the mean of the layers of the line graph."""
        share_BB = overlaps(graph)
        own_NH = self.item_embedding(graph.item_N)
        layers = [graph.sums(own_NH * graph.count_N[:, None]) / graph.length_B[:, None]]
        for _ in range(self.settings.n_layers):
            layers.append(share_BB @ layers[-1])
        return sum(layers).to(own_NH.dtype) / len(layers)

    def _contrast(self, session_BH, line_BH):
        """The summed loss of a discriminator that is to tell a session's other vector from a shuffled one, eq. (9)."""
        if self.settings.dhcn_detach:
            line_BH = line_BH.detach()
        rows, columns = (torch.randperm(size, device=line_BH.device) for size in session_BH.shape)
        shuffled_BH = F.embedding(rows, session_BH)[:, columns]
        right_B, wrong_B = (session_BH * line_BH).sum(1), (shuffled_BH * line_BH).sum(1)
        return -(F.logsigmoid(right_B) + F.logsigmoid(-wrong_B)).sum()


def overlaps(graph):
    """(B, B): by how much of each other's items each session reads the others and itself; rows sum to 1.

    Two sessions weigh what they have in common, divided by what they have together; a session weighs itself once more.
    """
    item_J, place_N = torch.unique(graph.item_N, return_inverse=True)
    holds_BJ = torch.zeros(len(graph.last_B), len(item_J), device=item_J.device)
    holds_BJ[graph.session_N, place_N] = 1
    with torch.autocast(holds_BJ.device.type, enabled=False):  # counts, which bfloat16 would round
        common_BB = holds_BJ @ holds_BJ.t()
    size_B = holds_BJ.sum(1)
    weight_BB = common_BB / (size_B[:, None] + size_B - common_BB) + torch.eye(
        len(size_B), device=size_B.device
    )
    return weight_BB / weight_BB.sum(1, keepdim=True)


def incidence(dataset):
    """The hypergraph of the training part ``dataset`` as two lists, each with where its bags begin.

    The distinct items of each training session, session by session; the sessions of each item, item by item; where
    each session's items begin; where each item's sessions begin.
    """
    place = dataset.own_places()
    item, start = dataset.events[dataset.iid_field][place].numpy(), dataset.user_start[place].numpy()
    _, session = np.unique(start, return_inverse=True)
    session, item = np.divmod(np.unique(session * dataset.item_num + item), dataset.item_num)
    order = np.argsort(item, kind="stable")
    session_start = np.searchsorted(session, np.arange(session[-1] + 1))
    item_start = np.searchsorted(item[order], np.arange(dataset.item_num))
    return tuple(torch.from_numpy(part) for part in (item, session[order], session_start, item_start))
