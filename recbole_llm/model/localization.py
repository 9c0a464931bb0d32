"""Answers of a language model pinned to real items: localization, eqs. (4)-(5) of LLM4SBR.

Shutong Qiao et al., 2024, https://arxiv.org/abs/2402.13840. An answer becomes the sum of the K items whose names are
nearest to it, each weighed by its cosine; with K = 0 it stays as it is. It is found by names, the first of
``text_fields``, and then says all that the fields say. Each field is whitened first (``whiten``): as an encoder has
them, texts of one kind point much the same way.

Shapes: I items with padding, A answers with row 0 for none, C answers at a time, D text-vector size, E the name's size
whitened, W that of all fields together, K items.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .items import WHITENING_POWERS, Whitening
from .likeness import side_by_side

CELLS = 8_000_000  # cosines held at a time
NAMED = 0.8  # cosine from which on an answer names an item; word for word it is 1, or some 0.9 where names say more


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
