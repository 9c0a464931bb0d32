"""LLMSeqRec: a sequential transformer whose items are read by a language model as well as by their interactions.

Each item has a vector of its own and vectors of its texts, made ahead of training by a frozen encoder. The texts are
whitened, adapted by a mixture of experts and weighed against each other; a gate that knows how often the item was seen
in training decides, dimension by dimension, how much of the item is text. An item never seen is text alone.

There is no reference paper; the parts and their sources are named in ``items.py``, ``encoders.py`` and ``losses.py``.

Where this differs from its specification:
- the ID dropout is drawn once per item and batch, not per occurrence, so that one item table serves a whole batch;
- time buckets are half octaves, so that 64 of them reach from a second to a lifetime;
- relative positions (HSTU's P) are a choice of ``position`` of their own, since order is known where times are not.

Shapes: B batch, L max history length, T packed events, I items with padding, F fields, D text-vector size, H hidden.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from ..config import settings_from
from ..errors import ArtifactError, SettingError
from . import losses
from .base import VectorRecommender
from .encoders import TIME_BUCKETS, LiGREncoder, SASRecEncoder, time_bucket
from .items import FieldViews, PopularityGate, TextView, start_from_text
from .neighbours import Neighbours
from .streams import CrossStreams

WHITENING_POWERS = {"none": (), "pca": (0.0,), "full": (1.0,), "relaxed": (0.5,), "ensemble": (1.0, 0.5)}


@dataclass(frozen=True)
class Settings:
    """The keys of ``properties/model/LLMSeqRec.yaml``, where each has its meaning and its default."""

    hidden_size: int
    n_layers: int
    n_heads: int
    inner_multiplier: int
    dropout: float
    attention_dropout: float
    encoder: Literal["ligr", "sasrec"]
    position: Literal["learned", "rotary", "relative", "none"]
    time_mode: Literal["none", "bias", "tisasrec"]
    time_input: bool
    time_unit: float
    max_interval: int
    use_query_time: bool
    score: Literal["cosine", "dot"]
    temperature: float
    loss: Literal["ce", "ssm", "gbce", "bce"]
    n_negatives: int
    gbce_calibration: float
    whiten: Literal["none", "pca", "full", "relaxed", "ensemble"]
    whiten_dim: int
    whiten_groups: int
    whiten_zca: bool
    n_experts: int
    adaptor_dropout: float
    adaptor_weight_decay: float
    text_trainable: bool
    fusion: Literal["gate", "sum", "concat", "text_only", "id_only", "nullspace", "dual"]
    kappa: float
    ctx_gate: bool
    id_init: Literal["pca", "random", "zeros"]
    id_dropout: float
    lambda_align: float
    align_temperature: float
    lambda_feat: float
    feat_warmup: int
    lambda_sd: float
    n_similar_users: int


class LLMSeqRec(VectorRecommender):
    """The model; ``dataset.text_vectors`` holds one aligned artifact per field unless ``fusion`` is ``id_only``."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset, settings_from(config, Settings))
        s = self.settings
        _check(s, self.dense)
        size = s.hidden_size
        own_size = size // 2 if s.fusion == "nullspace" else size
        self.item_embedding = nn.Embedding(self.n_items, own_size, padding_idx=0)
        views = self._views(dataset) if s.fusion != "id_only" else None
        if s.fusion == "nullspace":
            self.register_buffer(
                "row_space", start_from_text(views, size - own_size, std=1.0), persistent=False
            )
        elif views:
            self.text = TextView(views, size, s.n_experts, s.adaptor_dropout, s.text_trainable)
        if s.fusion == "gate":
            self.gate = PopularityGate(dataset.train_counts(), size, s.kappa)
            self.context = nn.Linear(size, size, bias=False) if s.ctx_gate else None
            self.item_norm = nn.LayerNorm(size)
        elif s.fusion == "concat":
            self.join = nn.Linear(2 * size, size)
        elif s.fusion == "dual":
            self.streams = CrossStreams(size, s.n_heads, s.dropout)
        self.sequence = (LiGREncoder if s.encoder == "ligr" else SASRecEncoder)(s, self.max_seq_length)
        self.gap = nn.Embedding(TIME_BUCKETS, size) if s.time_input else None
        self.query_gap = nn.Embedding(TIME_BUCKETS, size) if s.use_query_time else None
        self.log_temperature = (
            nn.Parameter(torch.tensor(s.temperature).log()) if s.score == "cosine" else None
        )
        self.neighbours = Neighbours.of(dataset, s.n_similar_users) if s.lambda_sd > 0 else None
        self.text_fingerprints = dict(dataset.text_fingerprints) if views else {}
        self.epoch = 0  # set by the trainer; ramps `lambda_feat` in
        self._start_weights(views)
        if s.fusion == "text_only" and not (s.lambda_align or s.lambda_feat):
            self.item_embedding.requires_grad_(False)  # nothing reads it

    def _views(self, dataset):
        s = self.settings
        powers, form = WHITENING_POWERS[s.whiten], {"groups": s.whiten_groups, "zca": s.whiten_zca}
        return [FieldViews.of(field, powers, s.whiten_dim, **form) for field in dataset.text_vectors.values()]

    @staticmethod
    def reads_text(config):
        """Whether this configuration needs text vectors."""
        return config["fusion"] != "id_only"

    other_parameter_name = ("text_fingerprints",)

    def load_other_parameter(self, parameters):
        """Refuse weights that were trained on other text vectors."""
        for field, key in (parameters or {}).get("text_fingerprints", {}).items():
            if self.text_fingerprints.get(field) != key:
                raise ArtifactError(
                    f"the weights were trained on the vectors {key[:12]} of field `{field}`, this data set has "
                    f"{str(self.text_fingerprints.get(field))[:12]}; use the same text and encoder, or train again"
                )

    def _start_weights(self, views):
        """Small normal weights, as in BERT; the item vectors as ``id_init`` says; row 0 is zero."""
        for module in [*self.sequence.modules(), *([self.gap] if self.gap is not None else [])]:
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.data.normal_(std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.data.zero_()
        weight = self.item_embedding.weight.data
        if self.settings.id_init == "zeros":
            weight.zero_()
        elif self.settings.id_init == "pca" and views:
            weight.copy_(start_from_text(views, weight.shape[1]))
        else:
            weight.normal_(std=0.02)
        weight[0] = 0

    # ------------------------------------------------------------------ items

    def item_parts(self):
        """The item's own vectors, its text vectors and the gate, each (I, H) or None where the fusion has none."""
        id_IH = self.item_embedding.weight
        text_IH = self.text() if hasattr(self, "text") else None
        gate_IH = self.gate(id_IH, text_IH) if self.settings.fusion == "gate" else None
        return id_IH, text_IH, gate_IH

    def items(self):
        """(I, H), or (I, 2 H) for ``dual``: the items fused as ``fusion`` says."""
        id_IH, text_IH, gate_IH = self.item_parts()
        match self.settings.fusion:
            case "gate":
                if self.training and self.settings.id_dropout > 0:
                    kept_I1 = torch.rand(len(gate_IH), 1, device=gate_IH.device) >= self.settings.id_dropout
                    gate_IH = gate_IH * kept_I1
                return self.item_norm(gate_IH * id_IH + (1 - gate_IH) * text_IH)
            case "sum":
                return id_IH + text_IH
            case "concat":
                return self.join(torch.cat([id_IH, text_IH], 1))
            case "text_only":
                return text_IH
            case "id_only":
                return id_IH
            case "nullspace":
                return torch.cat([self.row_space, id_IH], 1)
            case "dual":
                return torch.cat([id_IH, text_IH], 1)

    def scored(self, item_IH):
        """The items as the score multiplies them: of length 1 for the cosine."""
        return F.normalize(item_IH, dim=-1) if self.settings.score == "cosine" else item_IH

    @torch.no_grad()
    def add_items(self, aligned):
        """Make new items rankable by their texts alone, without training; returns their item ids.

        ``aligned`` maps each text field to an ``AlignedVectors`` of the new items (no padding row).

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
        count, first = len(next(iter(aligned.values())).present), self.n_items
        self.text.extend([aligned[field] for field in self.text_fingerprints])
        if self.settings.fusion == "gate":
            self.gate.extend(count)
        own_IH = self.item_embedding.weight
        own_IH = torch.cat([own_IH, own_IH.new_zeros(count, own_IH.shape[1])])
        self.item_embedding = nn.Embedding.from_pretrained(own_IH, freeze=False, padding_idx=0)
        self.n_items, self._items = first + count, None
        return range(first, self.n_items)

    # ------------------------------------------------------------------ histories

    def encode(self, item_seq_BL, layout, elapsed_BL, next_elapsed_BL=None):
        """(T, H): for each event the vector that scores what comes next, the temperature included."""
        input_TH = F.embedding(layout.pack(item_seq_BL), self.current_items())
        if self.settings.fusion == "gate" and self.context is not None:
            input_TH = self._read_in_context(layout, item_seq_BL)
        return self.read(input_TH, layout, elapsed_BL, next_elapsed_BL)

    def read(self, input_TH, layout, elapsed_BL, next_elapsed_BL=None):
        """(T, H): the same from the vectors of the events' items, however they were made."""
        if self.gap is not None:
            input_TH = input_TH + self._gap_vectors(layout, elapsed_BL)
        if self.settings.fusion == "dual":
            first_TH, second_TH = self.streams(*input_TH.chunk(2, 1), layout)
            user_TH = torch.cat(
                [self.sequence(part, layout, elapsed_BL) for part in (first_TH, second_TH)], 1
            )
        else:
            user_TH = self.sequence(input_TH, layout, elapsed_BL)
        if self.query_gap is not None:
            wait_T = layout.pack(next_elapsed_BL - elapsed_BL)
            user_TH = user_TH + self.query_gap(time_bucket(wait_T, self.settings.time_unit))
        user_TH = self.scored(user_TH)
        if self.log_temperature is not None:
            user_TH = user_TH / losses.temperature_of(self.log_temperature)
        return user_TH

    def _read_in_context(self, layout, item_seq_BL):
        """(T, H): the input items, their gates moved by the mean text of what came before them (``ctx_gate``)."""
        id_IH, text_IH, _ = self.item_parts()
        item_T = layout.pack(item_seq_BL)
        text_TH = F.embedding(item_T, text_IH)
        before_BLH = layout.pad(text_TH).cumsum(1)
        mean_TH = (layout.pack(before_BLH) - text_TH) / layout.position_T.clamp(min=1)[:, None]
        logit_TH = F.embedding(item_T, self.gate.logit(id_IH, text_IH)) + self.context(mean_TH)
        gate_TH = self.gate.trust_I1[item_T] * torch.sigmoid(logit_TH)
        return self.item_norm(gate_TH * F.embedding(item_T, id_IH) + (1 - gate_TH) * text_TH)

    def _gap_vectors(self, layout, elapsed_BL):
        """(T, H): an embedding of the time since the event before; bucket 0 for the first."""
        elapsed_T = layout.pack(elapsed_BL)
        gap_T = torch.where(layout.position_T > 0, elapsed_T - elapsed_T.roll(1), 0)
        return self.gap(time_bucket(gap_T, self.settings.time_unit))

    # ------------------------------------------------------------------ training

    def regularisation(self, interaction):
        """The weighted terms that are switched on."""
        s, terms = self.settings, []
        ramp = min(1.0, self.epoch / s.feat_warmup) if s.feat_warmup else 1.0
        if s.lambda_align > 0 or s.lambda_feat * ramp > 0:
            item_N = torch.unique(interaction[self.ITEM_SEQ])
            item_N = item_N[item_N > 0]
            own_NH, text_NH = self.item_embedding.weight[item_N], self.text()[item_N].detach()
            if s.lambda_align > 0:
                terms.append(
                    s.lambda_align * losses.alignment(own_NH, text_NH, temperature=s.align_temperature)
                )
            if s.lambda_feat * ramp > 0:
                terms.append(s.lambda_feat * ramp * losses.decorrelation(own_NH, text_NH))
        if self.neighbours is not None:
            terms.append(s.lambda_sd * self._distance_to_similar(interaction))
        return tuple(terms)

    def _distance_to_similar(self, interaction):
        """Mean squared distance of a user's vector to the mean of similar users' (LLM-ESR's self-distillation)."""
        user_B, length_B = interaction[self.USER_ID], interaction[self.ITEM_SEQ_LEN]
        user_BH = self.forward(interaction[self.ITEM_SEQ], length_B)
        with torch.no_grad():
            item_seq, length, drawn = self.neighbours.draw(user_B)
            teacher_BH = self.forward(item_seq, length).view(len(user_B), drawn, -1).mean(1)
        return F.mse_loss(user_BH, teacher_BH)

    def parameter_groups(self):
        """The parameters with their weight decay: the adaptors have their own, the rest the trainer's."""
        adaptor = [p for name, p in self.named_parameters() if ".adaptors." in name]
        known = {id(p) for p in adaptor}
        rest = [p for p in self.parameters() if id(p) not in known]
        groups = [{"params": rest}, {"params": adaptor, "weight_decay": self.settings.adaptor_weight_decay}]
        return [group for group in groups if group["params"]]


def _check(s, dense):
    """Refuse settings that contradict each other, each in one sentence."""
    if s.hidden_size % s.n_heads:
        raise SettingError(f"hidden_size {s.hidden_size} must be a multiple of n_heads {s.n_heads}")
    if s.position == "rotary" and s.hidden_size // s.n_heads % 2:
        raise SettingError(
            f"position: rotary needs an even head size, but {s.hidden_size} / {s.n_heads} is odd"
        )
    if s.encoder == "sasrec" and (s.time_mode != "none" or s.position != "learned"):
        raise SettingError(
            "encoder: sasrec has learned positions and no times; set position: learned, time_mode: none"
        )
    textless = s.fusion in ("id_only", "nullspace")
    if textless and (s.lambda_align > 0 or s.lambda_feat > 0):
        raise SettingError(
            f"fusion: {s.fusion} has no text vectors to align; set lambda_align and lambda_feat to 0"
        )
    if s.ctx_gate and s.fusion != "gate":
        raise SettingError(
            f"ctx_gate moves the gate of fusion: gate, but fusion is {s.fusion}; set ctx_gate: False"
        )
    if s.lambda_sd > 0 and dense:
        raise SettingError("lambda_sd compares whole histories; it needs train_rows: prefix, found dense")
