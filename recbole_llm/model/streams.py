"""The two streams of LLM-ESR: item vectors and text vectors attend to each other before one encoder reads both.

Qidong Liu et al., "LLM-ESR", NeurIPS 2024, https://arxiv.org/abs/2405.20646

Shapes: T packed events, H hidden.
"""

from torch import nn
from torch.nn import functional as F

from .dropout import Dropout


class CrossStreams(nn.Module):
    """Causal cross-attention both ways, each added to the stream that asked."""

    def __init__(self, hidden_size, n_heads, dropout):
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in range(2))
        self.key_value = nn.ModuleList(nn.Linear(hidden_size, 2 * hidden_size) for _ in range(2))
        self.dropout = Dropout(dropout)

    def forward(self, id_TH, text_TH, layout):
        """Two (T, H) tensors: the item stream that has read the text, and the text stream that has read the items."""
        return id_TH + self._read(0, id_TH, text_TH, layout), text_TH + self._read(1, text_TH, id_TH, layout)

    def _read(self, stream, asking_TH, told_TH, layout):
        def heads(packed_TH):
            return layout.pad(packed_TH).unflatten(2, (self.n_heads, -1)).transpose(1, 2)

        key_TH, value_TH = self.key_value[stream](told_TH).chunk(2, 1)
        query, key, value = heads(self.query[stream](asking_TH)), heads(key_TH), heads(value_TH)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.dropout(layout.pack(mixed.transpose(1, 2).flatten(2)))
