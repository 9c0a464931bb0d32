"""The nearest items of user vectors: exactly with torch, in bounded memory, or through FAISS.

Shapes: B users, I items with padding, H hidden, K items asked for, L seen items of a user.
"""

import torch


@torch.no_grad()
def nearest_items(user_BH, item_IH, k, chunk=65_536, seen_BL=None):
    """The scores (B, K) and item ids (B, K) of the ``k`` best items of each user, best first; padding is none of them.

    The items of ``seen_BL``, (B, L) item ids where padding fills up, are left out, for a model with ``no_repeats`` was
    not taught to rank them. Where fewer than ``k`` are left, the others follow with a score of -inf.

    Never holds more than ``chunk`` scores a user, however large the catalogue.
    """
    best_BK = user_BH.new_empty(len(user_BH), 0)
    item_BK = torch.empty(len(user_BH), 0, dtype=torch.long, device=user_BH.device)
    for start in range(1, len(item_IH), chunk):
        score_BC = user_BH @ item_IH[start : start + chunk].t()
        if seen_BL is not None:
            inside_BL = (seen_BL >= start) & (seen_BL < start + chunk)
            score_BC[inside_BL.nonzero()[:, 0], seen_BL[inside_BL] - start] = -torch.inf
        top_BK, place_BK = score_BC.topk(min(k, score_BC.shape[1]), dim=1)
        best_BK, item_BK = torch.cat([best_BK, top_BK], 1), torch.cat([item_BK, place_BK + start], 1)
        best_BK, order_BK = best_BK.topk(min(k, best_BK.shape[1]), dim=1)
        item_BK = item_BK.gather(1, order_BK)
    return best_BK, item_BK


def faiss_index(item_IH):
    """An exact FAISS index of inner products over the items, under their item ids; ``search(users, k)`` finds them.

    Matthijs Douze et al., "The Faiss library", 2024, https://arxiv.org/abs/2401.08281; needs the extra ``serve``.
    """
    import faiss

    item_NH = item_IH[1:].detach().cpu().float().numpy()
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(item_NH.shape[1]))
    index.add_with_ids(item_NH, torch.arange(1, len(item_IH)).numpy())
    return index
