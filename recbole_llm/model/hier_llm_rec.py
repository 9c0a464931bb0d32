"""HierLLMRec: an Item LLM turns texts into vectors, a Recommendation LLM reads histories of them, a linear head ranks.

All items are ranked in a single pass: no words are generated, no beam is searched.

Source: Hanbing Wang et al., "Rethinking Large Language Model Architectures for Sequential Recommendations"
(Lite-LLM4Rec), https://arxiv.org/abs/2402.09543. Contrastive loss, item token and the training of both models: Junyi
Chen et al., "HLLM", https://arxiv.org/abs/2409.12740.

Ours, by default: the Recommendation LLM is a small transformer from scratch, no pretrained T5 or decoder (``rec_llm``);
a user is its last vector, not the mean (``pool_user``); the vectors of the texts are whitened, for those of language
models point all one way, and start a table that learns, where the papers freeze them or train the Item LLM
(``item_llm_mode``); weights decay by 1e-6, not 0.01, and the learning rate neither warms up nor falls.

Ours, always: with a causal Recommendation LLM mean pooling runs along the history, so that every event of a window is a
target and training sees what ranking sees; item vectors are normalised where histories read them.

Shapes: B batch, L longest history, T events of the batch, I items with padding, N items of a batch, W item-vector size,
H width of the Recommendation LLM, S size of the space in which users and items meet.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..config import settings_from
from ..errors import SettingError
from . import losses
from .base import VectorRecommender
from .encoders import start_as_identity
from .hier_settings import LIVE, Settings, check
from .item_llm import item_llm
from .items import rows_of
from .rec_llm import CAUSAL, InputMap, Pooling, rec_llm


class HierLLMRec(VectorRecommender):
    """The model; ``dataset.text_vectors`` holds the aligned artifacts, or ``dataset.item_texts`` the texts."""

    settings_class = Settings

    def __init__(self, config, dataset):
        super().__init__(config, dataset, settings_from(config, self.settings_class))
        s = self.settings
        self.check()
        if s.item_llm_mode not in LIVE:
            self.text_fingerprints = dict(dataset.text_fingerprints)
        self.item_llm = item_llm(s, dataset, config)
        self.rec_llm = rec_llm(s, self.max_seq_length + self.extra_length, config["seed"])
        for name in ("item_llm", "rec_llm"):
            base = getattr(getattr(self, name), "fingerprint", None)
            self.text_fingerprints |= {name: base} if base else {}
        if s.item_llm_mode in LIVE:
            self.text_fingerprints["item_texts"] = self.item_llm.texts_fingerprint
        if self.rec_llm.word_width != self.rec_llm.width and (s.head == "tied" or self.reads_other_items):
            raise SettingError(
                f"{s.rec_llm_path} reads vectors of {self.rec_llm.word_width} numbers and gives {self.rec_llm.width}, "
                f"but {config['model']} with head: {s.head} compares the two; give another rec_llm_path"
            )
        self.input_map = InputMap(self.item_llm.width, self.rec_llm, s.input_dropout)
        self.pooling = Pooling(s.pool_user, self.rec_llm.width)
        self.norm = nn.LayerNorm(self.rec_llm.width)
        self.head = HEADS[s.head](self.item_llm.width, self.rec_llm.width, self.n_items)
        self.log_temperature = (
            nn.Parameter(torch.tensor(s.temperature).log()) if s.score == "cosine" else None
        )

    extra_length = 0  # places that a history may take beside its events

    def check(self):
        """Refuse settings before anything is built of them."""
        check(self.settings, self.dense)

    @property
    def text_model(self):
        """The name of the model that reads the items' texts; None where it read them ahead of training."""
        return getattr(self.item_llm, "name", None)

    @staticmethod
    def reads_text(config):
        """Whether this configuration needs text vectors."""
        return config["item_llm_mode"] not in LIVE

    @staticmethod
    def reads_words(config):
        """Whether this configuration needs the items' texts themselves."""
        return config["item_llm_mode"] in LIVE

    @property
    def not_exported(self):
        """Why no encoder of item vectors can be exported, in a sentence; None where it can."""
        if self.settings.rec_llm in CAUSAL:
            return None
        return (
            f"rec_llm: {self.settings.rec_llm} also reads what an exported encoder has behind a history; train with "
            "one that reads left to right to export"
        )

    # ------------------------------------------------------------------ items

    @property
    def items_are_dear(self):
        """Whether each item's text is read at every step."""
        return self.settings.item_llm_mode in LIVE

    def items(self, item_N=None):
        """(I, W), or (N, W) of the items that ``item_N`` names: what the Item LLM makes of their texts."""
        return self.item_llm(item_N)

    def scored(self, item_IW, item_N=None):
        """(I, S): the items where users meet them, of length 1 for the cosine."""
        return self._measured(self.head.items(item_IW, item_N, self.input_map.linear))

    def _measured(self, vectors):
        return F.normalize(vectors.float(), dim=-1) if self.settings.score == "cosine" else vectors

    # ------------------------------------------------------------------ users

    def encode(self, item_seq_BL, layout, beside):
        """(T, S): for each event asked for the vector that scores what comes next, the temperature included."""
        return self.project(self.pooled(layout.pack(item_seq_BL), layout))

    def pooled(self, item_T, layout):
        """(T, H): the Recommendation LLM's pooled vector of each history, of the events that the layout asks for."""
        return self._pooled(F.embedding(item_T, self.current_items()), layout)

    def read(self, item_TW, layout, elapsed_BL=None):
        """(T, S): what ``encode`` makes of histories whose items have these vectors; no times are read."""
        return self.project(self._pooled(item_TW, layout))

    def _pooled(self, item_TW, layout):
        return self.pooling(self.rec_llm(self.input_map(item_TW), self.pooling.needed(layout)), layout)

    def project(self, pooled_TH):
        """(T, S): pooled vectors where they meet the items."""
        user_TS = self._measured(self.head(self.norm(pooled_TH)))
        if self.log_temperature is not None:
            user_TS = user_TS / losses.temperature_of(self.log_temperature)
        return user_TS

    # ------------------------------------------------------------------ training

    def ranking_loss(self, user_TH, item_IH, target_T, negative=None, log_q=None, seen_TL=None):
        """The loss named by ``loss``; nce is HLLM's, the others are the base's."""
        if self.settings.loss != "nce":
            return super().ranking_loss(user_TH, item_IH, target_T, negative, log_q, seen_TL)
        return losses.noise_contrastive(
            user_TH, item_IH, target_T, negative, threshold=self.settings.nce_thres
        )

    def parameter_groups(self):
        """The weights that learn; those of language models at a learning rate of their own."""
        llm = [part.llm for part in (self.item_llm, self.rec_llm) if hasattr(part, "llm")]
        slow = {id(p) for part in llm for p in part.parameters()}
        learns = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in learns if id(p) not in slow]},
            {
                "params": [p for p in learns if id(p) in slow],
                "peak": self.settings.llm_learning_rate,
            },
        ]
        return [group for group in groups if group["params"]]


class EmbedHead(nn.Module):
    """Users are projected to where the item vectors are; where these are frozen, new items are ranked by their text."""

    def __init__(self, item_width, user_width, n_items):
        super().__init__()
        self.project = nn.Linear(user_width, item_width)
        start_as_identity(self.project)

    def forward(self, user_TH):
        """(T, W)."""
        return self.project(user_TH)

    def items(self, item_NW, item_N, input_map):
        """(N, W)."""
        return item_NW


class TiedHead(nn.Module):
    """Items are mapped as the histories read them, and users within that space."""

    def __init__(self, item_width, user_width, n_items):
        super().__init__()
        self.project = nn.Linear(user_width, user_width)
        start_as_identity(self.project)

    def forward(self, user_TH):
        """(T, H)."""
        return self.project(user_TH)

    def items(self, item_NW, item_N, input_map):
        """(N, H)."""
        return input_map(item_NW)


class ClassifierHead(nn.Module):
    """A linear layer onto the items, W u + b: each has a row of its own, which says nothing of items not trained on."""

    def __init__(self, item_width, user_width, n_items):
        super().__init__()
        self.item_IH = nn.Parameter(torch.empty(n_items, user_width + 1).normal_(std=0.02))
        self.item_IH.data[:, -1] = 0  # the bias

    def forward(self, user_TH):
        """(T, H + 1): the last number meets the bias."""
        return F.pad(user_TH, (0, 1), value=1.0)

    def items(self, item_NW, item_N, input_map):
        """(N, H + 1)."""
        return rows_of(self.item_IH, item_N)


HEADS = {"embed": EmbedHead, "tied": TiedHead, "classifier": ClassifierHead}
