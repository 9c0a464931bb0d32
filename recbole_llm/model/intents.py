"""What a session is about, as a vector of text: an answer of a language model, or a stand-in, pinned to real items.

Localization, eqs. (4)-(5) of Shutong Qiao et al., "LLM4SBR", 2024, https://arxiv.org/abs/2402.13840: an answer becomes
the sum of the names of the K items nearest to it, each weighed by its cosine; with K = 0 it stays as it is.

Without a language model (``heuristic``) the long-term view answers with the session's medoid by the items' names, the
short-term view with its last item.

Shapes: B sessions, T packed events, I items with padding, A answers with row 0 for none, D text-vector size, K items.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import SettingError

CELLS = 8_000_000  # cosines held at a time


class HeuristicIntents(nn.Module):
    """An item for an answer: of the ``long`` view the medoid, of any other the last."""

    def __init__(self, names, views, **how):
        super().__init__()
        name_ID, present_I = torch.as_tensor(names.vectors).float(), torch.as_tensor(names.present)
        self.views = tuple(views)
        self.register_buffer("unit_ID", F.normalize(name_ID, dim=1), persistent=False)
        self.register_buffer(
            "answer_ID", localized(name_ID, present_I, name_ID, present_I, **how), persistent=False
        )
        self.register_buffer("present_I", present_I, persistent=False)

    def forward(self, item_T, session_T, last_T, end_B=None):
        """By view, the answers' vectors (B, D) and whether there is one (B,)."""
        item_of = {"long": lambda: item_T[self._medoids(item_T, session_T, len(last_T))]}
        found = {}
        for view in self.views:
            item_B = item_of.get(view, lambda: item_T[last_T])()
            found[view] = F.embedding(item_B, self.answer_ID), self.present_I[item_B]
        return found

    def _medoids(self, item_T, session_T, n_sessions):
        """(B,): the event whose item is nearest to the mean of its session's; the first of several."""
        unit_TD = F.embedding(item_T, self.unit_ID)
        sum_BD = unit_TD.new_zeros(n_sessions, unit_TD.shape[1]).index_add_(0, session_T, unit_TD)
        near_T = (unit_TD * sum_BD[session_T]).sum(1)
        best_B = near_T.new_full((n_sessions,), -torch.inf).scatter_reduce(0, session_T, near_T, "amax")
        place_T = torch.arange(len(item_T), device=item_T.device)
        is_best_T = near_T >= best_B[session_T]
        first_B = torch.full_like(best_B, len(item_T), dtype=torch.long)
        return first_B.scatter_reduce(0, session_T[is_best_T], place_T[is_best_T], "amin")


class GivenIntents(nn.Module):
    """Answers that were made ahead, by view: their vectors, and which of them speaks of what came before each place."""

    def __init__(self, given, names, **how):
        super().__init__()
        name_ID, present_I = torch.as_tensor(names.vectors).float(), torch.as_tensor(names.present)
        self.views = tuple(given)
        for view, intents in given.items():
            known_A = torch.arange(len(intents.vector_AD)) > 0
            answer_AD = localized(intents.vector_AD, known_A, name_ID, present_I, **how)
            self.register_buffer(f"answer_{view}", answer_AD, persistent=False)
            self.register_buffer(f"row_{view}", intents.row_N, persistent=False)

    def forward(self, item_T, session_T, last_T, end_B):
        """By view, the answers' vectors (B, D) and whether there is one (B,)."""
        rows = {view: getattr(self, f"row_{view}")[end_B] for view in self.views}
        return {
            view: (F.embedding(row_B, getattr(self, f"answer_{view}")), row_B > 0)
            for view, row_B in rows.items()
        }


def intents_of(settings, dataset):
    """Answers of a language model where ``session_intents`` names them, else their stand-ins."""
    (names, *more), s = dataset.text_vectors.values(), settings
    if more:
        raise SettingError(
            f"answers are pinned to one name of an item, but text_fields gives {len(more) + 1} vectors; set text_join: "
            "True or name one field"
        )
    how = {"k": s.topk_localize, "localize": s.localize}
    if s.session_intents:
        return GivenIntents(dataset.session_intents, names, **how)
    return HeuristicIntents(names, s.views, **how)


@torch.no_grad()
def localized(answer_AD, known_A, name_ID, present_I, *, k, localize):
    """(A, D): each known answer as its K nearest names; zeros for the others.

    Parameters
    ----------
    k : int
        0 leaves the answers as they are.
    localize : {"sum", "mean", "softmax"}
        Weigh the names by their cosines as the paper does, whose sum grows with K; by these divided by K; or by their
        softmax.
    """
    if k == 0:
        return answer_AD.float() * known_A[:, None]
    unit_ID, found = F.normalize(name_ID, dim=1), torch.zeros(len(answer_AD), name_ID.shape[1])
    k = min(k, int(present_I.sum()))
    for rows in torch.nonzero(known_A).squeeze(1).split(max(CELLS // len(name_ID), 1)):
        near_CI = F.normalize(answer_AD[rows].float(), dim=1) @ unit_ID.t()
        near_CK, item_CK = near_CI.masked_fill(~present_I, -torch.inf).topk(k, dim=1)
        if localize == "softmax":
            near_CK = near_CK.softmax(1)
        elif localize == "mean":
            near_CK = near_CK / k
        found[rows] = torch.einsum("ck,ckd->cd", near_CK, name_ID[item_CK])
    return found
