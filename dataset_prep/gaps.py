"""Where a user paused: gaps between times that are a clock's, and times that are none."""

import numpy as np
import pandas as pd

TIME = "timestamp"


def cut(events, gap_minutes):
    """The session of each event, ``<user>.<number>``; ``events`` stand user by user in order of time."""
    user, time = events["user_id"].to_numpy(), events[TIME].to_numpy(np.float64)
    is_new_user = np.r_[True, user[1:] != user[:-1]]
    begins = is_new_user | (np.diff(time, prepend=time[:1]) > 60 * gap_minutes)
    number = np.cumsum(begins)
    first_of_user = np.maximum.accumulate(np.where(is_new_user, number, 0))
    return pd.Series(user, dtype=str) + "." + pd.Series(number - first_of_user + 1).astype(str)


def are_counts(user_N, time_N):
    """(N,) bool: whether an event's user has times such as 1, 2, 3, ..., a few left out, in place of a clock's.

    They put the events of one user in order and say nothing of when others were.
    """
    time = pd.Series(np.asarray(time_N)).groupby(np.asarray(user_N), sort=False)
    first, last, size = (time.transform(what).to_numpy() for what in ("min", "max", "size"))
    return (first >= 0) & (last <= 2 * size + 10)
