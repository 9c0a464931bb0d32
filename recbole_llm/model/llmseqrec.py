"""LLMSeqRec: a sequential transformer whose items are read by a language model as well as by their interactions.

Each item has a vector of its own and vectors of its texts, made ahead of training by a frozen encoder. The texts are
whitened, adapted by a mixture of experts and weighed against each other; a gate that knows how often the item was seen
in training decides, dimension by dimension, how much of the item is text. An item never seen is text alone. Beside that
product the score may have the likeness of texts (``likeness.py``), whose vectors then stand behind the others.

There is no reference paper; the parts and their sources are named in ``items.py``, ``fusion.py``, ``encoders.py`` and
``losses.py``.

Where this differs from its specification:
- the ID dropout is drawn once per item and batch, not per occurrence, so that one item table serves a whole batch;
- time buckets are half octaves, so that 64 of them reach from a second to a lifetime;
- TiSASRec's intervals are counted in the shortest step so far, not of the whole history (``attention.py``);
- by default IDs start at random, without ID dropout and alignment, each better on validation (LOG.md); times are off,
  for not every data set has a clock's, and 128 whitened dimensions are kept; all are keys;
- there are no embeddings of hour and weekday, and no whitening weighed by frequency;
- relative positions (HSTU's P) are a choice of ``position`` of their own, since order is known where times are not.

Shapes: B batch, L max history length, T packed events, I items with padding, F fields, D text-vector size, H hidden,
W numbers of texts that stand behind, S = H + W.
"""

from dataclasses import dataclass, replace
from logging import getLogger
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from ..config import settings_from
from ..errors import SettingError
from . import losses
from .attention import TIME_BUCKETS, time_bucket
from .base import VectorRecommender
from .encoders import BlockSettings, LiGREncoder, SASRecEncoder, start_small
from .fusion import FusedItems
from .layout import of_asked
from .likeness import Likeness
from .neighbours import Neighbours
from .ranges import COUNT, NOT_NEGATIVE, POSITIVE, RATE, SHARE, check_ranges
from .streams import CrossStreams


@dataclass(frozen=True)
class Settings(BlockSettings):
    """The keys of ``properties/model/LLMSeqRec.yaml``, where each has its meaning and its default."""

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
    negatives: Literal["shared", "row", "batch"]
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
    likeness_events: int
    likeness_rare: float
    ctx_gate: bool
    id_init: Literal["pca", "random", "zeros"]
    id_dropout: float
    lambda_align: float
    align_temperature: float
    lambda_feat: float
    feat_warmup: int
    lambda_sd: float
    n_similar_users: int


RANGES = {
    """hidden_size n_layers n_heads inner_multiplier max_interval n_negatives whiten_dim whiten_groups n_experts
    n_similar_users""": COUNT,
    "dropout attention_dropout adaptor_dropout": RATE,
    "id_dropout gbce_calibration": SHARE,
    "temperature align_temperature time_unit": POSITIVE,
    """likeness_events likeness_rare kappa adaptor_weight_decay lambda_align lambda_feat feat_warmup
    lambda_sd""": NOT_NEGATIVE,
}


class LLMSeqRec(VectorRecommender):
    """The model; ``dataset.text_vectors`` holds one aligned artifact per field unless ``fusion`` is ``id_only``."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset, _told_times(settings_from(config, Settings), dataset))
        s = self.settings
        _check(s, self.dense)
        size = s.hidden_size
        self.table = FusedItems(s, dataset)
        self.likeness = None
        if s.likeness_events and s.fusion != "id_only":
            how = s.likeness_events, s.kappa, s.likeness_rare
            self.likeness = Likeness(dataset.text_vectors.values(), dataset.train_counts(), *how)
        self.streams = CrossStreams(size, s.n_heads, s.dropout) if s.fusion == "dual" else None
        self.sequence = (LiGREncoder if s.encoder == "ligr" else SASRecEncoder)(s, self.max_seq_length)
        self.gap = nn.Embedding(TIME_BUCKETS, size) if s.time_input else None
        self.query_gap = nn.Embedding(TIME_BUCKETS, size) if s.use_query_time else None
        self.log_temperature = (
            nn.Parameter(torch.tensor(s.temperature).log()) if s.score == "cosine" else None
        )
        self.neighbours = Neighbours.of(dataset, s.n_similar_users) if s.lambda_sd > 0 else None
        if s.fusion != "id_only":
            self.text_fingerprints = dict(dataset.text_fingerprints)
        self.epoch = 0  # set by the trainer; ramps `lambda_feat` in
        start_small([*self.sequence.modules(), *([self.gap] if self.gap is not None else [])])
        self.table.start()

    @staticmethod
    def reads_text(config):
        """Whether this configuration needs text vectors."""
        return config["fusion"] != "id_only"

    # ------------------------------------------------------------------ items

    def items(self, item_N=None):
        """(I, H), or (I, 2 H) for ``dual``: the items, or those that ``item_N`` names, fused as ``fusion`` says."""
        self._kept["parts"] = parts = self.table.parts(item_N)
        return self.table(parts)

    @property
    def reads_other_items(self):
        """Whether a training batch reads items that it does not name: those of similar users."""
        return self.neighbours is not None

    def scored(self, item_IH, item_N=None):
        """The items as the score multiplies them: of length 1 for the cosine; for dot a popular one may be longer.

        With ``likeness_events`` their texts stand behind, W numbers more.
        """
        if self.settings.score == "cosine":
            item_IH = F.normalize(self.table.normalised(item_IH), dim=-1)
        return item_IH if self.likeness is None else torch.cat([item_IH, self.likeness.scored(item_N)], 1)

    @property
    def n_fixed(self):
        """How many numbers of texts stand behind an item's."""
        return 0 if self.likeness is None else self.likeness.width

    @property
    def not_exported(self):
        """Why no encoder of item vectors can be exported, in a sentence; None where it can."""
        if self.settings.ctx_gate or self.settings.use_query_time:
            return (
                "ctx_gate and use_query_time make what is read depend on more than the history's items; train with "
                "both off to export"
            )
        return None

    @property
    def reads_times(self):
        """Whether the times of a history's events are read."""
        return self.settings.time_input or self.settings.time_mode != "none"

    def items_as_read(self):
        """(I, H + W): the items as ``read`` takes them."""
        return self.with_texts(self.current_items())

    def with_texts(self, vectors_NH, item_N=None):
        """(N, H + W): the vectors of items as ``read`` takes them, with ``likeness_events`` their texts behind."""
        return (
            vectors_NH if self.likeness is None else torch.cat([vectors_NH, self.likeness.items(item_N)], 1)
        )

    @torch.no_grad()
    def id_shares(self):
        """(I,): how much of each item is its own vector, 0 (text alone) to 1, by its gate; None where there is none."""
        gate_IH = self.table.parts().gate
        return None if gate_IH is None else gate_IH.mean(1)

    @torch.no_grad()
    def add_items(self, aligned):
        """Make new items rankable by their texts alone, without training; returns their item ids.

        ``aligned`` maps each text field to an ``AlignedVectors`` of the new items (no padding row).

        Raises
        ------
        SettingError
            If the fusion scores items by vectors of their own, which a new item does not have.
        """
        count, first = len(next(iter(aligned.values())).present), self.n_items
        aligned = [aligned[field] for field in self.text_fingerprints]
        self.table.extend(aligned)
        if self.likeness is not None:
            self.likeness.extend(aligned)
        self.n_items = first + count
        self._kept.clear()
        return range(first, self.n_items)

    # ------------------------------------------------------------------ histories

    def encode(self, item_seq_BL, layout, beside):
        """(T, S): for each event asked for the vector that scores what comes next, the temperature included."""
        item_T = layout.pack(item_seq_BL)
        if self.table.context is not None:
            self.current_items()  # makes the parts, once a batch
            input_TH = self.table.in_context(item_T, layout, self._kept["parts"])
        else:
            input_TH = F.embedding(item_T, self.current_items())
        if self.likeness is not None:
            item_N = self._kept["parts"].item  # a batch may have places among these for ids
            input_TH = self.with_texts(input_TH, item_T if item_N is None else item_N[item_T])
        return self.read(input_TH, layout, beside.elapsed_BL, beside.next_elapsed_BL)

    def read(self, input_TS, layout, elapsed_BL, next_elapsed_BL=None):
        """(T, S): the same from the vectors of the events' items, however they were made."""
        input_TH, text_TW = input_TS.tensor_split([input_TS.shape[1] - self.n_fixed], 1)
        input_TH = self.table.normalised(input_TH)
        if self.gap is not None:
            input_TH = input_TH + self._gap_vectors(layout, elapsed_BL)
        if self.streams is not None:
            first_TH, second_TH = self.streams(*input_TH.chunk(2, 1), layout)
            user_TH = torch.cat(
                [self.sequence(part, layout, elapsed_BL) for part in (first_TH, second_TH)], 1
            )
        else:
            user_TH = self.sequence(input_TH, layout, elapsed_BL)
        if self.query_gap is not None:
            wait_T = of_asked(layout.pack(next_elapsed_BL - elapsed_BL), layout)
            user_TH = user_TH + self.query_gap(time_bucket(wait_T, self.settings.time_unit))
        if self.settings.score == "cosine":
            user_TH = F.normalize(user_TH, dim=-1) / losses.temperature_of(self.log_temperature)
        return (
            user_TH
            if self.likeness is None
            else torch.cat([user_TH, self.likeness.users(text_TW, layout)], 1)
        )

    def _gap_vectors(self, layout, elapsed_BL):
        """(T, H): an embedding of the time since the event before; bucket 0 for the first."""
        elapsed_T = layout.pack(elapsed_BL)
        gap_T = torch.where(layout.position_T > 0, elapsed_T - elapsed_T.roll(1), 0)
        return self.gap(time_bucket(gap_T, self.settings.time_unit))

    # ------------------------------------------------------------------ training

    def regularisation(self, interaction):
        """By name, the weighted terms that are switched on."""
        s, terms = self.settings, {}
        ramp = min(1.0, self.epoch / s.feat_warmup) if s.feat_warmup else 1.0
        if s.lambda_align > 0 or s.lambda_feat * ramp > 0:
            item_N = torch.unique(interaction[self.ITEM_SEQ])
            item_N = item_N[item_N > 0]
            own_NH, text_NH = self.table.own(item_N), self.table.text(item_N).detach()
            if s.lambda_align > 0:
                aligned = losses.alignment(own_NH, text_NH, temperature=s.align_temperature)
                terms["alignment"] = s.lambda_align * aligned
            if s.lambda_feat * ramp > 0:
                terms["decorrelation"] = s.lambda_feat * ramp * losses.decorrelation(own_NH, text_NH)
        if self.neighbours is not None:
            terms["distillation"] = s.lambda_sd * self._distance_to_similar(interaction)
        return terms

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


def _told_times(s, dataset):
    """The settings, without the times where all events of every user share one: they would tell nothing."""
    asked = s.time_mode != "none" or s.time_input
    times = getattr(dataset, "event_times", None)
    if not asked or times is None or (times != times[dataset.user_start]).any():
        return s
    getLogger().warning(
        f"all events of each user of `{dataset.dataset_name}` have the same time; time_mode and time_input are off"
    )
    return replace(s, time_mode="none", time_input=False)


def _check(s, dense):
    """Refuse settings that cannot be or that contradict each other, each in one sentence."""
    check_ranges(s, RANGES)
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
    if s.negatives == "batch" and s.loss in ("gbce", "bce"):
        raise SettingError(
            f"negatives: batch needs the log Q correction of loss: ssm, found loss: {s.loss}; set negatives: shared"
        )
    if s.lambda_sd > 0 and dense:
        raise SettingError("lambda_sd compares whole histories; it needs train_rows: prefix, found dense")
    if s.lambda_sd > 0 and s.fusion == "id_only":
        raise SettingError("lambda_sd finds similar users by their items' texts; fusion: id_only has none")
    if s.lambda_sd > 0 and (s.time_mode != "none" or s.time_input or s.use_query_time):
        raise SettingError(
            "lambda_sd compares histories without their times; set time_mode: none, time_input: False and "
            "use_query_time: False"
        )
