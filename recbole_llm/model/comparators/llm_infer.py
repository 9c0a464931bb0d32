"""LLM-Infer: the items whose names are nearest to what the language model answered; the session itself is not read.

The comparator of Shutong Qiao et al., "LLM4SBR", 2024, https://arxiv.org/abs/2402.13840, also its ablation "without
SBR": the pinned answers of both views together, by the cosine.

Shapes: B sessions, I items with padding, N items of a batch, W text-vector size.
"""

from dataclasses import dataclass
from typing import Literal

from ...config import settings_from
from ...errors import SettingError
from ..intents import check_views, intents_of, query
from ..items import rows_of
from .untrained import Untrained


@dataclass(frozen=True)
class Settings:
    """The keys of ``properties/model/LLMInfer.yaml``, where each has its meaning and its default."""

    views: dict
    session_intents: dict | None
    topk_localize: int
    localize: Literal["sum", "mean", "softmax"]
    whiten: Literal["none", "pca", "relaxed", "full"]
    whiten_dim: int


class LLMInfer(Untrained):
    """The model; ``dataset.text_vectors`` holds the items' names."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset, settings_from(config, Settings))
        check_views(self.settings)
        if not self.settings.views:
            raise SettingError(
                "config key `views` has none, expected one at least whose answers LLMInfer ranks by"
            )
        self.text_fingerprints = dict(dataset.text_fingerprints)
        self.intents = intents_of(self.settings, dataset)

    @staticmethod
    def reads_intents(config):
        """Whether this configuration needs answers that were made ahead."""
        return bool(config["session_intents"])

    def remarks(self):
        """What a report says of the answers."""
        return self.intents.remarks

    def items(self, item_N=None):
        """(I, W): names of length 1; (N, W) of the items that ``item_N`` names."""
        return rows_of(self.intents.unit_IW, item_N)

    def encode(self, item_seq_BL, layout, beside):
        """(B, W): the sum of the views' answers, each of length 1; zeros where there is none."""
        return query(self.intents(layout.pack(item_seq_BL), layout.row_T, layout.last_B, beside.end_B))
