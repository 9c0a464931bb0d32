"""SASRec as the paper has it, in plain PyTorch modules: what a researcher writes in an afternoon, for comparison alone.

Wang-Cheng Kang and Julian McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018,
https://arxiv.org/abs/1808.09781. Padded batches, ``nn.MultiheadAttention``, binary cross-entropy with one negative for
each position.

Shapes: B batch, L history length, H hidden.
"""

import torch
import torch.nn.functional as F
from torch import nn


class PlainSASRec(nn.Module):
    """``n_layers`` blocks over ``n_items`` items (with padding) and ``length`` positions."""

    def __init__(self, n_items, length, hidden, n_layers, n_heads, dropout):
        super().__init__()
        self.item = nn.Embedding(n_items, hidden, padding_idx=0)
        self.position = nn.Embedding(length, hidden)
        self.dropout = nn.Dropout(dropout)
        attention = {"num_heads": n_heads, "dropout": dropout, "batch_first": True}
        self.attention = nn.ModuleList(nn.MultiheadAttention(hidden, **attention) for _ in range(n_layers))
        self.forward_layer = nn.ModuleList(
            nn.Sequential(
                nn.Linear(hidden, hidden),
                nn.Dropout(dropout),
                nn.ReLU(),
                nn.Linear(hidden, hidden),
                nn.Dropout(dropout),
            )
            for _ in range(n_layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(2 * n_layers + 1))

    def forward(self, item_BL):
        """(B, L, H): what the blocks make of each event and of those before it."""
        length = item_BL.shape[1]
        x_BLH = self.item(item_BL) * self.item.embedding_dim**0.5
        x_BLH = self.dropout(x_BLH + self.position(torch.arange(length)))
        causal_LL = torch.ones(length, length, dtype=torch.bool).triu(1)
        for place, (attention, widen) in enumerate(zip(self.attention, self.forward_layer, strict=True)):
            query = self.norms[2 * place](x_BLH)
            mixed, _ = attention(query, x_BLH, x_BLH, attn_mask=causal_LL, need_weights=False)
            x_BLH = query + mixed
            y_BLH = self.norms[2 * place + 1](x_BLH)
            x_BLH = y_BLH + widen(y_BLH)
        return self.norms[-1](x_BLH)

    def loss(self, item_BL, next_BL):
        """Mean binary cross-entropy of each position's target and of one negative, drawn uniformly."""
        user_BLH, known_BL = self.forward(item_BL), next_BL > 0
        negative_BL = torch.randint(1, self.item.num_embeddings, next_BL.shape)
        found = (user_BLH * self.item(next_BL)).sum(-1)[known_BL]
        other = (user_BLH * self.item(negative_BL)).sum(-1)[known_BL]
        return -(F.logsigmoid(found) + F.logsigmoid(-other)).mean()
