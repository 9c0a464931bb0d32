"""Times as the file has them, though RecBole may squeeze every number of a file to 0 .. 1, times as well.

It does so where ``normalize_all`` or ``normalize_field`` asks for it, as RecBole's settings of ml-100k do. Order alone
would be left: neither gaps in seconds nor whether the times are a clock's.

Shapes: N interactions.
"""

import numpy as np
from recbole.data.dataset import Dataset

from ..compat.patching import wrap


def remember_span():
    """Let every data set of RecBole keep, as ``time_span``, the first and last time that it squeezed to 0 and 1."""
    wrap(Dataset, "_normalize", _keeping_span)


def _keeping_span(original):
    def _normalize(self):
        times = self.inter_feat.get(self.time_field)
        original(self)
        if times is not None and not self.inter_feat[self.time_field].equals(times):
            self.time_span = (times.min(), times.max())

    return _normalize


def times_of(dataset):
    """(N,) float64: when each interaction was, in the unit of the file; None where no times were loaded.

    RecBole holds them in float32, so they are true to about a ten-millionth of what they were or of their span.
    """
    if dataset.time_field not in dataset.inter_feat:
        return None
    times = dataset.inter_feat[dataset.time_field].numpy().astype(np.float64)
    first, last = getattr(dataset, "time_span", (0.0, 1.0))
    return first + times * (last - first)
