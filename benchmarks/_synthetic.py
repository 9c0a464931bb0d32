"""A made-up shop of any size: items of power-law popularity, users whose taste drifts from genre to genre.

The same numbers and seed always give the same file. Nothing of it is stored with the project.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

USERS_AT_ONCE = 50_000
GENRE_SIZE = 1_000  # items
DRIFT = 0.05  # chance that a user turns to another genre after an event


def write_shop(directory, n_events, n_items, seed=0, events_per_user=20):
    """Write ``shop/shop.inter`` of about ``n_events`` events of ``n_items`` items; returns the number of events."""
    folder = Path(directory) / "shop"
    folder.mkdir(parents=True, exist_ok=True)
    rng, written, users = np.random.default_rng(seed), 0, n_events // events_per_user
    genres = max(n_items // GENRE_SIZE, 1)
    likes = popularity(rng, genres), popularity(rng, min(GENRE_SIZE, n_items))
    schema = pa.schema([(name, pa.int64()) for name in ("user", "item", "time")])
    options = csv.WriteOptions(include_header=False, delimiter="\t")
    with open(folder / "shop.inter", "wb") as raw, csv.CSVWriter(raw, schema, write_options=options) as file:
        raw.write(b"user_id:token\titem_id:token\ttimestamp:float\n")
        for first in range(0, users, USERS_AT_ONCE):
            count = min(USERS_AT_ONCE, users - first)
            user, item, time = histories(rng, count, events_per_user, *likes)
            file.write_batch(pa.record_batch([user + first, item, time], schema=schema))
            written += len(user)
    return written


def popularity(rng, count):
    """Cumulative shares of ``count`` things of which the n-th most liked has a share like 1 / n, in random order."""
    return np.cumsum(rng.permutation(1 / np.arange(1, count + 1))).astype(np.float64)


def histories(rng, users, mean, genre_likes, item_likes):
    """User (from 0), item (from 0) and time of every event of some users, each in order of time."""
    length = 5 + rng.poisson(rng.gamma(2.0, (mean - 5) / 2, users))
    user = np.repeat(np.arange(users), length)
    turns = rng.random(len(user)) < DRIFT
    turns[np.cumsum(length) - length] = True  # everybody starts somewhere
    genre = draw(rng, genre_likes, int(turns.sum()))[np.cumsum(turns) - 1]
    item = genre * len(item_likes) + draw(rng, item_likes, len(user))
    start = np.repeat(rng.integers(0, 10**7, users), length)
    gap = rng.exponential(3600, len(user))
    passed = np.cumsum(gap)
    since = passed - np.repeat(passed[np.cumsum(length) - length], length)
    return user, item, start + since.astype(np.int64)


def draw(rng, cumulative, count):
    """Numbers of things, drawn by their cumulative shares."""
    return np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right")
