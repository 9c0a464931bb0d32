"""Controls of intents: answers about another place of the data, or noise in their stead (``intent_control``).

What sessions gain from answers must be lost when these take their place. The other place is drawn once by the seed: a
session has the same wrong answers at every epoch and in every ranking, and they say nothing of it.

Shapes: B sessions, L longest session, T packed events, N events of the data set, A answers with row 0 for none, D their
size, W text-vector size of an item, K known answers.
"""

import torch
from torch import nn

from ..data.parts import histories
from ..errors import SettingError
from .layout import Layout


class AskedElsewhere(nn.Module):
    """Intents that are asked about another user's history in each one's stead, every history once."""

    def __init__(self, intents, dataset, seed):
        super().__init__()
        self.intents, self.views, self.remarks = intents, intents.views, intents.remarks
        item_N, user_N = (dataset.events[field] for field in (dataset.iid_field, dataset.uid_field))
        before_N = torch.arange(len(item_N)) - dataset.user_start
        self.register_buffer("item_N", item_N, persistent=False)
        self.register_buffer("length_N", before_N.clamp(max=dataset.max_item_list_len), persistent=False)
        self.register_buffer("other_N", among_others(user_N * (before_N > 0), seed), persistent=False)

    @property
    def unit_IW(self):
        """The items' texts as the intents have them."""
        return self.intents.unit_IW

    def forward(self, item_T, session_T, last_T, end_B=None):
        """By view, the answers' vectors (B, W) and whether there is one (B,); a new session has none."""
        if end_B is None:  # and no place from which to be sent elsewhere
            none_BW = self.unit_IW.new_zeros(len(last_T), self.unit_IW.shape[1])
            return {view: (none_BW, none_BW.any(1)) for view in self.views}
        item_BL, layout, other_B = self.history_in_stead(end_B)
        return self.intents(layout.pack(item_BL), layout.row_T, layout.last_B, other_B)

    def history_in_stead(self, end_B):
        """The histories before the other places, (B, L) items, their layout, and the places, (B,)."""
        other_B = self.other_N[end_B]
        length_B = self.length_N[other_B]
        item_BL = histories(self.item_N, other_B, length_B, int(length_B.max()))
        return item_BL, Layout.of(length_B, only_last=True), other_B


def noise_for(answer_AD, known_A, seed):
    """(A, D): for each known answer noise of the answers' mean and width; zeros where there is none."""
    noise_AD = torch.randn(answer_AD.shape, generator=torch.Generator().manual_seed(seed))
    known_KD = answer_AD[known_A]
    return (known_KD.mean(0) + noise_AD * known_KD.std(0, unbiased=False)) * known_A[:, None]


def among_others(owner_A, seed):
    """(A,): in the place of each of A one of another owner, each given once; those without an owner stay.

    Owner after owner in an order drawn by the seed, all move on by as many places as the owner of most has.

    Raises
    ------
    SettingError
        If one owner has more than half.
    """
    answer_K = torch.nonzero(owner_A).squeeze(1)
    most = int(torch.bincount(owner_A[answer_K], minlength=1).max())
    if 2 * most > len(answer_K) or not most:
        raise SettingError(
            f"intent_control needs histories to exchange, but {most:,} of {len(answer_K):,} are of one user"
        )
    draw = torch.randperm(int(owner_A.max()) + 1, generator=torch.Generator().manual_seed(seed))
    order_K = answer_K[draw[owner_A[answer_K]].argsort(stable=True)]
    return torch.arange(len(owner_A)).index_copy(0, order_K, order_K.roll(-most))
