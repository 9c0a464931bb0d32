"""A model that has nothing to learn, on a road where models are trained."""

import torch
from torch import nn

from ..base import VectorRecommender


class Untrained(VectorRecommender):
    """A model whose score is ready at once; a subclass gives ``items`` and ``encode``, from text vectors alone."""

    learns = causal = False

    def __init__(self, config, dataset, settings):
        super().__init__(config, dataset, settings)
        self.nothing = nn.Parameter(torch.zeros(1))  # what the optimiser is given

    @staticmethod
    def reads_text(config):
        """Text vectors are all that it has."""
        return True

    def calculate_loss(self, interaction):
        """Zero."""
        return self.nothing.sum() * 0
