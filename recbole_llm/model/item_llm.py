"""Item LLMs: what an item's text becomes, one vector of it, (I, W).

Four ways (``item_llm_mode``). ``frozen``: the vectors were made once, ahead of training (``text/``). ``table``: a table
that learns starts from them. ``lora`` and ``full``: the language model itself learns, through adapters or wholly; the
items that a batch names are read anew at every step.

Mean of a T5 encoder's vectors: Hanbing Wang et al., "Lite-LLM4Rec", https://arxiv.org/abs/2402.09543. A learned item
token behind the text: Junyi Chen et al., "HLLM", https://arxiv.org/abs/2409.12740. Whitening: ``items.py``.

Shapes: I items with padding, N items of a batch, T tokens of the longest text, D LLM width, W item-vector size.
"""

import json
from hashlib import sha256

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import SettingError
from ..llm.load import load_tokenizer
from ..text.location import locate_or
from ..text.recipe import token_limit
from ..text.vocabulary import unknown, warn_of_unknown
from .items import WHITENING_POWERS, FieldViews, rows_of
from .language_model import LanguageModel, adapters_of

INSTRUCTION = "Compress the following description of an item into an embedding: "  # in front of an item token
ITEMS_AT_ONCE = 64  # read at a time where no gradient is asked for
OF_VECTORS = {  # keys that say how vectors are made ahead of training, and their defaults
    "text_vectors": None,
    "text_endpoint": None,
    "text_pooling": None,
    "text_missing": "mask",
    "trust_remote_code": False,
}


class ItemVectors(nn.Module):
    """Vectors that were made before, whitened; a learned vector for an item without text, zeros for padding.

    Several fields stand side by side.

    Parameters
    ----------
    spread : float or None
        Of a table that learns: the standard deviation of its numbers at the start. The smaller it is, the sooner they
        leave the text. At the start no cosine depends on it: histories read vectors through a norm, behind a linear
        map whose bias is zero. None: nothing learns.
    """

    def __init__(self, aligned, *, whiten, size, spread=None):
        super().__init__()
        views = [FieldViews.of(field, WHITENING_POWERS[whiten], size) for field in aligned]
        table_IW = torch.cat([view.tables[0] for view in views], 1)
        if spread is not None:
            self.table_IW = nn.Parameter(table_IW * spread)
        else:  # made again from the artifact, so not in the checkpoint
            self.register_buffer("table_IW", table_IW, persistent=False)
        present_I1 = torch.stack([view.present_I for view in views], 1).any(1, keepdim=True)
        missing_I1 = ~present_I1
        missing_I1[0] = False
        self.register_buffer("present_I1", present_I1, persistent=False)
        self.register_buffer("missing_I1", missing_I1, persistent=False)
        self.no_text = nn.Parameter(torch.empty(table_IW.shape[1]).normal_(std=0.02))

    @property
    def width(self):
        """W."""
        return self.table_IW.shape[1]

    def forward(self, item_N=None):
        """(I, W), or (N, W) of the items that ``item_N`` names."""
        present, missing = rows_of(self.present_I1, item_N), rows_of(self.missing_I1, item_N)
        return rows_of(self.table_IW, item_N) * present + self.no_text * missing


class LiveItemLLM(LanguageModel):
    """A language model that reads the items' texts at every step and learns with the rest.

    Parameters
    ----------
    texts : sequence of str, length I
        By item id; an empty one, as padding has, gets a learned vector, padding zeros.
    base : Location
        What ``text.location.locate`` gives; of T5 and its like the encoder is taken.
    pooling : {"mean", "last", "cls", "item_token"}
        The mean over tokens, the last or the first of them, or a learned vector behind the text (HLLM).
    learns : dict
        See ``LanguageModel.learn``.
    """

    def __init__(self, texts, base, *, pooling, max_tokens, **learns):
        super().__init__(base)
        self.name = base.name
        self.check_length(
            max_tokens + (pooling == "item_token"),
            token_limit(base.folder),
            "text_max_tokens, and the token behind it with pool_item: item_token, take",
            "set text_max_tokens lower, or another text_encoder",
        )
        self.learn(**learns)
        tokenizer = load_tokenizer(base)
        self.pooling = pooling
        prefix = INSTRUCTION if pooling == "item_token" else ""
        tokens = tokenizer([prefix + text for text in texts], truncation=True, max_length=max_tokens)[
            "input_ids"
        ]
        share = unknown(tokenizer, tokens) / max(sum(map(len, tokens)), 1)
        warn_of_unknown(base.name, "the items", share)
        length_I = torch.tensor([max(len(each), 1) for each in tokens])
        token_IT = torch.zeros(len(tokens), int(length_I.max()), dtype=torch.long)
        for item, each in enumerate(tokens):
            token_IT[item, : len(each)] = torch.tensor(each, dtype=torch.long)
        self.texts_fingerprint = _fingerprint(tokens)
        self.register_buffer("token_IT", token_IT, persistent=False)
        self.register_buffer("length_I", length_I, persistent=False)
        known_I1 = torch.tensor([bool(text) for text in texts])[:, None]
        known_I1[0] = False
        missing_I1 = ~known_I1
        missing_I1[0] = False
        self.register_buffer("known_I1", known_I1, persistent=False)
        self.register_buffer("missing_I1", missing_I1, persistent=False)
        self.no_text = nn.Parameter(torch.empty(self.width).normal_(std=0.02))
        self.item_token = (
            nn.Parameter(torch.empty(self.word_width).normal_(std=0.02)) if pooling == "item_token" else None
        )

    def forward(self, item_N=None):
        """(I, W), or (N, W) of the items that ``item_N`` names; of all items some at a time."""
        if item_N is None:
            item_N = torch.arange(len(self.token_IT), device=self.token_IT.device)
        parts = [item_N] if torch.is_grad_enabled() else item_N.split(ITEMS_AT_ONCE)
        vector_NW = torch.cat([self._read(part) for part in parts])
        return vector_NW * self.known_I1[item_N] + self.no_text * self.missing_I1[item_N]

    def _read(self, item_N):
        """(N, W): the pooled vectors of some items' texts."""
        length_N = self.length_I[item_N]
        token_NT = self.token_IT[item_N, : int(length_N.max())]
        input_NTD = self.llm.get_input_embeddings()(token_NT)
        if self.item_token is not None:
            input_NTD = F.pad(input_NTD, (0, 0, 0, 1))
            behind = F.one_hot(length_N, input_NTD.shape[1])[..., None].to(input_NTD.dtype)
            input_NTD, length_N = input_NTD * (1 - behind) + behind * self.item_token, length_N + 1
        place_T = torch.arange(input_NTD.shape[1], device=input_NTD.device)
        mask_NT = (place_T < length_N[:, None]).long()
        hidden_NTD = self.llm(inputs_embeds=input_NTD, attention_mask=mask_NT).last_hidden_state
        match self.pooling:
            case "mean":
                return (hidden_NTD * mask_NT[..., None]).sum(1) / length_N[:, None]
            case "cls":
                return hidden_NTD[:, 0]
            case "last" | "item_token":
                return hidden_NTD[torch.arange(len(length_N), device=length_N.device), length_N - 1]


def _fingerprint(tokens):
    """What tells the texts of all items apart, of their token ids by item id, so that no borders are lost."""
    return f"sha256:{sha256(json.dumps(tokens).encode()).hexdigest()}"


def item_llm(settings, dataset, config):
    """The item LLM that ``settings`` of HierLLMRec ask for, on the texts or text vectors of ``dataset``."""
    s = settings
    if s.item_llm_mode in ("frozen", "table"):
        spread = s.table_spread if s.item_llm_mode == "table" else None
        return ItemVectors(dataset.text_vectors.values(), whiten=s.whiten, size=s.whiten_dim, spread=spread)
    for key, usual in OF_VECTORS.items():
        if config[key] != usual:
            raise SettingError(
                f"{key}: {config[key]} is of vectors that are made ahead of training, but with item_llm_mode: "
                f"{s.item_llm_mode} the texts themselves are read; set {key}: {usual}"
            )
    return LiveItemLLM(
        dataset.item_texts,
        locate_or(config["text_fallback"], config["text_encoder"], config["text_revision"]),
        pooling=s.pool_item,
        max_tokens=config["text_max_tokens"],
        mode=s.item_llm_mode,
        lora=adapters_of(s, 2 * config["seed"]),
        recompute=s.llm_recompute,
    )
