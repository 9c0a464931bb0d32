"""The item table of LLMSeqRec: text vectors whitened, adapted, weighed by field and fused with the item's own vector.

Sources: whitening: WhitenRec, https://arxiv.org/abs/2402.10602; adaptor: UniSRec, https://arxiv.org/abs/2206.05941;
null space: AlphaFuse, https://arxiv.org/abs/2504.19218; starting from the text's principal components: LLM2BERT4Rec,
https://arxiv.org/abs/2309.09261. The gate by popularity is ours; FAERec (https://arxiv.org/abs/2604.03688) has a
related one.

Shapes: I items with padding, D text-vector size, W whitened size, H hidden, F fields, X experts.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import DataError
from .dropout import Dropout

# by the name of `whiten`: the powers of the spread that a view divides by, one for each of its tables
WHITENING_POWERS = {"none": (), "pca": (0.0,), "full": (1.0,), "relaxed": (0.5,), "ensemble": (1.0, 0.5)}
EPSILON = 1e-5  # keeps dimensions of no variance from exploding when they are divided by their spread


@dataclass(frozen=True)
class Whitening:
    """A linear map that turns vectors onto their principal axes and divides each axis by a power of its spread."""

    mean_D: torch.Tensor
    matrix_DW: torch.Tensor

    @classmethod
    def fit(cls, vectors_ID, present_I, size, power, *, groups=1, zca=False):
        """The map for these vectors, from the items that have text alone.

        ``power`` 0 is a mere rotation (PCA), 1 whitens fully. With ``groups`` the dimensions are cut into blocks that
        are whitened apart ("relaxed" whitening); ``zca`` turns the result back to the old axes. W is at most ``size``
        and the rank that the items allow.
        """
        known_ND = vectors_ID[present_I].double()
        if len(known_ND) < 2:
            raise DataError(
                f"{len(known_ND)} items have text in a field that is to be whitened, expected 2 or more; "
                "take the field out of text_fields, or set whiten: none"
            )
        mean_D = known_ND.mean(0)
        blocks = [
            _axes(block_NG, max(size // groups, 1), power, zca)
            for block_NG in (known_ND - mean_D).chunk(groups, 1)
        ]
        return cls(mean_D.float(), torch.block_diag(*blocks).float())

    def __call__(self, vectors_ID, present_I):
        """(I, W): the vectors under the map, zeros for items without text."""
        return ((vectors_ID.float() - self.mean_D) @ self.matrix_DW).masked_fill(~present_I[:, None], 0.0)

    def rows(self, aligned):
        """(I, W): the rows of an ``AlignedVectors`` under the map."""
        return self(torch.as_tensor(aligned.vectors), torch.as_tensor(aligned.present))

    def scaled(self, factor):
        """The same map, its result multiplied with ``factor``."""
        return Whitening(self.mean_D, self.matrix_DW * factor)


def _axes(centred_NG, size, power, zca):
    """(G, W): the principal axes of one block, each divided by its spread to the power ``power``."""
    covariance_GG = torch.cov(centred_NG.T).reshape(centred_NG.shape[1], -1)
    variance_G, axes_GG = torch.linalg.eigh(covariance_GG)  # rising order
    size = max(1, min(size, len(variance_G), len(centred_NG) - 1))
    variance_W, axes_GW = variance_G.flip(0)[:size].clamp(min=0), axes_GG.flip(1)[:, :size]
    matrix_GW = axes_GW * (variance_W + EPSILON) ** (-power / 2)
    return matrix_GW @ axes_GW.T if zca else matrix_GW


class ExpertAdaptor(nn.Module):
    """UniSRec's mixture of parametric whitenings: sum over experts of gate_x(x) * (Drop(x) - b_x) W_x."""

    def __init__(self, size_in, size_out, n_experts, dropout):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_experts, size_in, size_out).normal_(std=0.02))
        self.bias = nn.Parameter(torch.zeros(n_experts, size_in))
        self.gate = nn.Parameter(torch.zeros(size_in, n_experts))
        self.gate_noise = nn.Parameter(torch.zeros(size_in, n_experts))
        self.dropout = Dropout(dropout)

    def forward(self, x_IW):
        """(I, H)."""
        n_experts, size_in, size_out = self.weight.shape
        logit_IX = x_IW @ self.gate
        if self.training:  # noise keeps the experts from being chosen once and for all; 1e-2 is its floor
            logit_IX = logit_IX + torch.randn_like(logit_IX) * (F.softplus(x_IW @ self.gate_noise) + 1e-2)
        all_experts = self.weight.transpose(0, 1).reshape(size_in, n_experts * size_out)
        offset_XH = torch.einsum("xw,xwh->xh", self.bias, self.weight)
        expert_IXH = (self.dropout(x_IW) @ all_experts).view(-1, n_experts, size_out) - offset_XH
        return torch.einsum("ix,ixh->ih", logit_IX.softmax(-1), expert_IXH)


class TextView(nn.Module):
    """t_i: the adapted fields of an item weighed by how much each says about it; a learned vector where none does."""

    def __init__(self, views, hidden_size, n_experts, dropout, trainable=False):
        super().__init__()
        self.views = [view.maps for view in views]
        for f, view in enumerate(views):
            for v, table_IW in enumerate(view.tables):
                if trainable:
                    self.register_parameter(f"table_{f}_{v}", nn.Parameter(table_IW.clone()))
                else:  # made again from the artifact, so not in the checkpoint
                    self.register_buffer(f"table_{f}_{v}", table_IW, persistent=False)
        present_IF = torch.stack([view.present_I for view in views], 1)
        self.register_buffer("present_IF", present_IF, persistent=False)
        self.adaptors = nn.ModuleList(
            ExpertAdaptor(view.tables[0].shape[1], hidden_size, n_experts, dropout) for view in views
        )
        self.query = nn.Parameter(torch.zeros(hidden_size))
        self.field = nn.Parameter(torch.zeros(len(views), hidden_size))
        self.mix = nn.Linear(hidden_size, hidden_size, bias=False)
        self.no_text = nn.Parameter(torch.empty(hidden_size).normal_(std=0.02))

    def fields(self, item_N=None):
        """(I, F, H): z_if, each field's adapted vector; (N, F, H) of the items that ``item_N`` names."""
        tables = [
            [rows_of(getattr(self, f"table_{f}_{v}"), item_N) for v in range(len(views))]
            for f, views in enumerate(self.views)
        ]
        return torch.stack(
            [sum(map(adaptor, views)) for adaptor, views in zip(self.adaptors, tables, strict=True)], 1
        )

    def extend(self, aligned):
        """Append the rows of new items: one ``AlignedVectors`` per field, in the order of the fields."""
        present_NF = torch.stack([torch.as_tensor(field.present) for field in aligned], 1)
        self.present_IF = torch.cat([self.present_IF, present_NF.to(self.present_IF.device)])
        for f, field in enumerate(aligned):
            for v, whitening in enumerate(self.views[f]):
                table_IW = getattr(self, f"table_{f}_{v}")
                extended_IW = torch.cat([table_IW.data, whitening.rows(field).to(table_IW.device)])
                is_weight = isinstance(table_IW, nn.Parameter)
                setattr(self, f"table_{f}_{v}", nn.Parameter(extended_IW) if is_weight else extended_IW)

    def weights(self, field_IFH, item_N=None):
        """(I, F): beta_if = softmax over the fields that the item has; zeros where it has none."""
        present_IF = rows_of(self.present_IF, item_N)
        logit_IF = torch.tanh(self.mix(field_IFH) + self.field) @ self.query
        return shares(logit_IF, present_IF)

    def forward(self, item_N=None):
        """(I, H), or (N, H) of the items that ``item_N`` names."""
        field_IFH = self.fields(item_N)
        text_IH = torch.einsum("if,ifh->ih", self.weights(field_IFH, item_N), field_IFH)
        return torch.where(rows_of(self.present_IF, item_N).any(1, keepdim=True), text_IH, self.no_text)


class PopularityGate(nn.Module):
    """How much of an item is its own vector: g_i scaled by c_i = n_i / (n_i + kappa), so 0 for an unseen item."""

    def __init__(self, count_I, hidden_size, kappa):
        super().__init__()
        count_I = count_I.float()
        popularity_I3 = torch.stack(
            [
                count_I.log1p() / count_I.max().clamp(min=1).log1p(),
                (count_I == 0).float(),
                (count_I <= 5).float(),
            ],
            1,
        )
        self.register_buffer("popularity_I3", popularity_I3 if kappa > 0 else torch.zeros_like(popularity_I3))
        # kappa 0 is the ablation "gate without popularity": every seen item trusts its own vector alike
        self.register_buffer("trust_I1", trust(count_I, kappa))
        self.norm = nn.LayerNorm(hidden_size, elementwise_affine=False)
        self.linear = nn.Linear(2 * hidden_size + 3, hidden_size)
        nn.init.zeros_(self.linear.bias)

    def extend(self, count):
        """Append ``count`` items that were never seen: no trust in a vector of their own."""
        unseen_N3 = self.popularity_I3.new_tensor([0.0, 1.0, 1.0]).repeat(count, 1) * self.popularity_I3.any()
        self.popularity_I3 = torch.cat([self.popularity_I3, unseen_N3])
        self.trust_I1 = torch.cat([self.trust_I1, self.trust_I1.new_zeros(count, 1)])

    def logit(self, id_IH, text_IH, item_N=None):
        """(I, H): the gate before the sigmoid and before the trust in the item's own vector."""
        popularity_I3 = rows_of(self.popularity_I3, item_N)
        return self.linear(torch.cat([self.norm(id_IH), self.norm(text_IH), popularity_I3], 1))

    def forward(self, id_IH, text_IH, item_N=None):
        """(I, H) in [0, 1), of all items or of those that ``item_N`` names."""
        return rows_of(self.trust_I1, item_N) * torch.sigmoid(self.logit(id_IH, text_IH, item_N))


def trust(count_I, kappa):
    """(I, 1): c_i = n_i / (n_i + kappa), how much of an item with n_i events its own vector may be; 0 if unseen."""
    return torch.where(count_I > 0, count_I / (count_I + kappa), 0.0)[:, None]


def shares(logit_NK, known_NK):
    """(N, K): the softmax over what is known, zeros elsewhere; of a row that knows nothing all zeros."""
    exact = torch.promote_types(logit_NK.dtype, torch.float32)  # float32 at least, whatever autocast says
    return logit_NK.masked_fill(~known_NK, -1e9).softmax(1, dtype=exact) * known_NK


def rows_of(table_I, item_N=None):
    """The rows of a table that ``item_N`` names; the table itself where it names none."""
    return table_I if item_N is None else F.embedding(item_N, table_I)


@dataclass(frozen=True)
class FieldViews:
    """The whitened views of one text field: one per power, which share an adaptor (WhitenRec+)."""

    maps: tuple  # of Whitening
    tables: tuple  # of (I, W), each with a standard deviation of 1 over the items that have text
    present_I: torch.Tensor

    @classmethod
    def of(cls, aligned, powers, size, *, groups=1, zca=False):
        """The views of an ``AlignedVectors`` (rows by item id); without ``powers`` the vectors as they are."""
        vectors_ID, present_I = torch.as_tensor(aligned.vectors).float(), torch.as_tensor(aligned.present)
        maps = [Whitening.fit(vectors_ID, present_I, size, power, groups=groups, zca=zca) for power in powers]
        width = vectors_ID.shape[1]
        maps = maps or [Whitening(torch.zeros(width), torch.eye(width))]
        maps = [m.scaled(1 / m(vectors_ID, present_I)[present_I].std().clamp(min=EPSILON)) for m in maps]
        return cls(tuple(maps), tuple(m(vectors_ID, present_I) for m in maps), present_I)


def start_from_text(views, size, std=0.02):
    """(I, H): the first H principal components of all fields together, rescaled to a standard deviation of ``std``."""
    joined_IW = torch.cat([view.tables[-1] for view in views], 1)
    known_I = torch.stack([view.present_I for view in views]).any(0)
    start_IH = Whitening.fit(joined_IW, known_I, size, power=0.0)(joined_IW, known_I)
    start_IH = start_IH / start_IH[known_I].std().clamp(min=EPSILON) * std
    return F.pad(start_IH, (0, size - start_IH.shape[1]))
