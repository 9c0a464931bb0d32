"""Every training target is in one window; windows are as few as can be and stay in the training part."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_llm.data.windows import Windows
from recbole_llm.errors import DataError, SettingError


def world(lengths, held_out):
    """Training targets and the first place of each place's user, for users with these numbers of events."""
    starts = np.r_[0, np.cumsum(lengths)[:-1]]
    user_start = np.repeat(starts, lengths)
    ends = [
        np.arange(s + 1, s + n - held_out) for s, n in zip(starts, lengths, strict=True) if n - held_out > 1
    ]
    return np.concatenate(ends or [np.empty(0, int)]), user_start


worlds = st.lists(st.integers(3, 60), min_size=1, max_size=8)


@given(
    data=st.data(), lengths=worlds, size=st.integers(1, 25), shifted=st.booleans(), epoch=st.integers(0, 5)
)
def test_every_target_stands_in_one_window_of_its_own_user(data, lengths, size, shifted, epoch):
    overlap = data.draw(st.integers(0, size - 1))
    ends, user_start = world(lengths, held_out=1)
    windows = Windows.over(ends, user_start, size, shifted=shifted, seed=3, overlap=overlap)
    windows.cut(epoch)
    end, length, context = rows = windows.rows(np.arange(len(windows)))
    assert (length > context).all() and length.max() <= size
    assert ((context == overlap) | (context == end - length - user_start[end] + context)).all()
    targets = [np.arange(e - n + c + 1, e + 1) for e, n, c in zip(*rows, strict=True)]
    assert sorted(np.concatenate(targets)) == sorted(ends)
    assert (user_start[end - length] == user_start[end]).all()


def test_a_window_begins_with_the_events_that_overlap_by_hand():
    ends, user_start = world([12], held_out=0)
    windows = Windows.over(ends, user_start, 5, overlap=2)
    assert [list(part) for part in windows.rows(np.arange(3))] == [[5, 8, 11], [5, 5, 5], [0, 2, 2]]
    with pytest.raises(SettingError, match=r"window_overlap is 5, expected 0 or more and less than .*\(5\)"):
        Windows.over(ends, user_start, 5, overlap=5)


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
