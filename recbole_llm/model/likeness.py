"""What is scored beside the user's vector: how like the texts of the last events an item's texts are.

A vector that was learned for an item of two events knows these two histories by heart and says little of a third. That
one text is like another needs no event at all: the score has the cosines of the candidate's text with those of the last
K events, weighed by K learned numbers that all items share. The score stays a product of a user's vector with an
item's, both W numbers longer.

In ranking an item that was seen little leans on them more, by 1 + rho (1 - c_i), where c_i is the trust that the gate
has in its own vector; in training none does: there a target's own vector has met the very event, and likeness would be
found to be worth less than it is.

That content ranks what no one has rated yet is old (Pasquale Lops et al., "Content-based Recommender Systems: State of
the Art and Trends", Recommender Systems Handbook, 2011); the weights are ours.

Shapes: I items with padding, W text-vector size of all fields, B batch, L longest history, T packed events, N items of
a batch, K last events.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .items import FieldViews, rows_of, trust
from .layout import of_asked


class Likeness(nn.Module):
    """The whitened texts of the items, of length 1, what each of the last events counts, and who leans on them."""

    def __init__(self, aligned, count_I, n_events, kappa, rho):
        super().__init__()
        # all dimensions, for those of little spread tell brands apart
        views = [FieldViews.of(field, (1.0,), field.vectors.shape[1]) for field in aligned]
        self.maps, self.rho = [view.maps[0] for view in views], rho
        # made again from the artifact and the training part, so not in the checkpoint
        self.register_buffer("text_IW", side_by_side([view.tables[0] for view in views]), persistent=False)
        self.register_buffer("lean_I1", 1 + rho * (1 - trust(count_I, kappa)), persistent=False)
        self.weight_K = nn.Parameter(1 / torch.arange(1.0, n_events + 1))

    @property
    def width(self):
        """W."""
        return self.text_IW.shape[1]

    def items(self, item_N=None):
        """(I, W): the texts of all items, or (N, W) of those that ``item_N`` names; zeros where there is none."""
        return rows_of(self.text_IW, item_N)

    def scored(self, item_N=None):
        """(I, W), or (N, W): the same as they are scored; in training all items lean on them alike."""
        text_NW = self.items(item_N)
        return text_NW if self.training else text_NW * rows_of(self.lean_I1, item_N)

    def users(self, text_TW, layout):
        """(T, W): for each event that the layout asks for, the weighed texts of the last K, its own among them."""
        text_BLW = layout.pad(text_TW)
        length = text_BLW.shape[1]
        weighed_LL = sum(
            weight * text_TW.new_ones(length - back).diag(-back)
            for back, weight in enumerate(self.weight_K[:length])
        )
        return of_asked(layout.pack(weighed_LL @ text_BLW), layout)

    def extend(self, aligned):
        """Append the texts of new items: one ``AlignedVectors`` per field, in the order of the fields."""
        new_NW = side_by_side(
            [whitening.rows(field) for whitening, field in zip(self.maps, aligned, strict=True)]
        )
        self.text_IW = torch.cat([self.text_IW, new_NW.to(self.text_IW.device)])
        self.lean_I1 = torch.cat([self.lean_I1, self.lean_I1.new_full((len(new_NW), 1), 1 + self.rho)])


def side_by_side(tables):
    """(I, W): an item's fields, each of length 1, and together too; zeros where it has no text."""
    return F.normalize(torch.cat([F.normalize(table_IW, dim=1) for table_IW in tables], 1), dim=1)
