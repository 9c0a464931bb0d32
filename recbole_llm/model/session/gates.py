"""A step of a gated graph network as one operation, forth and back, over some sessions at a time.

As PyTorch's own operations it would be thirty passes over tensors of three gates for every node, most of them fresh
memory. Here a piece's numbers stay in the cache, and what is between is made again on the way back, not kept.

Yujia Li et al., "Gated Graph Sequence Neural Networks", ICLR 2016, https://arxiv.org/abs/1511.05493

Shapes: N nodes of all sessions, M distinct vectors, H hidden, C nodes of a piece, K edges of a piece.
"""

import torch

CELLS = 2**19  # numbers that the gates of a piece have, about


class _GatedStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx, graph, place_N, vector_MH, *sent):
        ctx.save_for_backward(place_N, vector_MH, *sent)
        ctx.graph, ctx.pieces = graph, graph.pieces(max(CELLS // sent[0].shape[1], 1))
        next_NH = vector_MH.new_empty(len(place_N), vector_MH.shape[1])
        for _, nodes, edges in ctx.pieces:
            gate_C3H, _ = _gates(graph, nodes, edges, place_N, *sent)
            _, update_CH, new_CH = gate_C3H.chunk(3, 1)
            torch.lerp(vector_MH.index_select(0, place_N[nodes]), new_CH, update_CH, out=next_NH[nodes])
        return next_NH

    @staticmethod
    def backward(ctx, grad_NH):
        graph, (place_N, vector_MH, *sent) = ctx.graph, ctx.saved_tensors
        found = [torch.zeros_like(tensor) for tensor in (vector_MH, *sent)]
        grad_vector_MH, grad_before_M3H, grad_after_M3H, grad_held_M3H, grad_constant_3H = found
        for _, nodes, edges in ctx.pieces:
            gate_C3H, held_CH = _gates(graph, nodes, edges, place_N, *sent)
            reset_CH, update_CH, new_CH = gate_C3H.chunk(3, 1)
            place_C, grad_CH = place_N[nodes], grad_NH[nodes]
            changed_CH = new_CH - vector_MH.index_select(0, place_C)
            through_CH = grad_CH * update_CH
            _add_rows(grad_vector_MH, place_C, grad_CH - through_CH)
            grad_C3H = torch.empty_like(gate_C3H)
            grad_reset_CH, grad_update_CH, grad_new_CH = grad_C3H.chunk(3, 1)
            torch.mul(through_CH, 1 - new_CH * new_CH, out=grad_new_CH)
            torch.mul(grad_new_CH * held_CH, reset_CH - reset_CH * reset_CH, out=grad_reset_CH)
            torch.mul(changed_CH.mul_(through_CH), 1 - update_CH, out=grad_update_CH)
            grad_constant_3H += grad_C3H.sum(0)
            from_K, to_K = graph.from_E[edges], graph.to_E[edges]
            read_K3H = grad_C3H.index_select(0, to_K - nodes.start).mul_(graph.share_before_E[edges, None])
            _add_rows(grad_before_M3H, place_N.index_select(0, from_K), read_K3H)
            read_K3H = grad_C3H.index_select(0, from_K - nodes.start).mul_(graph.share_after_E[edges, None])
            _add_rows(grad_after_M3H, place_N.index_select(0, to_K), read_K3H)
            grad_new_CH *= reset_CH  # what is held comes to the new value through the reset gate
            _add_rows(grad_held_M3H, place_C, grad_C3H)
        return None, None, *found


def _add_rows(total, place, rows):
    """Add each of the rows to the one of ``total`` at its place; on a GPU too in the same order at every run."""
    if total.is_cuda:
        total += torch.ops.aten.embedding_dense_backward(rows, place, len(total), -1, False)
    else:
        total.index_add_(0, place, rows)


def _gates(graph, nodes, edges, place_N, before_M3H, after_M3H, held_M3H, constant_3H):
    """(C, 3 H): the reset gate, the update gate and the new value of each node; (C, H): what is held of the last."""
    from_K, to_K = graph.from_E[edges], graph.to_E[edges]
    gate_C3H = constant_3H.expand(nodes.stop - nodes.start, -1).clone()
    sent_K3H = before_M3H.index_select(0, place_N.index_select(0, from_K)).mul_(
        graph.share_before_E[edges, None]
    )
    _add_rows(gate_C3H, to_K - nodes.start, sent_K3H)
    sent_K3H = after_M3H.index_select(0, place_N.index_select(0, to_K)).mul_(graph.share_after_E[edges, None])
    _add_rows(gate_C3H, from_K - nodes.start, sent_K3H)
    held_C3H, size = held_M3H.index_select(0, place_N[nodes]), len(constant_3H) // 3
    gate_C3H[:, : 2 * size].add_(held_C3H[:, : 2 * size]).sigmoid_()
    held_CH, new_CH = held_C3H[:, 2 * size :], gate_C3H[:, 2 * size :]
    # tanh x = 2 sigmoid 2x - 1; PyTorch's own tanh takes six times as long on a CPU
    new_CH.addcmul_(gate_C3H[:, :size], held_CH).mul_(2).sigmoid_().mul_(2).sub_(1)
    return gate_C3H, held_CH


def gated_step(graph, place_N, vector_MH, before_M3H, after_M3H, held_M3H, constant_3H):
    """(N, H): the nodes of ``graph`` after they have read the mean of those before them and of those after them.

    Parameters
    ----------
    graph : SessionGraph
    place_N, vector_MH : LongTensor, float tensor
        Node n holds the vector ``vector_MH[place_N[n]]``.
    before_M3H, after_M3H : float tensors
        What the reset gate, the update gate and the new value of a node take from a vector that comes directly before
        it, and from one that comes directly after it.
    held_M3H : float tensor
        What they take from the vector that the node holds.
    constant_3H : float tensor
        What they take from none.
    """
    return _GatedStep.apply(graph, place_N, vector_MH, before_M3H, after_M3H, held_M3H, constant_3H)
