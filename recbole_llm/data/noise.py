"""Random items put into histories: what a model makes of events that mean nothing.

Shapes: B rows of a batch, L max history length, R rows of the part.
"""

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Noise:
    """So many foreign events for each event of a history, at random places; drawn once for all rows of a part.

    Attributes
    ----------
    share : float
        Foreign events for each event, rounded to whole ones.
    place_RL : FloatTensor
        Where they go, in units of the history's length.
    item_RL : LongTensor
        What they are: item ids, drawn evenly from all but the row's target.
    """

    share: float
    place_RL: torch.Tensor
    item_RL: torch.Tensor

    @classmethod
    def draw(cls, share, target_R, max_length, n_items, seed):
        """The noise of a part of rows with these targets, which are never drawn: seen, they could not be ranked."""
        rng, n_rows = np.random.default_rng(seed), len(target_R)
        place = torch.from_numpy(rng.random((n_rows, max_length), dtype=np.float32))
        item_RL = torch.from_numpy(rng.integers(1, n_items - 1, (n_rows, max_length)))
        return cls(share, place, item_RL + (item_RL >= target_R[:, None]))

    def put_in(self, lists, item_list, length_B, row_B):
        """The lists (B, L, ...) of a batch with foreign events in ``item_list``, and the new lengths (B,).

        A foreign event has the time and whatever else of the event before it, or of the first. Where a history
        becomes too long, its oldest events fall out.
        """
        max_length = lists[item_list].shape[1]
        position_L = torch.arange(max_length)
        count_B = (self.share * length_B).round().long().clamp(max=max_length)
        own_BL = torch.where(position_L < length_B[:, None], position_L + 1.0, torch.inf)
        foreign_BL = 0.5 + self.place_RL[row_B] * length_B[:, None]
        foreign_BL = torch.where(position_L < count_B[:, None], foreign_BL, torch.inf)
        order_BM = torch.cat([own_BL, foreign_BL], 1).argsort(dim=1, stable=True)
        dropped_B = (length_B + count_B - max_length).clamp(min=0)
        order_BL = order_BM.gather(1, dropped_B[:, None] + position_L)
        is_foreign_BL = order_BL >= max_length
        # the event that a foreign one follows, or the first
        before_BM = ((order_BM < max_length).cumsum(1) - 1).clamp(min=0)
        source_BL = before_BM.gather(1, dropped_B[:, None] + position_L)
        new_length_B = (length_B + count_B).clamp(max=max_length)
        inside_BL = position_L < new_length_B[:, None]
        changed = {}
        for name, values in lists.items():
            gathered = values[torch.arange(len(values))[:, None], source_BL]
            if name == item_list:
                drawn_BL = self.item_RL[row_B].gather(1, (order_BL - max_length).clamp(min=0))
                gathered = torch.where(is_foreign_BL, drawn_BL, gathered)
            gathered[~inside_BL] = 0
            changed[name] = gathered
        return changed, new_length_B
