"""RecBole's sequential data set with each history kept as two numbers, not as a row of a dense matrix.

RecBole copies the history of every interaction into [rows, L] tensors, once per column (RecBole #1865, #1537). Here
the interactions stay once, sorted by user and time; a row is the place of its target and the length of its history,
and a batch is gathered when it is asked for. The batches are RecBole's own.

Two more things are kept that RecBole loses: the exact times (RecBole holds them in float32, which rounds Unix seconds
to 64 or 128 s) and the order of events that share a time (the order of the file).

Shapes: B rows of a batch, L max history length, N interactions, W windows.
"""

import numpy as np
import pandas as pd
import recbole.data
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import ModelType

from ..compat.patching import rebind
from ..errors import DataError
from .parts import ROW_END, Parts, first_of_block, histories, taken

NEXT_ITEMS = "next_item_list"  # column of a dense batch: the target of every position, 0 where there is none
ELAPSED = "elapsed_list"  # column: whole time units since the first event of the row's history
NEXT_ELAPSED = (
    "next_elapsed_list"  # the same for what comes after each event; only where `use_query_time` asks for it
)


class OffsetDataset(Parts):
    """A sequential data set of rows ``(end, length)`` over the interactions sorted by user and time.

    Attributes
    ----------
    events : Interaction
        The N interactions, sorted; every column of the ``.inter`` file that was loaded.
    event_times : LongTensor, (N,)
        The exact time of each event, in the unit of the file, rounded to integers.
    user_start : LongTensor, (N,)
        The place of the first event of each event's user.
    """

    def _normalize(self):
        if self.time_field not in self.inter_feat:
            raise DataError(
                f"the times of `{self.dataset_name}`, column `{self.time_field}`, were not loaded, and they put the "
                f"events in order; name the column in load_col's inter, or in TIME_FIELD if it is called otherwise"
            )
        self.event_times = self.inter_feat[self.time_field].to_numpy(np.float64, copy=True)
        super()._normalize()  # which may squeeze the times to 0 .. 1

    def _change_feat_format(self):
        if self.config["benchmark_filename"] is None:
            # by the exact times, before RecBole rounds them to float32
            users = self.inter_feat[self.uid_field].to_numpy()
            order = np.lexsort((self.event_times, users))
            self.inter_feat = self.inter_feat.iloc[order].reset_index(drop=True)
            self.user_start = torch.from_numpy(first_of_block(users[order]))
            self.event_times = torch.from_numpy(np.rint(self.event_times[order]).astype(np.int64))
        super()._change_feat_format()

    def data_augmentation(self):
        """Make the rows: every interaction but a user's first is the target of what came before it."""
        self._aug_presets()
        self.events = self.inter_feat
        target = torch.nonzero(torch.arange(len(self.events)) > self.user_start).squeeze(1)
        if not len(target):
            raise DataError(
                f"no user of `{self.dataset_name}` has two interactions: {len(self.events):,} interactions of "
                f"{self.user_num - 1:,} users; a row needs one to read and one to predict"
            )
        length = (target - self.user_start[target]).clamp(max=self.max_item_list_len)
        rows = taken(self.events, target)
        rows.update(Interaction({self.item_list_length_field: length, ROW_END: target}))
        self.inter_feat = rows

    def __len__(self):
        return len(self.inter_feat) if self.windows is None else len(self.windows)

    def __getitem__(self, index, join=True):
        if getattr(self, "events", None) is None:  # benchmark files bring ready-made rows
            return super().__getitem__(index, join)
        if self.windows is None:
            rows = taken(self.inter_feat, index)
        else:
            rows, context_B = self._window_rows(index)
        end_B, length_B = rows[ROW_END], rows[self.item_list_length_field]
        size = self.max_item_list_len
        which, after = (end_B, length_B, size), (end_B + 1, length_B, size)
        lists = {
            getattr(self, f"{field}_list_field"): histories(self.events[field], *which)
            for field in self.events
            if field != self.uid_field
        }
        begin_B = self.event_times[end_B - length_B]
        lists[ELAPSED] = (histories(self.event_times, *which) - begin_B[:, None]).clamp(min=0)
        if self.config["use_query_time"]:
            lists[NEXT_ELAPSED] = (histories(self.event_times, *after) - begin_B[:, None]).clamp(min=0)
        if self.windows is not None:
            next_BL = histories(self.events[self.iid_field], *after)
            lists[NEXT_ITEMS] = next_BL.masked_fill_(torch.arange(next_BL.shape[1]) < context_B[:, None], 0)
        if self.noise is not None:
            lists, length_B = self.noise.put_in(lists, f"{self.iid_field}_list", length_B, index)
            rows.update(Interaction({self.item_list_length_field: length_B}))
        rows.update(Interaction(lists))
        return self.join(rows) if join else rows

    def _window_rows(self, index):
        """The last row of each window of ``index``, and how many events at its start are no more than context."""
        end_B, length_B, context_B = (torch.from_numpy(part) for part in self.windows.rows(index))
        rows = taken(self.events, end_B)
        rows.update(Interaction({self.item_list_length_field: length_B, ROW_END: end_B}))
        return rows, context_B

    def history_of(self, rows):
        """The whole history of each row, however long, as flat (row number, item id) pairs; for masking seen items."""
        end_B = rows[ROW_END]
        if end_B.numel() == 0:
            return end_B, end_B
        before_B = self.events_before(rows)
        row_number = torch.repeat_interleave(torch.arange(len(end_B)), before_B)
        first = torch.cumsum(before_B, 0) - before_B
        place = self.user_start[end_B][row_number] + torch.arange(len(row_number)) - first[row_number]
        return row_number, self.events[self.iid_field][place]

    def events_before(self, rows):
        """(B,) int64: how many events its user had before the target of each row, however few of them are read."""
        return rows[ROW_END] - self.user_start[rows[ROW_END]]

    def train_counts(self):
        """(I,) int64: how many events of the training part, of those that its rows read or aim at, each item has."""
        return torch.bincount(self.events[self.iid_field][self.own_places()], minlength=self.item_num)

    def inter_matrix(self, form="coo", value_field=None):
        """RecBole's user-item matrix of this part: its targets and, where a row has one event before it, that event."""
        if getattr(self, "events", None) is None:
            return super().inter_matrix(form, value_field)
        ends = self.inter_feat[ROW_END]
        first = ends[self.inter_feat[self.item_list_length_field] == 1] - 1
        return self._create_sparse_matrix(
            taken(self.events, torch.cat([ends, first])), self.uid_field, self.iid_field, form, value_field
        )


def train_counts(dataset):
    """(I,) int64: how often each item stands in the training part ``dataset``, of whatever kind."""
    if isinstance(dataset, OffsetDataset):
        return dataset.train_counts()
    return torch.bincount(dataset.inter_feat[dataset.iid_field], minlength=dataset.item_num)


def audience(dataset):
    """How many users know each item, (I,) int64, and how many users there are, in the training part ``dataset``."""
    if isinstance(dataset, OffsetDataset):
        place = dataset.own_places()
        users, items = (dataset.events[field][place] for field in (dataset.uid_field, dataset.iid_field))
    else:
        users, items = (dataset.inter_feat[field] for field in (dataset.uid_field, dataset.iid_field))
    pairs = torch.unique(users * dataset.item_num + items)
    return torch.bincount(pairs % dataset.item_num, minlength=dataset.item_num), len(torch.unique(users))


def refuse_repeats(dataset):
    """Refuse a data set, before its split, of which a user has an item twice.

    Raises
    ------
    DataError
        It names the first such user and item.
    """
    fields = [dataset.uid_field, dataset.iid_field]
    events = pd.DataFrame({field: np.asarray(dataset.inter_feat[field]) for field in fields})
    again = events[events.duplicated()]
    if len(again):
        user, item = (dataset.id2token(field, again[field].iloc[0]) for field in fields)
        raise DataError(
            f"no_repeats says that nobody takes an item twice, but user {user} of `{dataset.dataset_name}` has item "
            f"{item} again, one of {len(again):,} such events; set no_repeats: False"
        )


def events_before(loader):
    """User and item id of each target -> how many events its user had before it, as ``OffsetDataset.events_before``.

    ``loader`` ranks all items for users, as RecBole's general models are tested; empty for any other. The order is the
    split's; of a user's targets of one item the first counts. A ``repeatable`` sampler knows of no other part.
    """
    if not hasattr(loader, "uid2positive_item"):
        return {}
    part = loader._dataset
    parts = getattr(loader._sampler, "datasets", [part])
    fields = [part.uid_field, part.iid_field]
    events = pd.concat(
        pd.DataFrame({field: each.inter_feat[field].numpy() for field in fields})
        for each in parts[: parts.index(part) + 1]
    )
    events["before"] = events.groupby(fields[0]).cumcount()
    return events.tail(len(part)).groupby(fields)["before"].min().to_dict()


def offer():
    """Let RecBole's ``create_dataset`` give this data set where ``history_as_offsets`` asks for it.

    A model's own data set (RecBole's ``GRU4RecKGDataset``, say) is extended likewise, but for one that makes its rows
    in another way (DIEN's). Benchmark files, which bring ready-made rows, are read as before.
    """
    rebind(recbole.data, "create_dataset", _with_offsets)


def _with_offsets(original):
    def create_dataset(config):
        theirs = getattr(recbole.data.dataset, f"{config['model']}Dataset", SequentialDataset)
        makes_its_rows = theirs is not SequentialDataset and "data_augmentation" in vars(theirs)
        if (
            not config["history_as_offsets"]
            or config["MODEL_TYPE"] != ModelType.SEQUENTIAL
            or config["benchmark_filename"] is not None
            or makes_its_rows
        ):
            return original(config)
        if theirs is SequentialDataset:
            return OffsetDataset(config)
        return type(f"Offset{theirs.__name__}", (OffsetDataset, theirs), {})(config)

    return create_dataset
