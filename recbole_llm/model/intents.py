"""What a session is about, as a vector of text: an answer of a language model, or a stand-in, pinned to real items.

The answers of Shutong Qiao et al., "LLM4SBR", 2024, https://arxiv.org/abs/2402.13840, made ahead, say what items they
are pinned to (``localization.py``). Without a language model (``heuristic``) the long-term view answers with the
session's medoid by the items' texts, the short-term view with its last item, and so does the one view that no word
qualifies, ``normal``. With ``intent_control`` they are asked about another session (``intent_controls.py``).

Shapes: B sessions, T packed events, I items with padding, A answers with row 0 for none, D text-vector size, W that of
all fields together, V views.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import SettingError
from .intent_controls import AskedElsewhere, noise_for
from .localization import Names, localized, remarks_on
from .ranges import COUNT, NOT_NEGATIVE, check_ranges
from .session.graph import sums

ANCHORS = ("global", "local", "fused")
STAND_INS = {"long": "medoid", "short": "last", "normal": "last"}  # normal: asked about without a qualifier


class HeuristicIntents(nn.Module):
    """An item for an answer: that which ``STAND_INS`` names for a view."""

    remarks = ()

    def __init__(self, names, views, noise=None, **how):
        super().__init__()
        self.views = tuple(views)
        if alone := set(views) - set(STAND_INS):
            raise SettingError(
                f"views: nothing stands in for the answers of {', '.join(sorted(alone))}; name their folders in "
                f"session_intents, or take {', '.join(STAND_INS)}"
            )
        answer_IW = localized(names.name_IE, names.present_I, names, **how)
        if noise is not None:
            answer_IW = noise_for(answer_IW, names.present_I, noise)
        self.register_buffer("unit_IW", F.normalize(names.vector_IW, dim=1), persistent=False)
        self.register_buffer("answer_IW", answer_IW, persistent=False)
        self.register_buffer("present_I", names.present_I, persistent=False)

    def forward(self, item_T, session_T, last_T, end_B=None):
        """By view, the answers' vectors (B, W) and whether there is one (B,)."""
        found = {}
        for view in self.views:
            is_medoid = STAND_INS[view] == "medoid"
            item_B = item_T[self._medoids(item_T, session_T, len(last_T)) if is_medoid else last_T]
            found[view] = F.embedding(item_B, self.answer_IW), self.present_I[item_B]
        return found

    def _medoids(self, item_T, session_T, n_sessions):
        """(B,): the event whose item is nearest to the mean of its session's; the first of several."""
        unit_TW = F.embedding(item_T, self.unit_IW)
        in_order_T, order_T = session_T.sort(stable=True)
        sum_BW = sums(unit_TW, in_order_T, n_sessions, order_T)
        near_T = (unit_TW * F.embedding(session_T, sum_BW)).sum(1)
        best_B = near_T.new_full((n_sessions,), -torch.inf).scatter_reduce(0, session_T, near_T, "amax")
        place_T = torch.arange(len(item_T), device=item_T.device)
        is_best_T = near_T >= best_B[session_T]
        first_B = torch.full_like(best_B, len(item_T), dtype=torch.long)
        return first_B.scatter_reduce(0, session_T[is_best_T], place_T[is_best_T], "amin")


class GivenIntents(nn.Module):
    """Answers that were made ahead, by view: their vectors, and which of them speaks of what came before each place.

    Attributes
    ----------
    remarks : tuple of str
        What a report says of the answers: how many name no item, and how many one of their own session.
    """

    def __init__(self, given, names, noise=None, **how):
        super().__init__()
        self.register_buffer("unit_IW", F.normalize(names.vector_IW, dim=1), persistent=False)
        self.given, self.views, self.remarks = given, tuple(given), ()
        for view, intents in given.items():
            known_A = intents.user_A > 0
            answer_AW = localized(names.said(intents.vector_AD, known_A), known_A, names, **how)
            if noise is not None:
                answer_AW = noise_for(answer_AW, known_A, noise)
            self.remarks += remarks_on(view, intents, names)
            self.register_buffer(f"answer_{view}", answer_AW, persistent=False)
            self.register_buffer(f"row_{view}", intents.row_N, persistent=False)

    def forward(self, item_T, session_T, last_T, end_B=None):
        """By view, the answers' vectors (B, W) and whether there is one (B,); a new session is looked up."""
        found = {}
        for view in self.views:
            answer_AW = getattr(self, f"answer_{view}")
            if end_B is None:
                row_B = self._rows_about(view, item_T, session_T, len(last_T))
            else:
                row_B = getattr(self, f"row_{view}")[end_B]
            found[view] = F.embedding(row_B, answer_AW), row_B > 0
        return found

    def _rows_about(self, view, item_T, session_T, n_sessions):
        """(B,): the answer about each session, found by its items."""
        items = [[] for _ in range(n_sessions)]
        for session, item in zip(session_T.tolist(), item_T.tolist(), strict=True):
            items[session].append(item)
        return torch.tensor([self.given[view].row_about(of_one) for of_one in items], device=item_T.device)


def check_views(s):
    """Refuse ``views``, ``session_intents`` and numbers that cannot be, each in one sentence."""
    check_ranges(s, {"topk_localize": NOT_NEGATIVE, "whiten_dim": COUNT})
    wrong = [f"{view}: {anchor}" for view, anchor in s.views.items() if anchor not in ANCHORS]
    if wrong:
        raise SettingError(
            f"config key `views` has {', '.join(wrong)}, expected for each view one of {', '.join(ANCHORS)}"
        )
    known = nn.ModuleDict()  # which keeps parts by the names of the views
    wrong = [str(view) for view in s.views if not str(view).isidentifier() or hasattr(known, view)]
    if wrong:
        raise SettingError(
            f"config key `views` has {', '.join(wrong)}, expected names of letters, digits and _ that PyTorch has no "
            "use for"
        )
    if s.session_intents and not set(s.views) <= set(s.session_intents):
        raise SettingError(
            f"session_intents has answers of {', '.join(s.session_intents)}, expected one folder for each of the views "
            f"{', '.join(s.views)}"
        )


def intents_of(settings, dataset, control="none", seed=0):
    """Answers of a language model where ``session_intents`` names them, else their stand-ins; those of a control."""
    s, noise = settings, seed if control == "random" else None
    names = Names.of(list(dataset.text_vectors.values()), s.whiten, s.whiten_dim)
    how = {"k": s.topk_localize, "localize": s.localize, "noise": noise}
    if s.session_intents:
        found = GivenIntents({view: dataset.session_intents[view] for view in s.views}, names, **how)
    else:
        found = HeuristicIntents(names, s.views, **how)
    return found if control == "none" else AskedElsewhere(found, dataset, seed)


def query(answers, weight_V=None):
    """(B, W): what ranks items by their names: the views' answers, each of length 1; a missing one adds nothing.

    ``answers`` is what intents give, ``weight_V`` a weight for each view; None weighs them alike.
    """
    parts = [F.normalize(answer_BW, dim=1) * known_B[:, None] for answer_BW, known_B in answers.values()]
    return sum(parts) if weight_V is None else torch.einsum("v,vbw->bw", weight_V, torch.stack(parts))
