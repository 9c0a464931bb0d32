"""Numbers of rows that come again from batch to batch, for products in bfloat16.

oneDNN compiles a product for every shape that it has not met, which on a CPU takes longer than the product; the nodes
of a batch are seldom as many as those of another.
"""

import torch.nn.functional as F

ROWS = 256


def evened(rows_KH):
    """The rows and, behind them, zeros up to a multiple of ``ROWS``."""
    return F.pad(rows_KH, (0, 0, 0, -len(rows_KH) % ROWS))
