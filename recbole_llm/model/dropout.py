"""Dropout whose random numbers are drawn four at a time on a CPU, where PyTorch draws them one by one.

One 64-bit number holds four of 16 bits, each compared with the rate, which is so met to 1 part in 65,536. On ml-1m
PyTorch's own dropout was a tenth of the training time; this takes a quarter of it.
"""

import torch
import torch.nn.functional as F
from torch import nn

LOWEST, HIGHEST = -(2**63), 2**63 - 1


class Dropout(nn.Dropout):
    """``nn.Dropout``; only the random numbers are other ones."""

    def forward(self, x):
        """Like ``x``: each number is zero with probability ``p``, else divided by ``1 - p``; ``x`` in evaluation."""
        return dropped(x, rate_of(self))


def dropped(x, rate):
    """Like ``x``: each number is zero with the chance ``rate``, else divided by ``1 - rate``."""
    if rate in (0, 1):
        return x if rate == 0 else x * 0
    if x.device.type != "cpu":
        return F.dropout(x, rate)
    four = torch.randint(LOWEST, HIGHEST, (-(-x.numel() // 4),))
    draw = four.view(torch.int16)[: x.numel()].view(x.shape)
    keep = torch.ge(draw, round(rate * 2**16) - 2**15, out=torch.empty(x.shape, dtype=x.dtype))
    return (x * keep).div_(1 - rate)  # ``torch.where`` takes three times as long, forth and back


def rate_of(dropout):
    """The rate at which an ``nn.Dropout`` drops at present: 0 in evaluation."""
    return dropout.p if dropout.training else 0.0
