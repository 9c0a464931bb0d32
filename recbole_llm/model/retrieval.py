"""The nearest rows of a table for each query: exactly, in bounded memory, with rows that a query may not get.

Shapes: T queries, M rows of the table, W vector size, K rows asked for, C queries of a chunk, L longest history.
"""

import torch
import torch.nn.functional as F

CELLS = 8_000_000  # likenesses held at a time
UNLIKE = -torch.inf  # the likeness of a row that a query may not get


@torch.no_grad()
def nearest(query_TW, table_MW, k, hide, similarity="cosine"):
    """The likenesses (T, K) and row numbers (T, K) of the K nearest rows, best first.

    Parameters
    ----------
    hide : function of (slice of the queries, their likenesses (C, M))
        Sets the likeness of rows that a query may not get to ``UNLIKE``, in place; one may remain among the K where
        fewer are left.
    similarity : {"cosine", "l2"}
        The cosine, or the squared distance with a minus in front.

    Raises
    ------
    ValueError
        If there is another similarity.
    """
    if similarity == "cosine":
        query_TW, table_MW = (F.normalize(each.float(), dim=1) for each in (query_TW, table_MW))
    elif similarity != "l2":
        raise ValueError(f"similarity is {similarity!r}, expected cosine or l2")
    k, rows = min(k, len(table_MW)), max(CELLS // len(table_MW), 1)
    found, square_M = [], table_MW.float().pow(2).sum(1)
    for start in range(0, len(query_TW), rows):
        part = slice(start, min(start + rows, len(query_TW)))
        like_CM = query_TW[part] @ table_MW.t()
        if similarity == "l2":
            like_CM = 2 * like_CM - square_M - query_TW[part].pow(2).sum(1, keepdim=True)
        hide(part, like_CM)
        found.append(like_CM.topk(k, dim=1))
    return torch.cat([each.values for each in found]), torch.cat([each.indices for each in found])


def seen(item_seq_BL, layout):
    """(T, L): for each event that the layout asks for the items of its history, itself included, zeros behind them."""
    row_T, position_T = layout.place_T // layout.length, layout.position_T
    if layout.asked_T is not None:
        row_T, position_T = row_T[layout.asked_T], position_T[layout.asked_T]
    position_L = torch.arange(layout.length, device=item_seq_BL.device)
    return item_seq_BL[row_T, : layout.length].masked_fill(position_L > position_T[:, None], 0)


def hide_items(item_TL):
    """A ``hide`` of padding and of the items (T, L) of each query's history."""

    def hide(part, like_CI):
        like_CI.scatter_(1, item_TL[part], UNLIKE)
        like_CI[:, 0] = UNLIKE

    return hide


def hide_ranges(first_T, end_T):
    """A ``hide`` of the rows from ``first_T`` to before ``end_T``, of each query its own."""

    def hide(part, like_CM):
        row_M = torch.arange(like_CM.shape[1], device=like_CM.device)
        inside_CM = (row_M >= first_T[part, None]) & (row_M < end_T[part, None])
        like_CM.masked_fill_(inside_CM, UNLIKE)

    return hide
