"""Causal sequence encoders over packed batches (``layout.py``): only attention (``attention.py``) sees padding.

Source of the LiGR block: Fedor Borisyuk et al., "LiGR", 2025, https://arxiv.org/abs/2502.03417, as used by eSASRec,
https://arxiv.org/abs/2508.06450.

Shapes: T events of the batch, H hidden, A heads, K = H / A.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from recbole.model.layers import TransformerEncoder
from torch import nn

from .attention import AttentionBias, CausalAttention, IntervalTables, mix
from .dropout import Dropout, dropped, rate_of


@dataclass(frozen=True)
class BlockSettings:
    """The keys that all models with these blocks have."""

    hidden_size: int
    n_layers: int
    n_heads: int
    inner_multiplier: int
    dropout: float
    attention_dropout: float


class LiGRBlock(nn.Module):
    """H + sigmoid(H W1) * Drop(MHA(LN H)), then H + sigmoid(H W2) * Drop(SwiGLU(LN H))."""

    def __init__(self, hidden_size, n_heads, inner_size, dropout, attention_dropout, rotary):
        super().__init__()
        self.attention = CausalAttention(hidden_size, n_heads, attention_dropout, rotary)
        self.attention_norm, self.inner_norm = nn.LayerNorm(hidden_size), nn.LayerNorm(hidden_size)
        self.attention_gate, self.inner_gate = (
            nn.Linear(hidden_size, hidden_size),
            nn.Linear(hidden_size, hidden_size),
        )
        self.widen, self.narrow = nn.Linear(hidden_size, 2 * inner_size), nn.Linear(inner_size, hidden_size)
        self.dropout = Dropout(dropout)

    def forward(self, x_TH, layout, bias, intervals, asked_T=None):
        """(T, H), or the rows of it that ``asked_T`` names: what is not asked for is only attended to."""
        mixed_TH = self.attention(self.attention_norm(x_TH), layout, bias, intervals)
        if asked_T is not None:
            x_TH, mixed_TH = x_TH[asked_T], mixed_TH[asked_T]
        x_TH = x_TH + torch.sigmoid(self.attention_gate(x_TH)) * self.dropout(mixed_TH)
        gate, value = self.widen(self.inner_norm(x_TH)).chunk(2, -1)
        return x_TH + torch.sigmoid(self.inner_gate(x_TH)) * self.dropout(self.narrow(F.silu(gate) * value))


class LiGREncoder(nn.Module):
    """Pre-norm gated blocks, with learned, rotary or relative positions and, if asked, the times."""

    def __init__(self, settings, max_length):
        super().__init__()
        s, heads = settings, settings.n_heads
        self.position = nn.Embedding(max_length, s.hidden_size) if s.position == "learned" else None
        self.bias = None
        if s.position == "relative" or s.time_mode == "bias":
            self.bias = AttentionBias(heads, max_length, s.time_unit if s.time_mode == "bias" else None)
        self.intervals = None
        if s.time_mode == "tisasrec":
            self.intervals = IntervalTables(s.hidden_size // heads, s.max_interval)
        inner, rotary = s.inner_multiplier * s.hidden_size, s.position == "rotary"
        self.blocks = nn.ModuleList(
            LiGRBlock(s.hidden_size, heads, inner, s.dropout, s.attention_dropout, rotary)
            for _ in range(s.n_layers)
        )
        self.dropout, self.norm = Dropout(s.dropout), nn.LayerNorm(s.hidden_size)

    def forward(self, input_TH, layout, elapsed_BL):
        """(T, H): what the encoder makes of each event and of those before it; of those that the layout asks for."""
        if self.position is not None:
            input_TH = input_TH + self.position(layout.position_T)
        x_TH = self.dropout(input_TH)
        bias = self.bias(layout, elapsed_BL) if self.bias is not None else None
        intervals = self.intervals(layout, elapsed_BL) if self.intervals is not None else None
        for block in self.blocks[:-1]:
            x_TH = block(x_TH, layout, bias, intervals)
        return self.norm(self.blocks[-1](x_TH, layout, bias, intervals, layout.asked_T))


class SASRecEncoder(nn.Module):
    """RecBole's post-norm ``TransformerEncoder`` with learned positions: the plain baseline."""

    def __init__(self, settings, max_length):
        super().__init__()
        s = settings
        self.position = nn.Embedding(max_length, s.hidden_size)
        self.norm, self.dropout = nn.LayerNorm(s.hidden_size, eps=1e-12), Dropout(s.dropout)
        self.trm_encoder = TransformerEncoder(
            n_layers=s.n_layers,
            n_heads=s.n_heads,
            hidden_size=s.hidden_size,
            inner_size=s.inner_multiplier * s.hidden_size,
            hidden_dropout_prob=s.dropout,
            attn_dropout_prob=s.attention_dropout,
            hidden_act="gelu",
            layer_norm_eps=1e-12,
        )

    def forward(self, input_TH, layout, elapsed_BL):
        """(T, H), of the events that the layout asks for."""
        input_TH = self.dropout(self.norm(input_TH + self.position(layout.position_T)))
        return read(self.trm_encoder, input_TH, layout)


def start_small(modules):
    """Small normal weights for linear layers and embeddings, as in BERT; biases start at zero."""
    for module in modules:
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.data.normal_(std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.data.zero_()


def start_as_identity(linear):
    """Let a linear layer between spaces of one width pass on what it is given, until it learns better."""
    if linear.in_features == linear.out_features:
        nn.init.eye_(linear.weight)
        nn.init.zeros_(linear.bias)


def read(trm_encoder, x_TH, layout):
    """(T, H): what RecBole's ``TransformerEncoder`` makes of packed histories, of the events that the layout asks for.

    The modules and numbers are RecBole's, but for rounding; only padding is left out, attention is PyTorch's fused one
    and GELU one operation in place of five.
    """
    asked = [None] * (len(trm_encoder.layer) - 1) + [layout.asked_T]
    for layer, asked_T in zip(trm_encoder.layer, asked, strict=True):
        attention, inner = layer.multi_head_attention, layer.feed_forward
        three = (attention.query(x_TH), attention.key(x_TH), attention.value(x_TH))
        packed_T3AK = torch.stack(three, 1).unflatten(2, (attention.num_attention_heads, -1))
        mixed_TH = mix(packed_T3AK, layout, rate_of(attention.attn_dropout))
        if asked_T is not None:
            x_TH, mixed_TH = x_TH[asked_T], mixed_TH[asked_T]
        mixed_TH = dropped(attention.dense(mixed_TH), rate_of(attention.out_dropout))
        x_TH = attention.LayerNorm(mixed_TH + x_TH)
        act = inner.intermediate_act_fn
        wide_TH = (F.gelu if act == inner.gelu else act)(inner.dense_1(x_TH))
        x_TH = inner.LayerNorm(dropped(inner.dense_2(wide_TH), rate_of(inner.dropout)) + x_TH)
    return x_TH
