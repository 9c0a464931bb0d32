"""Which part of a split each event of a session is a target of: train, valid, test, or none.

``paper``: the targets are drawn one by one, as LLM4SBR's counts show (Beauty: 158,139 + 18,000 = 176,139 prefixes). A
test target may then stand in a training row of the same session: the numbers are those of the paper, and too good.

``clean``: whole sessions. Where times are a clock's, the sessions that end last are the test part, those that end
before them the validation part, and a target that is not later than all that was trained on before it is none. Where
only the order of a user's events is known, sessions are drawn.

``every``: the rows that ``clean`` trains on, and every event but the first of its validation and test sessions as a
target. Where sessions are asked for their last event alone, a thousand of them tell little apart.
"""

import numpy as np
import pandas as pd

PAPER, CLEAN, EVERY = "paper", "clean", "every"
NAMES = np.array(["train", "valid", "test"])
NONE = "none"


def targets_of(events, kind):
    """(N,) bool: the events that sessions are asked for, ``all`` but each one's first or the ``last`` of each."""
    kept = "first" if kind == "all" else "last"
    is_end = ~events["user_id"].duplicated(kept).to_numpy()
    return ~is_end if kind == "all" else is_end


def paper_parts(is_target, test_share, valid_share, seed):
    """(N,) str: the part of each event, targets drawn one by one."""
    part = np.full(len(is_target), NONE, dtype=object)
    place = np.random.default_rng(seed).permutation(np.flatnonzero(is_target))
    part[place] = _shared_out(len(place), test_share, valid_share)
    return part


def clean_parts(events, is_target, test_share, valid_share, seed=None):
    """(N,) str: the part of each event, whole sessions in order of time, or drawn by ``seed`` where it is given."""
    number, _ = pd.factorize(events["user_id"])
    sessions = number.max() + 1
    if seed is None:
        end = np.full(sessions, -np.inf)
        np.maximum.at(end, number, events["timestamp"].to_numpy(np.float64))
        order = np.argsort(end, kind="stable")
    else:
        order = np.random.default_rng(seed).permutation(sessions)
    of_session = np.empty(sessions, dtype=object)
    of_session[order] = _shared_out(sessions, test_share, valid_share)
    part = np.where(is_target, of_session[number], NONE)
    if seed is None:
        part[_too_early(events["timestamp"].to_numpy(), of_session[number])] = NONE
    return part


def every_parts(events, is_target, *shares):
    """(N,) str: the part of each event as ``clean_parts`` has it, but with every event asked for after training."""
    part = clean_parts(events, targets_of(events, "all"), *shares)
    part[(part == "train") & ~is_target] = NONE
    return part


def _shared_out(count, test_share, valid_share):
    """(count,) str: first the training part, then the validation part, then the test part."""
    n_test = round(count * test_share)
    n_valid = round((count - n_test) * valid_share)
    return NAMES.repeat([count - n_test - n_valid, n_valid, n_test])


def _too_early(time, of_session):
    """(N,) bool: the events of a later part that are not later than every event of the parts before it."""
    early = np.zeros(len(time), bool)
    for before, later in (("train", "valid"), ("valid", "test")):
        if (of_session == before).any():
            early |= (of_session == later) & (time <= time[of_session == before].max())
    return early
