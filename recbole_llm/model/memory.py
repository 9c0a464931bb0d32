"""A bank of training situations: the vector of a history, and the item that came next.

Built from training rows alone, by the weights at hand and nothing else: the same weights always give the same bank.
Nobody is shown what he did later: of one user's situations a query gets those that ended before it (RaSeRec,
https://arxiv.org/abs/2412.18378).

Shapes: M situations of the bank, B rows of a batch, T queries, L longest history, H width of the Recommendation LLM.
"""

from dataclasses import dataclass

import torch

from ..data.parts import ROW_END
from .layout import Layout
from .retrieval import exactly

ROWS = 256  # rows of the training part that are read at a time


@dataclass(frozen=True)
class Bank:
    """Situations sorted by user and time."""

    sequence_MH: torch.Tensor
    item_M: torch.Tensor  # what came next
    user_M: torch.Tensor
    place_M: torch.Tensor  # of what came next, among all events of the data set
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
    @exactly
    def bank(self, model, index):
        """The ``Bank`` of ``model.read``: of all targets of the training part, or of ``most`` drawn by the seed.

        ``index`` makes the index over the sequences.
        """
        device = next(model.parameters()).device
        parts = [_situations(model, batch.to(device)) for batch in self._batches(self._drawn())]
        columns = [torch.cat(column) for column in zip(*parts, strict=True)]
        order_M = columns[-1].argsort()
        sequence_MH, item_M, user_M, place_M = (column[order_M] for column in columns)
        place_M = self.dataset.among_all(place_M)
        return Bank(sequence_MH, item_M, user_M, place_M, index(sequence_MH), model.epoch)

    def _drawn(self):
        """(N,) bool: which of the training part's events are targets whose situations the bank holds."""
        target = self.dataset.inter_feat[ROW_END].sort().values
        order = torch.randperm(len(target), generator=torch.Generator().manual_seed(self.seed))
        drawn_N = torch.zeros(len(self.dataset.events), dtype=torch.bool)
        drawn_N[target[order[: self.most]]] = True
        return drawn_N

    def _batches(self, drawn_N):
        """What was drawn with its whole history, some at a time; never by windows, which cut histories off."""
        drawn = torch.nonzero(drawn_N[self.dataset.inter_feat[ROW_END]]).squeeze(1)
        for rows in drawn.split(ROWS):
            with self.dataset.as_prefixes():
                batch = self.dataset[rows]
            yield batch


def _situations(model, batch):
    """Sequence vectors, next items, users and places, (B, ...) each, of prefix rows."""
    layout = Layout.of(batch[model.ITEM_SEQ_LEN], only_last=True)
    sequence_BH = model.pooled(layout.pack(batch[model.ITEM_SEQ]), layout)
    return sequence_BH, batch[model.ITEM_ID], batch[model.USER_ID], batch[ROW_END]


def next_places(layout, user_B, end_B):
    """(T,) each: user and place of what comes after each event that the layout asks for."""
    if layout.asked_T is not None:  # the last events, row by row
        return user_B, end_B
    row_T = layout.row_T
    length_T = layout.length_B[row_T]
    return user_B[row_T], end_B[row_T] - length_T + (layout.position_T + 1).minimum(length_T)
