"""What the training part knew of the test part: targets in it, events later than they are, and the texts.

Leave-one-out trains on the later events of other users, which no model in service can do; one cut in time for all users
does not. Yitong Ji et al., "A Critical Study on Data Leakage in Recommender System Offline Evaluation", TOIS 2023,
https://arxiv.org/abs/2010.11060

Shapes: E training events, P test targets.
"""

from dataclasses import dataclass

import numpy as np

from dataset_prep.gaps import are_counts

from ..data.dataset import ROW_END, OffsetDataset
from ..data.times import times_of
from .markdown import percent, table
from .protocol import drawn

READ = {  # what a text field is made from, by its template
    "reviews": "reviews that came with training interactions; none of a validation or test interaction",
    "generated": "what a language model wrote of the item file alone; what it had read before is not known",
    "no LLM": "the item file alone, picked out by rule: no LLM was asked",
    "ready-made": "ready-made vectors, of whose making nothing is known here",
}
FROM_ITEMS = "the item file alone; no interaction"


@dataclass(frozen=True)
class Leaks:
    """What the training part knew.

    Attributes
    ----------
    targets : int
    in_training : int
        Test targets that training rows aim at or read: the same event, or, where no times were loaded, an event of the
        same user and item.
    timed : int
        Test targets whose time is a clock's; what follows speaks of them alone. Counts (1, 2, 3, ... for each user) say
        nothing of other users.
    own_later : int
        Test targets of users with a later event in training.
    others_later : float or None
        Share of the training events that are later than a test target: the mean over the targets.
    """

    targets: int
    in_training: int
    timed: int = 0
    own_later: int = 0
    others_later: float | None = None


def leaks_of(train, test):
    """The ``Leaks`` from the data set ``train`` to ``test``; None where rows are ready-made and say too little."""
    if isinstance(test, OffsetDataset) and hasattr(test, "events"):
        place, target = train.places().numpy(), test.inter_feat[ROW_END].numpy()
        users, times = test.events[test.uid_field].numpy(), test.event_times.numpy()
        known = np.isin(target, place).sum()
        clock = ~test.counted().numpy()
        place = place[clock[place]]
        timed = target[clock[target]]
        return _later(len(target), known, (users[place], times[place]), (users[timed], times[timed]))
    if train.config["benchmark_filename"] is not None:
        return None
    fields = (train.uid_field, train.iid_field)
    (users, items), (user_P, item_P) = (
        [part.inter_feat[f].numpy() for f in fields] for part in (train, test)
    )
    event, event_P = users * train.item_num + items, user_P * train.item_num + item_P
    times, time_P = times_of(train), times_of(test)
    if times is None:
        return Leaks(len(user_P), int(np.isin(event_P, event).sum()))
    trained = set(zip(event.tolist(), times.tolist(), strict=True))
    known = sum(pair in trained for pair in zip(event_P.tolist(), time_P.tolist(), strict=True))
    clock = ~are_counts(np.r_[users, user_P], np.r_[times, time_P])
    kept, kept_P = clock[: len(users)], clock[len(users) :]
    return _later(len(user_P), known, (users[kept], times[kept]), (user_P[kept_P], time_P[kept_P]))


def _later(targets, known, training, test):
    """``Leaks`` from the users and times of the training events (E,) and of the test targets (P,)."""
    (users, times), (user_P, time_P) = training, test
    if not len(user_P) or not len(users):
        return Leaks(targets, int(known))
    last = np.full(max(users.max(), user_P.max()) + 1, -np.inf)
    np.maximum.at(last, users, times)
    later_P = 1 - np.searchsorted(np.sort(times), time_P, side="right") / len(times)
    return Leaks(targets, int(known), len(user_P), int((last[user_P] > time_P).sum()), float(later_P.mean()))


def section(outcome):
    """What the page says of it; empty where nothing is known."""
    if outcome.leaks is None:
        return ""
    sources = [
        [f"text field `{field}` was made from", _source(manifest)]
        for field, manifest in outcome.texts.items()
    ]
    return f"## What the training part knew\n\n{told(outcome.leaks, outcome.settings, sources)}"


def told(found, settings, sources=()):
    """The ``Leaks`` as a table with some more rows, the warning beneath; None: they are unknown."""
    parts = [
        _figures(found, sources) if found else "What the training part knew of the test part is unknown."
    ]
    if found and 0 < found.timed < found.targets:
        untimed = found.targets - found.timed
        parts.append(f"The times of {untimed:,} targets are counts; the lines on time leave them out.")
    if said := warning(found, settings):
        parts.append(f"**Warning:** {said}")
    return "\n\n".join(parts)


def _figures(found, sources):
    rows = [["test targets that training rows aim at or read", _of(found.in_training, found.targets)]]
    if found.timed:
        rows += [
            ["test targets of users with a later event in training", _of(found.own_later, found.timed)],
            ["training events later than a test target, in the mean", f"{100 * found.others_later:.1f} %"],
        ]
    else:
        rows.append(
            ["training events later than a test target", "unknown: no times that compare between users"]
        )
    return table(["", ""], [*rows, *sources])


def warning(found, settings):
    """One sentence on a split that lets a model read what it is asked for, or what came after it; None for others."""
    if found and found.in_training:
        what = f"training rows hold {found.in_training:,} of the {found.targets:,} test targets"
    elif found and found.own_later:
        what = f"{found.own_later:,} of {found.timed:,} test targets have a later event of their user in training"
    elif drawn(settings):
        what = "training events were drawn at random (eval_args' order: RO), those after a test target among them"
    else:
        return None
    return f"{what}; a split in order of time (order: TO), or of whole sessions (split_column: clean), does not do so"


def _of(part, whole):
    return f"{part:,} of {whole:,} ({percent(part, whole)})" if part else f"none of {whole:,}"


def _source(manifest):
    return READ.get(manifest["made_from"].get("template", {}).get("name"), FROM_ITEMS)
