"""Names of three items as vectors that one can reckon with by hand; id 0 is padding."""

import torch

from recbole_llm.model.localization import Names
from recbole_llm.text.artifact import AlignedVectors

PRESENT = torch.tensor([False, True, True, True])
TEXTS = AlignedVectors(
    torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [3.0, 3.0]]).numpy(), PRESENT.numpy()
)


def names(whiten="none"):
    return Names.of([TEXTS], whiten, 2)
