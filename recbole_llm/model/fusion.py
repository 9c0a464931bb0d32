"""What an item is: its own vector and its texts, fused in one of seven ways.

The gate by popularity is the house's own (``items.py``); nullspace: AlphaFuse, https://arxiv.org/abs/2504.19218; dual:
LLM-ESR, https://arxiv.org/abs/2405.20646; text_only: WhitenRec, https://arxiv.org/abs/2402.10602.

Shapes: I items with padding, H hidden, T packed events, B batch, L longest history, N new items.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import SettingError
from .items import WHITENING_POWERS, FieldViews, PopularityGate, TextView, rows_of, start_from_text


class Parts(NamedTuple):
    """What items are made of, (I, H) each, None where the fusion has none: own vector, text, gate between the two.

    ``kept``, (I, 1), says whose own vectors ID dropout has left in this batch; ``item``, (N,), whose parts these are
    where they are not all items'.
    """

    own: torch.Tensor
    text: torch.Tensor | None = None
    gate: torch.Tensor | None = None
    kept: torch.Tensor | None = None
    item: torch.Tensor | None = None


class FusedItems(nn.Module):
    """(I, H) item vectors, or (I, 2 H) for ``fusion: dual``; ``settings`` are those of LLMSeqRec."""

    def __init__(self, settings, dataset):
        super().__init__()
        s = self.settings = settings
        size = s.hidden_size
        own_size = size // 2 if s.fusion == "nullspace" else size
        self.own = nn.Embedding(dataset.item_num, own_size, padding_idx=0)
        self.views = _views(s, dataset) if s.fusion != "id_only" else None
        self.text = self.gate = self.context = None
        if s.fusion == "nullspace":
            row_space = start_from_text(self.views, size - own_size, std=1.0)
            self.register_buffer("row_space", row_space, persistent=False)
        elif self.views:
            self.text = TextView(self.views, size, s.n_experts, s.adaptor_dropout, s.text_trainable)
        if s.fusion == "gate":
            self.gate = PopularityGate(dataset.train_counts(), size, s.kappa)
            self.context = nn.Linear(size, size, bias=False) if s.ctx_gate else None
            self.norm = nn.LayerNorm(size)
        elif s.fusion == "concat":
            self.join = nn.Linear(2 * size, size)

    def start(self):
        """Give the items' own vectors their first values, as ``id_init`` says; padding is zero."""
        weight = self.own.weight.data
        if self.settings.id_init == "zeros":
            weight.zero_()
        elif self.settings.id_init == "pca" and self.views:
            weight.copy_(start_from_text(self.views, weight.shape[1]))
        else:
            weight.normal_(std=0.02)
        weight[0] = 0
        self.views = None  # the text view has its tables now
        if self.settings.fusion == "text_only" and not (
            self.settings.lambda_align or self.settings.lambda_feat
        ):
            self.own.requires_grad_(False)  # nothing reads it

    def parts(self, item_N=None):
        """What all items, or those that ``item_N`` names, are made of; see ``Parts``."""
        id_IH = rows_of(self.own.weight, item_N)
        text_IH = self.text(item_N) if self.text is not None else None
        if self.gate is None:
            return Parts(id_IH, text_IH, item=item_N)
        gate_IH, kept_I1 = self.gate(id_IH, text_IH, item_N), None
        if self.training and self.settings.id_dropout > 0:
            kept_I1 = torch.rand(len(gate_IH), 1, device=gate_IH.device) >= self.settings.id_dropout
            gate_IH = gate_IH * kept_I1
        return Parts(id_IH, text_IH, gate_IH, kept_I1, item_N)

    def forward(self, parts=None):
        """(I, H), or (I, 2 H) for ``dual``, of parts made before or made now."""
        id_IH, text_IH, gate_IH, _, item_N = parts or self.parts()
        match self.settings.fusion:
            case "gate":
                return gate_IH * id_IH + (1 - gate_IH) * text_IH
            case "sum":
                return id_IH + text_IH
            case "concat":
                return self.join(torch.cat([id_IH, text_IH], 1))
            case "text_only":
                return text_IH
            case "id_only":
                return id_IH
            case "nullspace":
                return torch.cat([rows_of(self.row_space, item_N), id_IH], 1)
            case "dual":
                return torch.cat([id_IH, text_IH], 1)

    def in_context(self, item_T, layout, parts):
        """(T, H): the items read, their gates moved by the mean text of what came before them (``ctx_gate``)."""
        id_IH, text_IH, _, kept_I1, item_N = parts
        text_TH = F.embedding(item_T, text_IH)
        before_BLH = layout.pad(text_TH).cumsum(1)
        mean_TH = (layout.pack(before_BLH) - text_TH) / layout.position_T.clamp(min=1)[:, None]
        logit_TH = F.embedding(item_T, self.gate.logit(id_IH, text_IH, item_N)) + self.context(mean_TH)
        gate_TH = rows_of(self.gate.trust_I1, item_N)[item_T] * torch.sigmoid(logit_TH)
        if kept_I1 is not None:
            gate_TH = gate_TH * kept_I1[item_T]
        return gate_TH * F.embedding(item_T, id_IH) + (1 - gate_TH) * text_TH

    def normalised(self, item_NH):
        """(N, H): fused vectors as histories read and cosines compare them; those of a gate have any length."""
        return item_NH if self.gate is None else self.norm(item_NH)

    def extend(self, aligned):
        """Append N items that have texts alone: one ``AlignedVectors`` per field, in the order of the fields.

        Raises
        ------
        SettingError
            If the fusion scores items by vectors of their own, which a new item does not have.
        """
        if self.settings.fusion not in ("gate", "text_only"):
            raise SettingError(
                f"fusion: {self.settings.fusion} scores an item by a vector of its own, and a new item has none; "
                "train with fusion: gate or text_only to add items"
            )
        count = len(aligned[0].present)
        self.text.extend(aligned)
        if self.gate is not None:
            self.gate.extend(count)
        own_IH = torch.cat([self.own.weight, self.own.weight.new_zeros(count, self.own.embedding_dim)])
        self.own = nn.Embedding.from_pretrained(own_IH, freeze=False, padding_idx=0)


def _views(s, dataset):
    powers, form = WHITENING_POWERS[s.whiten], {"groups": s.whiten_groups, "zca": s.whiten_zca}
    return [FieldViews.of(field, powers, s.whiten_dim, **form) for field in dataset.text_vectors.values()]
