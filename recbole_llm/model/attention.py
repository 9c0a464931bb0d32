"""Causal attention over packed batches, with what may be added to it: rotary positions, biases, intervals.

Only here is a batch padded; everything around it sees the events alone (``layout.py``).

Sources: relative position and time bias: HSTU, Jiaqi Zhai et al., ICML 2024, https://arxiv.org/abs/2402.17152. Interval
keys and values: TiSASRec, Jiacheng Li et al., WSDM 2020. Rotary positions: Jianlin Su et al.,
https://arxiv.org/abs/2104.09864.

Shapes: B batch, L longest history of the batch, T events of the batch (T <= B L), H hidden, A heads, K = H / A.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .dropout import dropped

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
    """TiSASRec's key and value tables of a user's time intervals, in units of the user's shortest interval so far.

    The paper takes the shortest of the whole history, which tells an event of what comes after it where every position
    is a target; for the last event both are the same.
    """

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
        step_BL = F.pad(step_BL.masked_fill(step_BL <= 0, never), (1, 0), value=never)
        # up to each event, for what comes later must not speak; ``cummin`` would not export to ONNX
        past_LL = torch.ones(layout.length, layout.length, dtype=torch.bool, device=time_BL.device).tril()
        shortest_BL = torch.where(past_LL, step_BL[:, None, :], never).amin(2)
        gap_BLL = (time_BL[:, :, None] - time_BL[:, None, :]).abs() // shortest_BL[:, :, None]
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
        if x_TH.device.type == "cpu" and packed_T3AK.dtype == torch.bfloat16:
            packed_T3AK = packed_T3AK.float()  # as ``mix`` wants them there
        if self.rotary:
            turned_T2AK = _rotate(packed_T3AK[:, :2], layout.position_T)
            packed_T3AK = torch.cat([turned_T2AK, packed_T3AK[:, 2:]], 1)
        dropout = self.dropout if self.training else 0.0
        return self.out(mix(packed_T3AK, layout, dropout, bias, intervals))


def mix(packed_T3AK, layout, dropout=0.0, bias=None, intervals=None):
    """(T, H): the values that each event sees, mixed by its query and their keys; all three in ``packed_T3AK``."""
    if packed_T3AK.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):  # which would make bfloat16 of them: slower here
            return mix(packed_T3AK.float(), layout, dropout, bias, intervals)
    if bias is not None or intervals is not None or not layout.parts:
        return _mix_padded(packed_T3AK, layout, dropout, bias, intervals).flatten(1)
    # histories of like length together: less padding is multiplied
    packed = packed_T3AK.split([len(part.place_T) for part in layout.parts])
    mixed = [_mix_padded(events, part, dropout) for events, part in zip(packed, layout.parts, strict=True)]
    return torch.cat(mixed).flatten(1)


def _mix_padded(packed_T3AK, layout, dropout, bias=None, intervals=None):
    """(T, A, K): the same by PyTorch's attention, over histories padded to the longest of them."""
    query, key, value = layout.pad(packed_T3AK).permute(2, 0, 3, 1, 4)  # each (B, A, L, K)
    if intervals is not None:
        mixed_BALK = _interval_attention(query, key, value, *intervals, dropout)
    elif bias is not None:
        mask = bias.to(query.dtype).expand(*query.shape[:2], -1, -1)
        mixed_BALK = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    elif dropout > 0 and query.device.type == "cpu":
        mixed_BALK = _dropping_attention(query, key, value, dropout)
    else:  # padding stands behind the events, so the causal mask hides it
        mixed_BALK = F.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=dropout)
    return layout.pack(mixed_BALK.transpose(1, 2))


def _dropping_attention(query, key, value, dropout):
    """Causal attention with dropout of its weights; a CPU has no fused one, and PyTorch draws numbers one by one."""
    length, size = query.shape[-2:]
    hidden_LL = query.new_full((length, length), -torch.inf).triu_(1)
    query_XLK, key_XLK, value_XLK = (part.reshape(-1, length, size) for part in (query, key, value))
    logit_XLL = torch.baddbmm(hidden_LL, query_XLK, key_XLK.mT, alpha=size**-0.5)
    weight_XLL = dropped(logit_XLL.softmax(-1), dropout)
    return torch.bmm(weight_XLL, value_XLK).view(value.shape)


def _interval_attention(query, key, value, interval_key, interval_value, dropout):
    """TiSASRec eq. (6)-(8): logits q (k + k_interval), mixed values v + v_interval."""
    logit = query @ key.transpose(2, 3) + torch.einsum("balk,blmk->balm", query, interval_key)
    causal = torch.ones(logit.shape[-2:], dtype=torch.bool, device=logit.device).tril()
    weight = (logit / query.shape[-1] ** 0.5).masked_fill(~causal, torch.finfo(logit.dtype).min).softmax(-1)
    weight = dropped(weight, dropout)
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
