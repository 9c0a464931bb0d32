"""Training, validation and test part: RecBole's splits, row for row, one cut in time, and items made new on purpose.

Shapes: I items with padding, N interactions.
"""

from contextlib import contextmanager

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction

from dataset_prep.gaps import are_counts

from ..errors import DataError
from . import cold
from .noise import Noise
from .windows import Windows

ROW_END = "history_end"  # column of a row: the place of its target among the sorted interactions
PARTS = ("train", "valid", "test")  # as a ``split_column`` calls them
FEW = 0.1  # the share of events without a clock's time that one cut in time bears


class Parts(SequentialDataset):
    """How the rows of an ``OffsetDataset`` are divided.

    Attributes
    ----------
    windows : Windows or None
        Set on the training part by ``train_rows: dense``: then a row is a window and has a target at every position.
    cold : BoolTensor, (I,), or None
        The items that ``cold_share`` took out of the training part.
    noise : Noise or None
        Random items that stand in the histories at present.
    """

    windows = cold = noise = _places = None

    def build(self):
        """The parts of the split; the first (training) holds windows where ``train_rows`` is ``dense``."""
        parts = self._as_the_file_says() if self.config["split_column"] else super().build()
        if self.config["cold_share"]:
            self._make_new(parts)
        if self.config["valid_users"] and len(parts) == 3:
            parts[1].inter_feat = self._some_users(parts[1].inter_feat, self.config["valid_users"])
        if self.config["train_rows"] == "dense":
            parts[0].windows = Windows.over(
                parts[0].inter_feat[ROW_END].numpy(),
                parts[0].user_start.numpy(),
                self.max_item_list_len,
                shifted=bool(self.config["window_shift"]),
                seed=self.config["seed"],
                overlap=self.config["window_overlap"] or 0,
            )
        return parts

    def _as_the_file_says(self):
        """The parts that ``split_column`` names for each target: train, valid or test; a row of any other has none."""
        column, split = self.config["split_column"], self.config["eval_args"]["split"]
        if column not in self.inter_feat:
            raise DataError(
                f"split_column: `{self.dataset_name}.inter` has no column `{column}` that was loaded, only "
                f"{', '.join(self.inter_feat)}; name one that says train, valid or test of each event"
            )
        self._change_feat_format()
        part = self.id2token(column, self.inter_feat[column].numpy())
        for feat in (self.inter_feat, self.events):
            del feat.interaction[column]  # no model may read it
        self._drop_unused_col()
        rows = [torch.from_numpy(np.flatnonzero(part == name)) for name in PARTS]
        empty = [name for name, of_part in zip(PARTS, rows, strict=True) if not len(of_part)]
        if empty:
            raise DataError(
                f"split_column: no target of `{self.dataset_name}` has {' nor '.join(empty)} in column `{column}`, "
                f"only {', '.join(sorted(set(part))[:5])}; each part needs one"
            )
        if split == {"LS": "test_only"}:  # training + validation
            rows = [torch.cat(rows[:2]), rows[1][:0], rows[2]]
        return [self.copy(taken(self.inter_feat, of_part)) for of_part in rows]

    def leave_one_out(self, group_by, leave_one_mode):
        """RecBole's split, row for row, without a loop over the rows."""
        held_out = {"valid_and_test": 2, "valid_only": 1, "test_only": 1}.get(leave_one_mode)
        if group_by is None or held_out is None:
            return super().leave_one_out(group_by, leave_one_mode)  # which says what is wrong
        row, from_end, size = _grouped(self.inter_feat[group_by].numpy())
        held_out = np.minimum(held_out, size - 1)  # nobody's only row is held out
        last = row[(from_end == 0) & (held_out > 0)]
        last_but_one, none = row[(from_end == 1) & (held_out > 1)], row[:0]
        self._drop_unused_col()
        parts = [row[from_end >= held_out], last_but_one, last]
        if leave_one_mode == "valid_only":
            parts = [parts[0], last, none]
        return [self.copy(taken(self.inter_feat, torch.from_numpy(rows))) for rows in parts]

    def split_by_ratio(self, ratios, group_by=None):
        """RecBole's split; without ``group_by`` it cuts the time of all users at once, by the exact times."""
        if group_by is None:
            self._needs_a_clock(
                "one cut in time for all users", "set eval_args' group_by to user, or split by LS"
            )
            order = torch.argsort(self.event_times[self.inter_feat[ROW_END]], stable=True)
            self.inter_feat = taken(self.inter_feat, order)
        return super().split_by_ratio(ratios, group_by)

    def counted(self):
        """(N,) bool: whether the times of an event's user are counts (see ``are_counts``) and no clock's."""
        return torch.from_numpy(are_counts(self.events[self.uid_field].numpy(), self.event_times.numpy()))

    def _needs_a_clock(self, what, cure):
        share = self.counted().float().mean()
        if share > FEW:
            raise DataError(
                f"{what} compares times between users, but {share:.0%} of the events of `{self.dataset_name}` have "
                f"counts for times (1, 2, 3, ... for each user); {cure}"
            )

    def own_places(self):
        """The places, among this part's ``events``, of those that its rows read or aim at."""
        end, length = self.inter_feat[ROW_END], self.inter_feat[self.item_list_length_field]
        size = len(self.events) + 1
        rows_begun = torch.bincount(end - length, minlength=size) - torch.bincount(end + 1, minlength=size)
        return torch.nonzero(torch.cumsum(rows_begun, 0)).squeeze(1)

    def places(self):
        """The same places among all events of the data set, of which ``forget`` may have left out some."""
        return self.among_all(self.own_places())

    def among_all(self, places):
        """Places among this part's ``events`` as places among all events of the data set."""
        return places if self._places is None else self._places.to(places.device)[places]

    def _make_new(self, parts):
        """Take some items out of the training part, see ``cold``, and their targets out of the validation part."""
        if self.config["cold_by"] == "newest":
            self._needs_a_clock("cold_by: newest", "take cold_by: popularity")
        trained = np.zeros(len(self.events), bool)
        trained[parts[0].places().numpy()] = True
        chosen = cold.choose(
            self.events[self.iid_field].numpy(),
            self.event_times.numpy(),
            trained,
            self.item_num,
            self.config["cold_share"],
            self.config["cold_by"],
            self.config["seed"],
        )
        for part in parts:
            part.cold = torch.from_numpy(chosen)
        parts[0].forget(parts[0].cold)
        for part in parts[1:-1]:
            part.inter_feat = taken(part.inter_feat, ~part.cold[part.inter_feat[self.iid_field]])

    def forget(self, gone_I):
        """Take all events of the items ``gone_I``, (I,) bool, out of this part: as targets and from its histories."""
        kept = ~gone_I[self.events[self.iid_field]]
        self._places = torch.nonzero(kept).squeeze(1)
        self.events, self.event_times = taken(self.events, kept), self.event_times[kept]
        self.user_start = torch.from_numpy(first_of_block(self.events[self.uid_field].numpy()))
        rows = taken(self.inter_feat, kept[self.inter_feat[ROW_END]])
        end = (torch.cumsum(kept, 0) - 1)[rows[ROW_END]]
        length = (end - self.user_start[end]).clamp(max=self.max_item_list_len)
        rows.update(Interaction({self.item_list_length_field: length, ROW_END: end}))
        self.inter_feat = taken(rows, length > 0)

    @contextmanager
    def shortened(self, length):
        """Within, no row reads more than the last ``length`` events of its history."""
        rows = self.inter_feat
        self.inter_feat = taken(rows, slice(None))
        lengths = rows[self.item_list_length_field].clamp(max=length)
        self.inter_feat.update(Interaction({self.item_list_length_field: lengths}))
        try:
            yield
        finally:
            self.inter_feat = rows

    @contextmanager
    def as_prefixes(self):
        """Within, a row is one target and the history before it, on the training part of windows too."""
        windows, self.windows = self.windows, None
        try:
            yield
        finally:
            self.windows = windows

    @contextmanager
    def disturbed(self, share):
        """Within, every history has random items in it, ``share`` of them for each event."""
        seed = [self.config["seed"], round(1000 * share)]
        target = self.inter_feat[self.iid_field]
        self.noise = Noise.draw(share, target, self.max_item_list_len, self.item_num, seed)
        try:
            yield
        finally:
            self.noise = None

    def _some_users(self, rows, count):
        """The rows of ``count`` users, drawn once by the seed; all rows where there are no more users."""
        users = torch.unique(rows[self.uid_field])
        order = torch.randperm(len(users), generator=torch.Generator().manual_seed(self.config["seed"]))
        return taken(rows, torch.isin(rows[self.uid_field], users[order[:count]]))


def taken(interaction, rows):
    """The rows of an ``Interaction`` that ``rows`` names; RecBole's own brackets make a list of numbers of it first."""
    return Interaction({field: column[rows] for field, column in interaction.interaction.items()})


def histories(column_N, end_B, length_B, size):
    """(B, size, ...): what ``column_N`` holds of the ``length`` events before each ``end``, zeros behind them."""
    position_L = torch.arange(size, device=end_B.device)
    inside_BL = position_L < length_B[:, None]
    values = column_N[torch.where(inside_BL, (end_B - length_B)[:, None] + position_L, 0)]
    values[~inside_BL] = 0
    return values


def _grouped(keys):
    """The places of ``keys``, key by key as they first occur; how far each is from its key's end; its key's count."""
    _, first, number, count = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    place = np.argsort(first[number], kind="stable")
    size = count[number[place]]
    start = np.flatnonzero(np.r_[True, number[place][1:] != number[place][:-1]])
    from_start = np.arange(len(place)) - np.repeat(start, size[start])
    return place, size - 1 - from_start, size


def first_of_block(sorted_keys):
    """(N,) int64: for every place the first place that has the same key."""
    is_first = np.r_[True, sorted_keys[1:] != sorted_keys[:-1]]
    return np.maximum.accumulate(np.where(is_first, np.arange(len(sorted_keys)), 0))
