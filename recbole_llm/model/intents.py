"""What a session is about, as a vector of text: an answer of a language model, or a stand-in, pinned to real items.

Localization, eqs. (4)-(5) of Shutong Qiao et al., "LLM4SBR", 2024, https://arxiv.org/abs/2402.13840: an answer becomes
the sum of the names of the K items nearest to it, each weighed by its cosine; with K = 0 it stays as it is.

Without a language model (``heuristic``) the long-term view answers with the session's medoid by the items' names, the
short-term view with its last item, and so does the one view that no word qualifies, ``normal``.

Controls (``intent_control``) change once, by the seed, what a session is answered: it has the answer of another, or
noise. So it has the same wrong answer at every epoch and in every ranking, and one that says nothing of it.

Shapes: B sessions, T packed events, I items with padding, A answers with row 0 for none, D text-vector size, K items.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import SettingError
from .ranges import NOT_NEGATIVE, check_ranges
from .session.graph import sums

CELLS = 8_000_000  # cosines held at a time
NAMED = 0.8  # cosine from which on an answer names an item; word for word it is 1, or some 0.9 where names say more
ANCHORS = ("global", "local", "fused")
STAND_INS = {"long": "medoid", "short": "last", "normal": "last"}  # normal: asked about without a qualifier


class HeuristicIntents(nn.Module):
    """An item for an answer: that which ``STAND_INS`` names for a view."""

    remarks = ()

    def __init__(self, names, views, item_N=None, control="none", seed=0, **how):
        super().__init__()
        name_ID, present_I = torch.as_tensor(names.vectors).float(), torch.as_tensor(names.present)
        self.views, self.is_controlled = tuple(views), control != "none"
        if alone := set(views) - set(STAND_INS):
            raise SettingError(
                f"views: nothing stands in for the answers of {', '.join(sorted(alone))}; name their folders in "
                f"session_intents, or take {', '.join(STAND_INS)}"
            )
        self.register_buffer("unit_ID", F.normalize(name_ID, dim=1), persistent=False)
        answer_ID = localized(name_ID, present_I, name_ID, present_I, **how).vector_AD
        if control == "random":
            answer_ID = noise_for(answer_ID, present_I, seed)
        self.register_buffer("answer_ID", answer_ID, persistent=False)
        self.register_buffer("present_I", present_I, persistent=False)
        for place, view in enumerate(self.views if self.is_controlled else ()):
            draw = torch.Generator().manual_seed(seed + place)
            other_N = item_N[torch.randperm(len(item_N), generator=draw)]
            self.register_buffer(f"other_{view}", other_N, persistent=False)

    def forward(self, item_T, session_T, last_T, end_B=None):
        """By view, the answers' vectors (B, D) and whether there is one (B,); a control has none for a new session."""
        found = {}
        for view in self.views:
            if self.is_controlled:
                item_B = torch.zeros_like(last_T) if end_B is None else getattr(self, f"other_{view}")[end_B]
            elif STAND_INS[view] == "medoid":
                item_B = item_T[self._medoids(item_T, session_T, len(last_T))]
            else:
                item_B = item_T[last_T]
            found[view] = F.embedding(item_B, self.answer_ID), self.present_I[item_B]
        return found

    def _medoids(self, item_T, session_T, n_sessions):
        """(B,): the event whose item is nearest to the mean of its session's; the first of several."""
        unit_TD = F.embedding(item_T, self.unit_ID)
        in_order_T, order_T = session_T.sort(stable=True)
        sum_BD = sums(unit_TD, in_order_T, n_sessions, order_T)
        near_T = (unit_TD * F.embedding(session_T, sum_BD)).sum(1)
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

    def __init__(self, given, names, control="none", seed=0, **how):
        super().__init__()
        name_ID, present_I = torch.as_tensor(names.vectors).float(), torch.as_tensor(names.present)
        self.given, self.views, self.remarks = given, tuple(given), ()
        for view, intents in given.items():
            pinned = localized(intents.vector_AD, intents.user_A > 0, name_ID, present_I, **how)
            answer_AD = controlled(pinned.vector_AD, intents.user_A, control, seed)
            self.remarks += remarks_on(view, intents, pinned)
            self.register_buffer(f"answer_{view}", answer_AD, persistent=False)
            self.register_buffer(f"row_{view}", intents.row_N, persistent=False)

    def forward(self, item_T, session_T, last_T, end_B=None):
        """By view, the answers' vectors (B, D) and whether there is one (B,); a new session is looked up."""
        found = {}
        for view in self.views:
            answer_AD = getattr(self, f"answer_{view}")
            if end_B is None:
                row_B = self._rows_about(view, item_T, session_T, len(last_T))
            else:
                row_B = getattr(self, f"row_{view}")[end_B]
            found[view] = F.embedding(row_B, answer_AD), row_B > 0
        return found

    def _rows_about(self, view, item_T, session_T, n_sessions):
        """(B,): the answer about each session, found by its items."""
        items = [[] for _ in range(n_sessions)]
        for session, item in zip(session_T.tolist(), item_T.tolist(), strict=True):
            items[session].append(item)
        return torch.tensor([self.given[view].row_about(of_one) for of_one in items], device=item_T.device)


def check_views(s):
    """Refuse ``views``, ``session_intents`` and ``topk_localize`` that cannot be, each in one sentence."""
    check_ranges(s, {"topk_localize": NOT_NEGATIVE})
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
    """Answers of a language model where ``session_intents`` names them, else their stand-ins."""
    (names, *more), s = dataset.text_vectors.values(), settings
    if more:
        raise SettingError(
            f"answers are pinned to one name of an item, but text_fields gives {len(more) + 1} vectors; set text_join: "
            "True or name one field"
        )
    how = {"k": s.topk_localize, "localize": s.localize, "control": control, "seed": seed}
    if s.session_intents:
        return GivenIntents({view: dataset.session_intents[view] for view in s.views}, names, **how)
    return HeuristicIntents(names, s.views, dataset.events[dataset.iid_field], **how)


def controlled(answer_AD, owner_A, control, seed):
    """(A, D): the answers, or what ``intent_control`` puts in their place: a gain with these is not by what they say.

    Parameters
    ----------
    owner_A : LongTensor
        Whose each answer is, from 1; 0 is no answer and stays none.
    control : {"none", "shuffled", "random"}
        Leave them; give each owner's sessions the answers of another; or noise.
    """
    match control:
        case "shuffled":
            return answer_AD[among_others(owner_A, seed)]
        case "random":
            return noise_for(answer_AD, owner_A > 0, seed)
    return answer_AD


def noise_for(answer_AD, known_A, seed):
    """(A, D): for each known answer noise of the answers' mean and width; zeros where there is none."""
    noise_AD = torch.randn(answer_AD.shape, generator=torch.Generator().manual_seed(seed))
    known_KD = answer_AD[known_A]
    return (known_KD.mean(0) + noise_AD * known_KD.std(0, unbiased=False)) * known_A[:, None]


def among_others(owner_A, seed):
    """(A,): in the place of each answer one of another owner, each given once; those without an owner stay.

    Owner after owner in an order drawn by the seed, all move on by as many places as the owner of most has answers.

    Raises
    ------
    SettingError
        If one owner has more than half of the answers.
    """
    answer_K = torch.nonzero(owner_A).squeeze(1)
    most = int(torch.bincount(owner_A[answer_K], minlength=1).max())
    if 2 * most > len(answer_K) or not most:
        raise SettingError(
            f"intent_control: shuffled needs answers to exchange, but {most:,} of {len(answer_K):,} are of one user"
        )
    draw = torch.randperm(int(owner_A.max()) + 1, generator=torch.Generator().manual_seed(seed))
    order_K = answer_K[draw[owner_A[answer_K]].argsort(stable=True)]
    return torch.arange(len(owner_A)).index_copy(0, order_K, order_K.roll(-most))


class Localized(NamedTuple):
    """Answers as names: their vectors, (A, D), and of the nearest name of each its cosine and its item, (A,).

    All are zeros where there is no answer.
    """

    vector_AD: torch.Tensor
    near_A: torch.Tensor
    item_A: torch.Tensor


@torch.no_grad()
def localized(answer_AD, known_A, name_ID, present_I, *, k, localize):
    """Each known answer as its K nearest names, ``Localized``.

    Parameters
    ----------
    k : int
        0 leaves the answers as they are.
    localize : {"sum", "mean", "softmax"}
        Weigh the names by their cosines as the paper does, whose sum grows with K; by these divided by K; or by their
        softmax.
    """
    unit_ID, found_AD = F.normalize(name_ID, dim=1), answer_AD.float() * known_A[:, None]
    near_A, item_A = found_AD.new_zeros(len(found_AD)), torch.zeros(len(found_AD), dtype=torch.long)
    of_each = min(max(k, 1), int(present_I.sum()))
    for rows in torch.nonzero(known_A).squeeze(1).split(max(CELLS // len(name_ID), 1)):
        near_CI = F.normalize(answer_AD[rows].float(), dim=1) @ unit_ID.t()
        near_CK, item_CK = near_CI.masked_fill(~present_I, -torch.inf).topk(of_each, dim=1)
        near_A[rows], item_A[rows] = near_CK[:, 0], item_CK[:, 0]
        if localize == "softmax":
            near_CK = near_CK.softmax(1)
        elif localize == "mean":
            near_CK = near_CK / of_each
        if k:
            found_AD[rows] = torch.einsum("ck,ckd->cd", near_CK, name_ID[item_CK])
    return Localized(found_AD, near_A, item_A)


def remarks_on(view, intents, pinned):
    """What a report says of one view's answers: whether they name items, and whether those were there already."""
    known_A = intents.user_A > 0
    if not known_A.any():
        return ()
    names_A = pinned.near_A[known_A] >= NAMED
    seen_A = intents.is_of_session(pinned.item_A)[known_A] & names_A
    shares = ", ".join(f"{share:.0%} of {part}" for part, share in intents.answered.items())
    rows = (f"its {view} answers speak of {shares} rows",) if shares else ()
    return (
        *rows,
        f"of its {len(names_A):,} {view} answers {(~names_A).float().mean():.1%} name no item (best cosine with a name "
        f"below {NAMED}), {seen_A.float().mean():.1%} one of the session itself",
    )
