"""A bank of training situations: the vector of a history, and the item that came next.

Built from training rows alone, by the weights at hand. Nobody is shown what he did later: of one user's situations a
query gets those that ended before it (RaSeRec, https://arxiv.org/abs/2412.18378).

Shapes: M situations of the bank, T queries, L longest history, H width of the Recommendation LLM.
"""

from dataclasses import dataclass

import torch

from ..data.dataset import NEXT_ITEMS
from ..data.parts import ROW_END
from .layout import Layout

ROWS = 256  # rows of the training part that are read at a time


@dataclass(frozen=True)
class Bank:
    """Situations sorted by user and time."""

    sequence_MH: torch.Tensor
    item_M: torch.Tensor  # what came next
    user_M: torch.Tensor
    place_M: torch.Tensor  # of what came next, among the data set's events
    index: object  # that finds sequences, see retrieval.py
    epoch: int  # in which it was built

    def __len__(self):
        return len(self.item_M)

    def later(self, user_T, place_T):
        """The rows (first, end), (T,) each, that hold what came next for the same user at ``place_T`` or after it."""
        first_T = torch.searchsorted(self.place_M, place_T)
        end_T = torch.searchsorted(self.user_M, user_T, right=True)
        return first_T, end_T


class TrainingRows:
    """The training part as a bank is built from it; not copied with a model that holds it."""

    def __init__(self, dataset, most, seed):
        self.dataset, self.most, self.seed = dataset, most, seed

    def __deepcopy__(self, memo):
        return self

    @torch.no_grad()
    def bank(self, model, index):
        """The ``Bank`` of ``model.read``: of all targets of the training part, or of ``most`` drawn by the seed.

        ``index`` makes the index over the sequences.
        """
        dataset, parts = self.dataset, []
        device = next(model.parameters()).device
        for first in range(0, len(dataset), ROWS):
            rows = torch.arange(first, min(first + ROWS, len(dataset)))
            batch = dataset[rows.numpy() if dataset.windows is not None else rows].to(device)
            parts.append(_situations(model, batch, dense=dataset.windows is not None))
        sequence_MH, item_M, user_M, place_M = (torch.cat(column) for column in zip(*parts, strict=True))
        kept_M = torch.arange(len(item_M))
        if len(item_M) > self.most:
            kept_M = torch.randperm(len(item_M), generator=torch.Generator().manual_seed(self.seed))[
                : self.most
            ]
        kept_M = kept_M.to(device)
        kept_M = kept_M[place_M[kept_M].argsort()]
        columns = (column[kept_M] for column in (sequence_MH, item_M, user_M, place_M))
        return Bank(*columns, index(sequence_MH[kept_M]), model.epoch)


def _situations(model, batch, dense):
    """Sequence vectors, next items, users and places of what some rows teach."""
    item_seq_BL, length_B = batch[model.ITEM_SEQ], batch[model.ITEM_SEQ_LEN]
    layout = Layout.of(length_B, only_last=not dense)
    sequence_TH = model.read(layout.pack(item_seq_BL), layout)
    user_T, place_T = next_places(layout, batch[model.USER_ID], batch[ROW_END])
    item_T = layout.pack(batch[NEXT_ITEMS]) if dense else batch[model.ITEM_ID]
    taught_T = item_T > 0
    return sequence_TH[taught_T], item_T[taught_T], user_T[taught_T], place_T[taught_T]


def next_places(layout, user_B, end_B):
    """(T,) each: user and place of what comes after each event that the layout asks for."""
    if layout.asked_T is not None:  # the last events, row by row
        return user_B, end_B
    row_T = layout.row_T
    return user_B[row_T], end_B[row_T] - layout.length_B[row_T] + layout.position_T + 1
