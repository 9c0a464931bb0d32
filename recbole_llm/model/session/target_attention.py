"""TAGNN's target attention over the whole catalogue: every item looks at a session's nodes in its own way.

    score_i = (s + g_i) v_i,   g_i = sum over nodes c of beta_ci h_c,   beta_i = softmax over c of (v_i W h_c)

g_i is never made: g_i v_i is the mean of h_c v_i by beta, so that two products of all nodes and all items are enough.
They are made some sessions at a time. Where s and the items have more numbers than the nodes, g_i v_i is of the first.

Feng Yu et al., "TAGNN", SIGIR 2020, https://arxiv.org/abs/2005.02844

Shapes: B sessions, N nodes, I items with padding, H hidden; of a piece P sessions, C nodes, R = 2 C rows.
"""

import torch
import torch.nn.functional as F

from ..losses import PADDING_LOGIT
from .graph import sums

CELLS = 2**20  # numbers (nodes times items) held at a time, and some copies of them


def scores(session_BH, node_NH, seen_NH, item_IH, graph):
    """(B, I): the score of every item after each session; ``seen_NH`` is W h of each node."""
    item_HI, found = item_IH.t(), []
    read_HI = item_HI[: node_NH.shape[1]]
    for sessions, nodes, session_C, count in _pieces(graph, len(item_IH)):
        bearing_CI, said_CI = seen_NH[nodes] @ read_HI, node_NH[nodes] @ read_HI
        mass_CI = bearing_CI - _top(bearing_CI.detach(), session_C, count).index_select(0, session_C)
        mass_CI = mass_CI.exp() * graph.count_N[nodes, None]
        mass_PI, said_PI = (sums(each_CI, session_C, count) for each_CI in (mass_CI, mass_CI * said_CI))
        found.append(session_BH[sessions] @ item_HI + said_PI / mass_PI)
    return torch.cat(found)


def loss(session_BH, node_NH, seen_NH, item_IH, graph, target_B, seen_BL=None):
    """Mean cross-entropy of the target among all items but padding and those of ``seen_BL``, (B, L) with zeros behind.

    The products are in autocast's type where it is on.
    """
    device, dtype = session_BH.device.type, session_BH.dtype
    vectors = session_BH, node_NH, seen_NH, item_IH
    if torch.is_autocast_enabled(device):
        vectors, dtype = [each.float() for each in vectors], torch.get_autocast_dtype(device)
    with torch.autocast(device, enabled=False):
        return _Loss.apply(*vectors, graph, target_B, seen_BL, dtype)


class _Loss(torch.autograd.Function):
    """The loss, with the gradients made on the way forward: no N x I numbers are kept for the way back."""

    @staticmethod
    def forward(ctx, session_BH, node_NH, seen_NH, item_IH, graph, target_B, seen_BL, dtype):
        low_IH = item_IH.to(dtype)
        low_HI = low_IH.t().contiguous()
        size = node_NH.shape[1]
        read_IH, read_HI = low_IH[:, :size], low_HI[:size]
        grads = [torch.empty_like(each) for each in (session_BH, node_NH, seen_NH)]
        grad_IH, total = torch.zeros_like(item_IH), 0.0
        for sessions, nodes, session_C, count in _pieces(graph, len(item_IH)):
            own_PH = session_BH[sessions].to(dtype)
            row_RH = torch.cat([node_NH[nodes], seen_NH[nodes]]).to(dtype)
            own_PI = (own_PH @ low_HI).to(item_IH.dtype)
            said_CI, bearing_CI = (row_RH @ read_HI).to(item_IH.dtype).chunk(2)
            mass_CI = bearing_CI.sub_(_top(bearing_CI, session_C, count).index_select(0, session_C)).exp_()
            mass_CI *= graph.count_N[nodes, None]
            share_CI = mass_CI.div_(sums(mass_CI, session_C, count).index_select(0, session_C))
            mean_PI = sums(share_CI * said_CI, session_C, count)
            score_PI = own_PI.add_(mean_PI)
            score_PI[:, 0] = PADDING_LOGIT
            if seen_BL is not None:
                score_PI.scatter_(1, seen_BL[sessions], PADDING_LOGIT)
            target_P = target_B[sessions]
            total += F.cross_entropy(score_PI, target_P, reduction="sum")
            residue_PI = torch.softmax(score_PI, 1)
            residue_PI.scatter_add_(1, target_P[:, None], -torch.ones_like(residue_PI[:, :1]))
            # by the product rule: of what is said, share x residue; of the bearing, that x (said - mean)
            of_said_CI = share_CI.mul_(residue_PI.index_select(0, session_C))
            of_bearing_CI = said_CI.sub_(mean_PI.index_select(0, session_C)).mul_(of_said_CI)
            of_own_PI = residue_PI.to(dtype)
            of_row_RI = torch.cat([of_said_CI, of_bearing_CI]).to(dtype)
            parts = of_own_PI @ low_IH, *(of_row_RI @ read_IH).chunk(2)
            for grad, rows, part in zip(grads, (sessions, nodes, nodes), parts, strict=True):
                grad[rows] = part
            grad_IH[:, :size] += of_own_PI.t() @ own_PH[:, :size] + of_row_RI.t() @ row_RH
        ctx.save_for_backward(*(grad.div_(len(target_B)) for grad in (*grads, grad_IH)))
        return total / len(target_B)

    @staticmethod
    def backward(ctx, grad):
        return *(each * grad for each in ctx.saved_tensors), None, None, None, None


def _pieces(graph, n_items):
    """Some sessions at a time: which, their nodes, the place of each node's session among them, their number."""
    for sessions, nodes, _ in graph.pieces(max(CELLS // n_items, 1)):
        yield sessions, nodes, graph.session_N[nodes] - sessions.start, sessions.stop - sessions.start


def _top(vector_CI, session_C, count):
    """(P, I): the highest of each session's nodes."""
    top_PI = vector_CI.new_full((count, vector_CI.shape[1]), -torch.inf)
    return top_PI.scatter_reduce_(0, session_C[:, None].expand_as(vector_CI), vector_CI, "amax")
