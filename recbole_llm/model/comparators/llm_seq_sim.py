"""LLMSeqSim: the items whose texts are most like the texts of the session; nothing is learned.

Jesse Harte et al., "Leveraging Large Language Models for Sequential Recommendation", RecSys 2023,
https://arxiv.org/abs/2309.09261

Shapes: B sessions, L longest session, I items with padding, D text-vector size.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

from ...config import settings_from
from ..ranges import POSITIVE, check_ranges
from .untrained import Untrained


@dataclass(frozen=True)
class Settings:
    """The keys of ``properties/model/LLMSeqSim.yaml``, where each has its meaning and its default."""

    session: Literal["mean", "last", "decayed"]
    half_life: float


class LLMSeqSim(Untrained):
    """The model; ``dataset.text_vectors`` holds the items' vectors, several fields side by side."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset, settings_from(config, Settings))
        check_ranges(self.settings, {"half_life": POSITIVE})
        self.text_fingerprints = dict(dataset.text_fingerprints)
        fields = [
            F.normalize(torch.as_tensor(each.vectors).float(), dim=1)
            for each in dataset.text_vectors.values()
        ]
        self.register_buffer("text_ID", F.normalize(torch.cat(fields, 1), dim=1), persistent=False)

    def items(self, item_N=None):
        """(I, D): text vectors of length 1; (N, D) of the items that ``item_N`` names."""
        return self.text_ID if item_N is None else F.embedding(item_N, self.text_ID)

    def encode(self, item_seq_BL, layout, beside):
        """(B, D): the session as its items' texts: their mean, the last, or a mean in which older ones count less."""
        text_BLD = F.embedding(item_seq_BL, self.text_ID)
        position_L = torch.arange(item_seq_BL.shape[1], device=item_seq_BL.device)
        ago_BL = layout.length_B[:, None] - 1 - position_L
        inside_BL = ago_BL >= 0
        match self.settings.session:
            case "mean":
                weight_BL = inside_BL.float()
            case "last":
                weight_BL = (ago_BL == 0).float()
            case "decayed":
                weight_BL = inside_BL * 0.5 ** (ago_BL.clamp(min=0) / self.settings.half_life)
        return F.normalize(torch.einsum("bl,bld->bd", weight_BL, text_BLD), dim=1)
