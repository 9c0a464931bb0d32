"""How retrieved vectors enter a user's vector. Each fusion starts near the model without retrieval.

Sources: gate: the seed of this model; two channels over a memory of situations: Xinping Zhao et al., "RaSeRec",
https://arxiv.org/abs/2412.18378.

What is fused has numbers of size 1, users and retrieved vectors alike.

Shapes: T users, K retrieved, H width of the Recommendation LLM.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .items import shares

START = 3.0  # of the gate's logit: .95 of the user's own vector at first


class Gated(nn.Module):
    """u' = g u + (1 - g) s, s = LN(W_r r): r is the mean, plain or weighed, of what was found, g = sigmoid(W_g [u; s]).

    The norm is ours: the mean of several is shorter than one, and the gate would then say less than it seems to.
    """

    def __init__(self, width, aggregate):
        super().__init__()
        self.project = nn.Linear(width, width, bias=False)
        self.query = nn.Linear(width, 1, bias=False) if aggregate == "attn" else None
        self.gate = nn.Linear(2 * width, width)
        nn.init.constant_(self.gate.bias, START)

    def forward(self, user_TH, found_TKH, known_TK):
        """(T, H); ``known_TK`` says which of the K were found at all."""
        none_TK = torch.zeros_like(known_TK, dtype=torch.float)  # the mean weighs all alike
        weight_TK = shares(none_TK if self.query is None else self.query(found_TKH).squeeze(-1), known_TK)
        said_TH = level(self.project((weight_TK[..., None] * found_TKH).sum(1)))
        gate_TH = torch.sigmoid(self.gate(torch.cat([user_TH, said_TH], 1)))
        gate_TH = torch.where(known_TK.any(1, keepdim=True), gate_TH, 1.0)
        return gate_TH * user_TH + (1 - gate_TH) * said_TH


class CrossAttention(nn.Module):
    """u' = u + W_o sum over k of a_k W_v v_k, with a the softmax of (W_q u) (W_k k_k) / sqrt(H); W_o starts at zero."""

    def __init__(self, width):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, user_TH, key_TKH, value_TKH, known_TK):
        """(T, H)."""
        logit_TK = torch.einsum("th,tkh->tk", self.query(user_TH), self.key(key_TKH))
        weight_TK = shares(logit_TK.float() / user_TH.shape[1] ** 0.5, known_TK)
        mixed_TH = torch.einsum(
            "tk,tkh->th", weight_TK.to(user_TH.dtype), self.value(value_TKH).to(user_TH.dtype)
        )
        return user_TH + self.out(mixed_TH)


class Channel(nn.Module):
    """One of RaSeRec's two: attention, a feed-forward layer, attention again."""

    def __init__(self, width, dropout):
        super().__init__()
        self.first, self.second = (CrossAttention(width) for _ in range(2))
        self.inner = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * width, width),
        )
        nn.init.zeros_(self.inner[-1].weight)
        nn.init.zeros_(self.inner[-1].bias)

    def forward(self, user_TH, key_TKH, value_TKH, known_TK):
        """(T, H)."""
        user_TH = self.first(user_TH, key_TKH, value_TKH, known_TK)
        return self.second(user_TH + self.inner(user_TH), key_TKH, value_TKH, known_TK)


class MemoryFusion(nn.Module):
    """u' = alpha u + (1 - alpha) (beta u_sequence + (1 - beta) u_target): what came next in situations like this one.

    The first channel finds situations by their sequences and reads what came next, the second the other way round.
    """

    def __init__(self, width, alpha, beta, dropout):
        super().__init__()
        self.alpha, self.beta = alpha, beta
        self.by_sequence, self.by_target = Channel(width, dropout), Channel(width, dropout)

    def forward(self, user_TH, sequence_TKH, target_TKH, known_TK):
        """(T, H)."""
        first_TH = self.by_sequence(user_TH, sequence_TKH, target_TKH, known_TK)
        second_TH = self.by_target(user_TH, target_TKH, sequence_TKH, known_TK)
        mixed_TH = self.beta * first_TH + (1 - self.beta) * second_TH
        return self.alpha * user_TH + (1 - self.alpha) * mixed_TH


def level(vectors):
    """Vectors of numbers of mean 0 and size 1, each for itself."""
    return F.layer_norm(vectors.float(), vectors.shape[-1:])


def interpolated(score_BI, like_BK, item_BK, share, temperature):
    """(B, I): (1 - share) softmax(score) + share * (what came next in the K nearest situations, by likeness).

    As kNN-LM does with words: Urvashi Khandelwal et al., ICLR 2020, https://arxiv.org/abs/1911.00172. Given back as
    logarithms, which rank alike and keep small chances apart.
    """
    weight_BK = (like_BK / temperature).softmax(1).nan_to_num(0.0)  # nan: no situation was left to be found
    next_BI = torch.zeros_like(score_BI).scatter_add_(1, item_BK, weight_BK.to(score_BI.dtype))
    chance_BI = (1 - share) * F.softmax(score_BI, 1) + share * next_BI
    return chance_BI.clamp(min=torch.finfo(chance_BI.dtype).tiny).log()
