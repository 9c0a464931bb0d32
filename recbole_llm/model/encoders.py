"""Causal sequence encoders over packed batches (``layout.py``): only attention sees padding.

Sources: LiGR block: Fedor Borisyuk et al., "LiGR", 2025, https://arxiv.org/abs/2502.03417, as used by eSASRec,
https://arxiv.org/abs/2508.06450. Relative position and time bias: HSTU, Jiaqi Zhai et al., ICML 2024,
https://arxiv.org/abs/2402.17152. Interval keys and values: TiSASRec, Jiacheng Li et al., WSDM 2020.
Rotary positions: Jianlin Su et al., https://arxiv.org/abs/2104.09864.

Shapes: B batch, L longest history of the batch, T events of the batch (T <= B L), H hidden, A heads, K = H / A.
"""

import torch
import torch.nn.functional as F
from recbole.model.layers import TransformerEncoder
from torch import nn

from .dropout import Dropout

TIME_BUCKETS = 64


def time_bucket(gap, unit):
    """The bucket of a time gap, 0 to 63: the integer part of 2 log2(1 + gap / unit); seconds reach to 136 years."""
    octaves = torch.log2(1 + gap.abs().double() / unit)
    # a gap on the edge of two buckets belongs to the upper one, however the logarithm is rounded
    return (2 * octaves + 1e-6).long().clamp(max=TIME_BUCKETS - 1)


class AttentionBias(nn.Module):
    """What HSTU adds to the attention logits: P[i - j] for the positions and T[bucket(t_i - t_j)] for the times."""

    def __init__(self, n_heads, max_length, time_unit=None):
        super().__init__()
        self.time_unit = time_unit
        self.by_distance = nn.Parameter(torch.zeros(n_heads, max_length))
        self.by_gap = nn.Parameter(torch.zeros(TIME_BUCKETS, n_heads)) if time_unit else None

    def forward(self, layout, elapsed_BL):
        """(B or 1, A, L, L): the bias, far below zero where j > i."""
        position_L = torch.arange(layout.length, device=self.by_distance.device)
        distance_LL = position_L[:, None] - position_L
        bias = self.by_distance[:, distance_LL.clamp(min=0)].unsqueeze(0)
        if self.by_gap is not None:
            time_BL = elapsed_BL[:, : layout.length]
            bucket_BLL = time_bucket(time_BL[:, :, None] - time_BL[:, None, :], self.time_unit)
            bias = bias + F.embedding(bucket_BLL, self.by_gap).permute(0, 3, 1, 2)
        return bias.masked_fill(distance_LL < 0, torch.finfo(bias.dtype).min / 2)


class IntervalTables(nn.Module):
    """TiSASRec's key and value tables of a user's time intervals, in units of the user's own shortest interval."""

    def __init__(self, head_size, max_interval):
        super().__init__()
        self.max_interval = max_interval
        self.key, self.value = (
            nn.Embedding(max_interval + 1, head_size),
            nn.Embedding(max_interval + 1, head_size),
        )

    def forward(self, layout, elapsed_BL):
        """Two (B, L, L, K) tensors: what each interval adds to the keys and to the values."""
        time_BL = elapsed_BL[:, : layout.length]
        real_BL = layout.pad(torch.ones_like(layout.position_T)).bool()
        step_BL = (time_BL[:, 1:] - time_BL[:, :-1]).masked_fill(~real_BL[:, 1:], 0)
        never = 2**53  # longer than any step, yet exact as a float
        longer_BL = F.pad(step_BL.masked_fill(step_BL <= 0, never), (0, 1), value=never)
        shortest_B = longer_BL.amin(1)
        gap_BLL = (time_BL[:, :, None] - time_BL[:, None, :]).abs() // shortest_B[:, None, None]
        interval_BLL = gap_BLL.clamp(max=self.max_interval)
        return self.key(interval_BLL), self.value(interval_BLL)


class CausalAttention(nn.Module):
    """Multi-head attention in which an event sees itself and what came before it."""

    def __init__(self, hidden_size, n_heads, dropout, rotary=False):
        super().__init__()
        self.n_heads, self.dropout, self.rotary = n_heads, dropout, rotary
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)

    def forward(self, x_TH, layout, bias=None, intervals=None):
        """(T, H); ``bias`` is added to the logits, ``intervals`` are TiSASRec's tables of keys and values."""
        packed_T3AK = self.query_key_value(x_TH).unflatten(1, (3, self.n_heads, -1))
        if x_TH.device.type == "cpu":
            packed_T3AK = packed_T3AK.float()  # there the attention is slower in bfloat16
        if self.rotary:
            turned_T2AK = _rotate(packed_T3AK[:, :2], layout.position_T)
            packed_T3AK = torch.cat([turned_T2AK, packed_T3AK[:, 2:]], 1)
        if bias is not None or intervals is not None or not layout.parts:
            return self.out(self._mix(packed_T3AK, layout, bias, intervals).flatten(1))
        # histories of like length together: less padding is multiplied
        packed = packed_T3AK.split([len(part.place_T) for part in layout.parts])
        mixed = [self._mix(events, part) for events, part in zip(packed, layout.parts, strict=True)]
        return self.out(torch.cat(mixed).flatten(1))

    def _mix(self, packed_T3AK, layout, bias=None, intervals=None):
        """(T, A, K): the values that each event sees, mixed."""
        query, key, value = layout.pad(packed_T3AK).permute(2, 0, 3, 1, 4)  # each (B, A, L, K)
        dropout = self.dropout if self.training else 0.0
        if intervals is not None:
            mixed_BALK = _interval_attention(query, key, value, *intervals, dropout)
        elif bias is not None:
            mask = bias.to(query.dtype).expand(layout.batch, self.n_heads, -1, -1)
            mixed_BALK = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        else:  # padding stands behind the events, so the causal mask hides it
            mixed_BALK = F.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=dropout)
        return layout.pack(mixed_BALK.transpose(1, 2))


def _interval_attention(query, key, value, interval_key, interval_value, dropout):
    """TiSASRec eq. (6)-(8): logits q (k + k_interval), mixed values v + v_interval."""
    logit = query @ key.transpose(2, 3) + torch.einsum("balk,blmk->balm", query, interval_key)
    causal = torch.ones(logit.shape[-2:], dtype=torch.bool, device=logit.device).tril()
    weight = (logit / query.shape[-1] ** 0.5).masked_fill(~causal, torch.finfo(logit.dtype).min).softmax(-1)
    weight = F.dropout(weight, dropout, training=dropout > 0)
    return weight @ value + torch.einsum("balm,blmk->balk", weight, interval_value)


def _rotate(x_TNAK, position_T):
    """Turn each pair (x_k, x_{k + K/2}) by an angle that grows with the position."""
    half = x_TNAK.shape[-1] // 2
    rate = 10_000.0 ** (-torch.arange(half, device=x_TNAK.device) / half)
    angle_TK = (position_T[:, None] * rate).repeat(1, 2)
    cos_TK, sin_TK = angle_TK.cos(), angle_TK.sin()
    sin_TK[:, :half].neg_()
    cos, sin = (part.to(x_TNAK.dtype)[:, None, None] for part in (cos_TK, sin_TK))
    return torch.addcmul(x_TNAK * cos, x_TNAK.roll(half, -1), sin)


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

    def forward(self, x_TH, layout, bias, intervals):
        """(T, H)."""
        mixed_TH = self.attention(self.attention_norm(x_TH), layout, bias, intervals)
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
        """(T, H): what the encoder makes of each event and of those before it."""
        if self.position is not None:
            input_TH = input_TH + self.position(layout.position_T)
        x_TH = self.dropout(input_TH)
        bias = self.bias(layout, elapsed_BL) if self.bias is not None else None
        intervals = self.intervals(layout, elapsed_BL) if self.intervals is not None else None
        for block in self.blocks:
            x_TH = block(x_TH, layout, bias, intervals)
        return self.norm(x_TH)


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
        """(T, H)."""
        input_BLH = layout.pad(self.dropout(self.norm(input_TH + self.position(layout.position_T))))
        causal_LL = torch.ones(layout.length, layout.length, device=input_TH.device).triu(1) * -10_000.0
        return layout.pack(
            self.trm_encoder(input_BLH, causal_LL[None, None], output_all_encoded_layers=False)[-1]
        )
