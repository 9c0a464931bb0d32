"""What a session is about, as a vector of text: an answer of a language model, or a stand-in, pinned to real items.

Localization, eqs. (4)-(5) of Shutong Qiao et al., "LLM4SBR", 2024, https://arxiv.org/abs/2402.13840: an answer becomes
the sum of the K items whose names are nearest to it, each weighed by its cosine; with K = 0 it stays as it is. It is
found by names, the first of ``text_fields``, and then says all that the fields say. Each field is whitened first
(``whiten``): as an encoder has them, texts of one kind point much the same way.

Without a language model (``heuristic``) the long-term view answers with the session's medoid by the items' texts, the
short-term view with its last item, and so does the one view that no word qualifies, ``normal``.

Controls (``intent_control``) ask about another place of the data, drawn once by the seed: a session so has the same
wrong answers at every epoch and in every ranking, and they say nothing of it. ``random`` makes noise of these, too.

Shapes: B sessions, L longest session, T packed events, N events of the data set, I items with padding, A answers with
row 0 for none, D text-vector size, E the name's size whitened, W that of all fields together, V views, K items.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import SettingError
from .items import WHITENING_POWERS, Whitening
from .layout import Layout
from .likeness import side_by_side
from .ranges import COUNT, NOT_NEGATIVE, check_ranges
from .session.graph import sums

CELLS = 8_000_000  # cosines held at a time
NAMED = 0.8  # cosine from which on an answer names an item; word for word it is 1, or some 0.9 where names say more
ANCHORS = ("global", "local", "fused")
STAND_INS = {"long": "medoid", "short": "last", "normal": "last"}  # normal: asked about without a qualifier


@dataclass(frozen=True)
class Names:
    """What is known of the items as texts, by id.

    Attributes
    ----------
    encoded_ID : FloatTensor
        The names as the encoder has them.
    name_IE : FloatTensor
        The names whitened; answers are pinned by them.
    vector_IW : FloatTensor
        All fields whitened and side by side, each counting alike; what an answer that is pinned to them says.
    present_I : BoolTensor
        Who has a name.
    whitened : Whitening or None
        What answers go through, too.
    """

    encoded_ID: torch.Tensor
    name_IE: torch.Tensor
    vector_IW: torch.Tensor
    present_I: torch.Tensor
    whitened: Whitening | None

    @classmethod
    def of(cls, fields, whiten="none", size=1):
        """The texts of some fields, ``AlignedVectors`` with rows by item id, the first of them the names.

        ``whiten`` and ``size``, of each field, are as LLM4SBR's keys say.
        """
        encoded = [torch.as_tensor(field.vectors).float() for field in fields]
        present = [torch.as_tensor(field.present) for field in fields]
        if whiten == "none":
            return cls(encoded[0], encoded[0], torch.cat(encoded, 1), present[0], None)
        (power,) = WHITENING_POWERS[whiten]
        maps = [Whitening.fit(*field, size, power) for field in zip(encoded, present, strict=True)]
        tables = [each(*field) for each, *field in zip(maps, encoded, present, strict=True)]
        vector_IW = side_by_side(tables)
        return cls(encoded[0], tables[0], vector_IW * vector_IW.shape[1] ** 0.5, present[0], maps[0])

    def said(self, answer_AD, known_A):
        """(A, E): answers as the names are."""
        return answer_AD.float() if self.whitened is None else self.whitened(answer_AD, known_A)


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


class AskedElsewhere(nn.Module):
    """Intents that are asked about another user's history in each one's stead, every history once."""

    def __init__(self, intents, dataset, seed):
        super().__init__()
        self.intents, self.views, self.remarks = intents, intents.views, intents.remarks
        item_N, user_N = (dataset.events[field] for field in (dataset.iid_field, dataset.uid_field))
        before_N = torch.arange(len(item_N)) - dataset.user_start
        self.register_buffer("item_N", item_N, persistent=False)
        self.register_buffer("length_N", before_N.clamp(max=dataset.max_item_list_len), persistent=False)
        self.register_buffer("other_N", among_others(user_N * (before_N > 0), seed), persistent=False)

    @property
    def unit_IW(self):
        """The items' texts as the intents have them."""
        return self.intents.unit_IW

    def forward(self, item_T, session_T, last_T, end_B=None):
        """By view, the answers' vectors (B, W) and whether there is one (B,); a new session has none."""
        if end_B is None:  # and no place from which to be sent elsewhere
            none_BW = self.unit_IW.new_zeros(len(last_T), self.unit_IW.shape[1])
            return {view: (none_BW, none_BW.any(1)) for view in self.views}
        item_BL, layout, other_B = self.history_in_stead(end_B)
        return self.intents(layout.pack(item_BL), layout.row_T, layout.last_B, other_B)

    def history_in_stead(self, end_B):
        """The histories before the other places, (B, L) items, their layout, and the places, (B,)."""
        other_B = self.other_N[end_B]
        length_B = self.length_N[other_B]
        position_L = torch.arange(int(length_B.max()), device=end_B.device)
        place_BL = (other_B - length_B)[:, None] + position_L
        item_BL = self.item_N[place_BL.clamp(max=len(self.item_N) - 1)]
        layout = Layout.of(length_B, only_last=True)
        return item_BL.masked_fill(position_L >= length_B[:, None], 0), layout, other_B


def noise_for(answer_AD, known_A, seed):
    """(A, D): for each known answer noise of the answers' mean and width; zeros where there is none."""
    noise_AD = torch.randn(answer_AD.shape, generator=torch.Generator().manual_seed(seed))
    known_KD = answer_AD[known_A]
    return (known_KD.mean(0) + noise_AD * known_KD.std(0, unbiased=False)) * known_A[:, None]


def among_others(owner_A, seed):
    """(A,): in the place of each of A one of another owner, each given once; those without an owner stay.

    Owner after owner in an order drawn by the seed, all move on by as many places as the owner of most has.

    Raises
    ------
    SettingError
        If one owner has more than half.
    """
    answer_K = torch.nonzero(owner_A).squeeze(1)
    most = int(torch.bincount(owner_A[answer_K], minlength=1).max())
    if 2 * most > len(answer_K) or not most:
        raise SettingError(
            f"intent_control needs histories to exchange, but {most:,} of {len(answer_K):,} are of one user"
        )
    draw = torch.randperm(int(owner_A.max()) + 1, generator=torch.Generator().manual_seed(seed))
    order_K = answer_K[draw[owner_A[answer_K]].argsort(stable=True)]
    return torch.arange(len(owner_A)).index_copy(0, order_K, order_K.roll(-most))


def query(answers, weight_V=None):
    """(B, W): what ranks items by their names: the views' answers, each of length 1; a missing one adds nothing.

    ``answers`` is what intents give, ``weight_V`` a weight for each view; None weighs them alike.
    """
    parts = [F.normalize(answer_BW, dim=1) * known_B[:, None] for answer_BW, known_B in answers.values()]
    return sum(parts) if weight_V is None else torch.einsum("v,vbw->bw", weight_V, torch.stack(parts))


@torch.no_grad()
def localized(said_AE, known_A, names, *, k, localize):
    """(A, W): each known answer as the K items whose names are nearest to it; zeros where there is no answer.

    Parameters
    ----------
    said_AE : FloatTensor
        The answers as ``Names.said`` has them.
    k : int
        0 leaves the answers as they are; of fields that are no names they then say nothing.
    localize : {"sum", "mean", "softmax"}
        Weigh the items by their cosines as the paper does, whose sum grows with K; by these divided by K; or by their
        softmax.
    """
    found_AW = F.pad(said_AE * known_A[:, None], (0, names.vector_IW.shape[1] - said_AE.shape[1]))
    for rows, near_CK, item_CK in nearest(said_AE, known_A, names.name_IE, names.present_I, k) if k else ():
        if localize == "softmax":
            near_CK = near_CK.softmax(1)
        elif localize == "mean":
            near_CK = near_CK / near_CK.shape[1]
        found_AW[rows] = torch.einsum("ck,ckw->cw", near_CK, names.vector_IW[item_CK])
    return found_AW


def nearest(said_AE, known_A, name_IE, present_I, k):
    """Of some known answers at a time: their rows, (C,), the cosines of the K names nearest to each, their items."""
    unit_IE, count = F.normalize(name_IE, dim=1), min(k, int(present_I.sum()))
    for rows in torch.nonzero(known_A).squeeze(1).split(max(CELLS // len(name_IE), 1)):
        near_CI = F.normalize(said_AE[rows].float(), dim=1) @ unit_IE.t()
        yield rows, *near_CI.masked_fill(~present_I, -torch.inf).topk(count, dim=1)


def remarks_on(view, intents, names):
    """What a report says of one view's answers: whether they name items, and whether those were there already."""
    known_A, item_A = intents.user_A > 0, torch.zeros_like(intents.user_A)
    if not known_A.any():
        return ()
    near_A = torch.zeros(len(item_A))
    for rows, near_C1, item_C1 in nearest(intents.vector_AD, known_A, names.encoded_ID, names.present_I, 1):
        near_A[rows], item_A[rows] = near_C1.squeeze(1), item_C1.squeeze(1)
    names_A = near_A[known_A] >= NAMED
    seen_A = intents.is_of_session(item_A)[known_A] & names_A
    shares = ", ".join(f"{share:.0%} of {part}" for part, share in intents.answered.items())
    rows = (f"its {view} answers speak of {shares} rows",) if shares else ()
    return (
        *rows,
        f"of its {len(names_A):,} {view} answers {(~names_A).float().mean():.1%} name no item (best cosine with a name "
        f"below {NAMED}), {seen_A.float().mean():.1%} one of the session itself",
    )
