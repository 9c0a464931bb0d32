"""Every training target is in one window; windows are as few as can be and stay in the training part."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_llm.data.windows import Windows
from recbole_llm.errors import DataError


def world(lengths, held_out):
    """Training targets and the first place of each place's user, for users with these numbers of events."""
    starts = np.r_[0, np.cumsum(lengths)[:-1]]
    user_start = np.repeat(starts, lengths)
    ends = [
        np.arange(s + 1, s + n - held_out) for s, n in zip(starts, lengths, strict=True) if n - held_out > 1
    ]
    return np.concatenate(ends or [np.empty(0, int)]), user_start


worlds = st.lists(st.integers(3, 60), min_size=1, max_size=8)


@given(lengths=worlds, size=st.integers(1, 25), shifted=st.booleans(), epoch=st.integers(0, 5))
def test_every_target_stands_in_one_window_of_its_own_user(lengths, size, shifted, epoch):
    ends, user_start = world(lengths, held_out=1)
    windows = Windows.over(ends, user_start, size, shifted=shifted, seed=3)
    windows.cut(epoch)
    end, length = windows.rows(np.arange(len(windows)))
    assert length.min() >= 1 and length.max() <= size
    targets = np.concatenate([np.arange(e - n + 1, e + 1) for e, n in zip(end, length, strict=True)])
    assert sorted(targets) == sorted(ends)
    assert (user_start[end - length] == user_start[end]).all()


@given(lengths=worlds, size=st.integers(1, 25))
def test_there_are_as_few_windows_as_possible(lengths, size):
    ends, user_start = world(lengths, held_out=0)
    windows = Windows.over(ends, user_start, size)
    assert len(windows) == sum(-(-(n - 1) // size) for n in lengths)


def test_the_cuts_move_from_epoch_to_epoch_and_come_back():
    ends, user_start = world([30], held_out=0)
    windows = Windows.over(ends, user_start, 8, shifted=True, seed=0)
    seen = set()
    for epoch in range(20):
        windows.cut(epoch)
        seen.add(tuple(windows.start))
    windows.cut(0)
    assert tuple(windows.start) == tuple(Windows.over(ends, user_start, 8, shifted=True, seed=0).start)
    assert len(seen) == 4  # 29 targets in 4 windows of 8 leave 3 places free: shifts 0, 1, 2, 3


def test_a_training_part_with_gaps_is_refused():
    ends, user_start = world([9, 9], held_out=0)
    with pytest.raises(DataError, match=r"1 of 2 users have gaps.*train_rows: prefix"):
        Windows.over(np.delete(ends, 3), user_start, 4)
