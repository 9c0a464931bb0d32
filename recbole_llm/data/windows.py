"""Dense training windows: one row per stretch of a user's history, with a target at every position.

A prefix row teaches one target; a window of L events teaches L of them in one pass of a causal encoder. Every training
interaction but a user's first is a target exactly once per epoch, as with RecBole's prefix rows.
"""

import numpy as np

from ..errors import DataError, SettingError


class Windows:
    """Stretches ``[start, end)`` of the sorted interactions; the target of place p is p + 1.

    A user with more than L targets is cut into as few windows as possible. With ``shifted`` the cuts move at random
    from epoch to epoch (by at most what the first window leaves free), so that no target always stands at a window's
    start. With ``overlap`` every window but a user's first begins with that many events of the window before, which
    are read again and are no targets again.
    """

    def __init__(self, first, last, max_length, *, shifted, seed, overlap=0):
        if not 0 <= overlap < max_length:
            raise SettingError(
                f"window_overlap is {overlap}, expected 0 or more and less than MAX_ITEM_LIST_LENGTH ({max_length})"
            )
        self.first, self.last, self.max_length = first, last, max_length  # (users,): inputs are [first, last)
        self.overlap, self.step = overlap, max_length - overlap
        self.pieces = 1 + np.maximum(-(-(last - first - max_length) // self.step), 0)
        self.shifted, self.seed = shifted, seed
        self.cut(epoch=0)

    @classmethod
    def over(cls, ends, user_start, max_length, *, shifted=False, seed=0, overlap=0):
        """Windows over the training targets at places ``ends``.

        Raises
        ------
        DataError
            If a user's training targets are not one unbroken stretch of time: windows would then show targets of the
            validation or test part to the model.
        """
        ends = np.sort(ends)
        users = user_start[ends]
        is_first = np.r_[True, users[1:] != users[:-1]]
        first_target, last_target = ends[is_first], ends[np.r_[is_first[1:], True]]
        counts = np.diff(np.r_[np.flatnonzero(is_first), len(ends)])
        begins = user_start[first_target] + 1  # a user's second event is the first to be a target
        broken = np.flatnonzero((last_target - first_target + 1 != counts) | (first_target != begins))
        if len(broken):
            raise DataError(
                f"train_rows: dense needs the training part of every user to be one stretch of time, but "
                f"{len(broken)} of {len(counts)} users have gaps in it, or no target at "
                "their second event; use the split LS or train_rows: prefix"
            )
        return cls(first_target - 1, last_target, max_length, shifted=shifted, seed=seed, overlap=overlap)

    def __len__(self):
        return int(self.pieces.sum())

    def cut(self, epoch):
        """Lay the windows for ``epoch``; the same epoch always gives the same windows."""
        user = np.repeat(np.arange(len(self.pieces)), self.pieces)
        newest = np.repeat(np.cumsum(self.pieces), self.pieces) - 1
        back = newest - np.arange(len(user))  # 0: the user's newest window
        shift = np.zeros(len(self.pieces), np.int64)
        if self.shifted:
            slack = self.max_length + (self.pieces - 1) * self.step - (self.last - self.first)
            shift = np.random.default_rng([self.seed, epoch]).integers(
                0, np.where(self.pieces > 1, slack, 0) + 1
            )
        end = self.last[user] + shift[user] - back * self.step
        is_first = back == self.pieces[user] - 1
        begin = np.where(
            is_first, self.first[user], end - self.step
        )  # of the events whose next one is a target
        self.start = np.where(is_first, begin, np.maximum(begin - self.overlap, self.first[user]))
        self.end, self.context = np.minimum(end, self.last[user]), begin - self.start

    def rows(self, index):
        """``(end, length, context)`` of the windows number ``index``: int64 arrays, shape (B,).

        The first ``context`` events of a window have no target.
        """
        return self.end[index], self.end[index] - self.start[index], self.context[index]
