"""LLM-Infer: the items whose names are nearest to what the language model answered; the session itself is not read.

The comparator of Shutong Qiao et al., "LLM4SBR", 2024, https://arxiv.org/abs/2402.13840, also its ablation "without
SBR": the pinned answers of both views together, by the cosine.

Shapes: B sessions, I items with padding, D text-vector size.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

from ...config import settings_from
from ...errors import SettingError
from ..intents import check_views, intents_of
from .untrained import Untrained


@dataclass(frozen=True)
class Settings:
    """The keys of ``properties/model/LLMInfer.yaml``, where each has its meaning and its default."""

    views: dict
    session_intents: dict | None
    topk_localize: int
    localize: Literal["sum", "mean", "softmax"]


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
        (names,) = dataset.text_vectors.values()
        self.register_buffer(
            "name_ID", F.normalize(torch.as_tensor(names.vectors).float(), dim=1), persistent=False
        )

    @staticmethod
    def reads_intents(config):
        """Whether this configuration needs answers that were made ahead."""
        return bool(config["session_intents"])

    def remarks(self):
        """What a report says of the answers."""
        return self.intents.remarks

    def items(self, item_N=None):
        """(I, D): names of length 1; (N, D) of the items that ``item_N`` names."""
        return self.name_ID if item_N is None else F.embedding(item_N, self.name_ID)

    def encode(self, item_seq_BL, layout, beside):
        """(B, D): the sum of the views' answers, each of length 1; zeros where there is none."""
        item_T, session_T = layout.pack(item_seq_BL), layout.row_T
        answers = self.intents(item_T, session_T, layout.last_B, beside.end_B).values()
        return sum(F.normalize(answer_BD, dim=1) * known_B[:, None] for answer_BD, known_B in answers)
