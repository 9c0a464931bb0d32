"""Sessions as graphs, all those of a batch at once: the distinct items of a session are its nodes, its steps the edges.

Nothing is padded and there is no loop over sessions: the nodes of all sessions stand in one row of numbers, session by
session and by item id within a session, and edges name their ends by place in it. A step that occurs twice in a
session is one edge, as in Shu Wu et al., "Session-based Recommendation with Graph Neural Networks", AAAI 2019,
https://arxiv.org/abs/1811.00855

Shapes: B sessions, T events of all sessions, N nodes of all sessions, E edges, R relations, P pieces, S segments, K
members of them.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F

SELF, BEFORE, AFTER, BOTH = range(
    4
)  # what a node is to another: itself, before it, after it, before and after it


@dataclass(frozen=True)
class SessionGraph:
    """The graphs of the sessions of a batch; sessions are numbered as the batch has them."""

    item_N: torch.Tensor  # item of each node
    session_N: torch.Tensor  # its session, in ascending order
    node_T: torch.Tensor  # node of each packed event, in the order of the layout
    session_T: torch.Tensor  # session of each packed event
    last_B: torch.Tensor  # node of each session's last event
    length_B: torch.Tensor  # events of each session
    from_E: torch.Tensor  # node that each edge comes from
    to_E: torch.Tensor  # node that it leads to, in ascending order

    @classmethod
    def of(cls, item_seq_BL, layout):
        """The graphs of sessions that stand as ``layout`` says (``layout.Layout``) in ``item_seq_BL``."""
        item_T, session_T = layout.pack(item_seq_BL), layout.row_T
        n_ids = int(item_T.max()) + 1
        key_N, node_T = torch.unique(session_T * n_ids + item_T, return_inverse=True)
        session_N = key_N // n_ids
        item_N, last_B = key_N - session_N * n_ids, node_T[layout.last_B]
        goes_on = layout.position_T[1:] > 0  # the next event is of the same session
        key_E = torch.unique((node_T[1:] * len(key_N) + node_T[:-1])[goes_on])
        to_E = key_E // len(key_N)
        from_E = key_E - to_E * len(key_N)
        return cls(item_N, session_N, node_T, session_T, last_B, layout.length_B, from_E, to_E)

    @cached_property
    def share_before_E(self):
        """Each edge's share of what comes directly before the node that it leads to."""
        return _counts(self.to_E, len(self.item_N)).reciprocal()[self.to_E]

    @cached_property
    def share_after_E(self):
        """Each edge's share of what comes directly after the node that it comes from."""
        return _counts(self.from_E, len(self.item_N)).reciprocal()[self.from_E]

    @cached_property
    def count_N(self):
        """How often each node's item occurs in its session, as numbers to weigh with."""
        return _counts(self.node_T, len(self.item_N))

    @cached_property
    def relations(self):
        """Three (R,): a node, one that it reads, and what that is to it; node by node.

        A node reads itself and its neighbours, each once.
        """
        n_nodes, self_N = len(self.item_N), torch.arange(len(self.item_N), device=self.item_N.device)
        key = [
            self_N * n_nodes + self_N,
            self.to_E * n_nodes + self.from_E,
            self.from_E * n_nodes + self.to_E,
        ]
        kind = [torch.full_like(one, weight) for one, weight in zip(key, (4, BEFORE, AFTER), strict=True)]
        key_R, place = torch.unique(torch.cat(key), return_inverse=True)
        kind_R = torch.zeros_like(key_R).scatter_add_(0, place, torch.cat(kind))
        reader_R = key_R // n_nodes
        return reader_R, key_R - reader_R * n_nodes, kind_R.where(kind_R <= BOTH, SELF)

    def spread(self, vector_BH):
        """(N, H): to each node the vector of its session."""
        return F.embedding(self.session_N, vector_BH)

    def sums(self, vector_NH):
        """(B, H): the sum of the vectors of each session's nodes."""
        return sums(vector_NH, self.session_N, len(self.last_B))

    def event_sums(self, vector_TH):
        """(B, H): the sum of the vectors of each session's events."""
        session_T, order_T = self.session_T.sort(stable=True)
        return sums(vector_TH, session_T, len(self.last_B), order_T)

    def pieces(self, most):
        """Slices of whole sessions with about ``most`` nodes, as (sessions, nodes, edges): they share no edge."""
        n_sessions = len(self.last_B)
        step = max(n_sessions * most // len(self.item_N), 1)
        session_P = torch.arange(0, n_sessions + step, step, device=self.item_N.device).clamp(max=n_sessions)
        node_P = torch.searchsorted(self.session_N, session_P)
        edge_P = torch.searchsorted(self.to_E, node_P)
        bounds = [bound_P.tolist() for bound_P in (session_P, node_P, edge_P)]
        return [
            tuple(slice(bound[place], bound[place + 1]) for bound in bounds)
            for place in range(len(session_P) - 1)
        ]


def _counts(place_K, n_places):
    """(places,): how often each is named, as float32."""
    one_K = torch.ones(len(place_K), device=place_K.device)
    return one_K.new_zeros(n_places).scatter_add_(0, place_K, one_K)


def sums(vector_KH, segment_K, n_segments, order_K=None):
    """(S, H): the sum of the vectors of each segment; ``segment_K`` in ascending order, the vectors in ``order_K``."""
    start_S = torch.searchsorted(segment_K, torch.arange(n_segments, device=segment_K.device))
    if order_K is None:
        order_K = torch.arange(len(segment_K), device=segment_K.device)
    return F.embedding_bag(order_K, vector_KH, start_S, mode="sum")


def softmax(score_K, segment_K, n_segments, count_K=None):
    """(K,): the scores as shares of their segment, a member counted ``count_K`` times where it is given.

    ``segment_K`` stands in ascending order.
    """
    top_S = score_K.new_full((n_segments,), -torch.inf)
    top_S = top_S.scatter_reduce(0, segment_K, score_K.detach(), "amax")
    mass_K1 = (score_K - top_S[segment_K]).exp()[:, None]
    if count_K is not None:
        mass_K1 = mass_K1 * count_K[:, None]
    return (mass_K1 / F.embedding(segment_K, sums(mass_K1, segment_K, n_segments))).squeeze(1)
