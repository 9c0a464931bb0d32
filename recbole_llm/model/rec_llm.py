"""Recommendation LLMs: they read a history as a sequence of item vectors and give one vector for each event.

``transformer`` and ``sasrec`` start from nothing and are the house's own (``encoders.py``); ``decoder`` is any causal
language model of Hugging Face and ``t5_encoder`` a T5 encoder, both entered behind their word embeddings
(``inputs_embeds``); ``none`` leaves the vectors as they are, which with mean pooling is a bag of items.

Shapes: B batch, L longest history of the batch, T events of the batch, H width of the Recommendation LLM, W of items.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import nn

from ..errors import SettingError
from ..text.location import locate
from .encoders import BlockSettings, LiGREncoder, SASRecEncoder, start_as_identity, start_small
from .language_model import LanguageModel, adapters_of
from .layout import of_asked

EPSILON = 1e-8  # of the inputs' norm: the numbers of a table may start at 0.01, those behind W_in at less
REACH = 15.0  # of the logits of attention pooling: their exponentials can then be summed along a history as they are
UNMOVED = 1e-5  # share of a model's outputs by which rounding may change them
# An event's vector depends on it and on what came before it.
CAUSAL = ("transformer", "sasrec", "decoder", "none")


@dataclass(frozen=True)
class Scratch(BlockSettings):
    """What ``encoders.py`` wants to know of a transformer that reads no times."""

    position: str = "rotary"
    time_mode: str = "none"
    time_unit: float = 1.0


class Transformer(nn.Module):
    """A causal transformer from scratch: gated pre-norm blocks with rotary positions, or RecBole's own blocks."""

    def __init__(self, settings, max_length, kind):
        super().__init__()
        s = settings
        scratch = Scratch(
            s.hidden_size, s.n_layers, s.n_heads, s.inner_multiplier, s.dropout, s.attention_dropout
        )
        self.encoder = (LiGREncoder if kind == "transformer" else SASRecEncoder)(scratch, max_length)
        self.width = self.word_width = s.hidden_size
        self.input_norm = math.sqrt(s.hidden_size)  # numbers of size 1, as behind a layer norm
        start_small(self.encoder.modules())

    def forward(self, input_TH, layout):
        """(T, H), of the events that the layout asks for."""
        return self.encoder(input_TH, layout, None)


class PretrainedLLM(LanguageModel):
    """A language model of Hugging Face that is handed item vectors in place of words.

    Its word embeddings are dropped after their mean length is taken: inputs of another size make training unstable.

    Parameters
    ----------
    untrained : bool
        Keep the architecture alone and start from random weights.
    learns : dict
        See ``LanguageModel.learn``.
    """

    def __init__(self, name, *, untrained=False, **learns):
        super().__init__(locate(name, weights=not untrained), untrained=untrained)
        words = self.llm.get_input_embeddings().weight
        self.input_norm = float(words.detach().float().norm(dim=1).mean())
        # never read: the words would be dead weight
        self.llm.set_input_embeddings(nn.Embedding(1, self.word_width))
        self.reads_ahead = reads_ahead(self.llm, self.word_width, self.input_norm)
        self.learn(**learns)
        self.llm.get_input_embeddings().requires_grad_(False)

    def forward(self, input_TH, layout):
        """(T, H), of the events that the layout asks for."""
        mask_BL = layout.pad(torch.ones_like(layout.position_T))
        hidden_BLH = self.llm(inputs_embeds=layout.pad(input_TH), attention_mask=mask_BL).last_hidden_state
        hidden_TH = layout.pack(hidden_BLH)
        return of_asked(hidden_TH, layout)


@torch.no_grad()
def reads_ahead(llm, width, length):
    """Whether what a language model makes of a vector depends on those behind it; tried, for names do not tell."""
    generator = torch.Generator().manual_seed(0)
    first_BLD = torch.randn(1, 3, width, generator=generator)
    first_BLD = first_BLD * length / width**0.5
    other_BLD = torch.cat([first_BLD[:, :2], -first_BLD[:, 2:]], 1)
    first_LD, other_LD = (llm(inputs_embeds=each).last_hidden_state[0, :2] for each in (first_BLD, other_BLD))
    return bool((first_LD - other_LD).abs().max() > UNMOVED * first_LD.abs().max())


class NoLLM(nn.Module):
    """The item vectors themselves."""

    def __init__(self, size):
        super().__init__()
        self.width, self.word_width, self.input_norm = size, size, math.sqrt(size)

    def forward(self, input_TH, layout):
        """(T, H), of the events that the layout asks for."""
        return of_asked(input_TH, layout)


def rec_llm(settings, max_length, seed=0):
    """The Recommendation LLM that ``settings`` of HierLLMRec ask for, to read ``max_length`` places.

    Raises
    ------
    SettingError
        If a language model reads fewer places, or in another direction than ``rec_llm`` says.
    """
    s = settings
    match s.rec_llm:
        case "transformer" | "sasrec":
            return Transformer(s, max_length, s.rec_llm)
        case "none":
            return NoLLM(s.hidden_size)
    found = PretrainedLLM(
        s.rec_llm_path,
        untrained=s.rec_init == "random",
        mode=s.rec_llm_mode,
        lora=adapters_of(s, 2 * seed + 1),  # another start than the Item LLM's, which has 2 * seed
        recompute=s.llm_recompute,
    )
    found.check_length(
        max_length,
        None,
        "MAX_ITEM_LIST_LENGTH, and rag_top_k in front of it with rag_fusion: prepend, take",
        "set MAX_ITEM_LIST_LENGTH lower, or another rec_llm_path",
    )
    if s.rec_llm == "decoder" and found.reads_ahead:
        raise SettingError(
            f"rec_llm: decoder reads left to right, but in {s.rec_llm_path} an event would see later ones; give a "
            "causal language model, or set rec_llm: t5_encoder"
        )
    if s.rec_llm == "t5_encoder" and not found.reads_ahead:
        raise SettingError(
            f"rec_llm: t5_encoder reads a history as a whole, but {s.rec_llm_path} reads left to right; set rec_llm: "
            "decoder"
        )
    return found


class InputMap(nn.Module):
    """z = gamma LN(W_in x + b): item vectors at the width and length that the Recommendation LLM is used to.

    b starts at zero: how long item vectors are is then of no account at first. A square W_in starts as the identity.
    """

    def __init__(self, size_in, llm, dropout):
        super().__init__()
        self.linear = nn.Linear(size_in, llm.word_width)
        nn.init.zeros_(self.linear.bias)
        start_as_identity(self.linear)
        self.norm = nn.LayerNorm(llm.word_width, eps=EPSILON, elementwise_affine=False)
        self.gamma = nn.Parameter(torch.tensor(llm.input_norm / math.sqrt(llm.word_width)))
        self.dropout = nn.Dropout(dropout)

    def level(self, item_TW):
        """(T, H): mapped vectors of numbers of size 1, however long they were."""
        return self.norm(self.linear(self.dropout(item_TW)))

    def forward(self, item_TW):
        """(T, H)."""
        return self.gamma * self.level(item_TW)


class Pooling(nn.Module):
    """One vector of a history up to each event: the mean, the last one, or a mean weighed by a learned query.

    Means run along the history, u_t = (sum over s <= t of w_s h_s) / (sum of w_s): all events of a window are trained
    in one pass, and the last one's is what a user gets.
    """

    def __init__(self, kind, size):
        super().__init__()
        self.kind = kind
        self.query = nn.Linear(size, 1) if kind == "attention" else None

    def needed(self, layout):
        """The layout with which to read a history: all its events, unless the last one is enough."""
        return layout if self.kind == "last" else replace(layout, asked_T=None)

    def forward(self, hidden_TH, layout):
        """(T, H), of the events that the layout asks for; ``hidden_TH`` is what came of ``needed(layout)``."""
        if self.kind == "last":
            return hidden_TH
        hidden_TH = hidden_TH.float()  # sums of bfloat16 lose what they add
        weight_T1 = torch.ones_like(hidden_TH[:, :1])
        if self.query is not None:
            weight_T1 = self.query(hidden_TH).float().clamp(-REACH, REACH).exp()
        both_TH = torch.cat([hidden_TH * weight_T1, weight_T1], 1)
        both_TH = of_asked(layout.pack(layout.pad(both_TH).cumsum(1)), layout)
        return both_TH[:, :-1] / both_TH[:, -1:]
