"""Metrics by slices of the test targets: by how often the item was seen in training, by how long the user's history is.

Every target stands in one bucket, so the buckets' means, weighed by their sizes, are the mean of all. A model is given
as its name and the frames of its ranks: one of a run, one per seed of a benchmark.
"""

import numpy as np
import pandas as pd

from .markdown import pretty, table, whole_percent
from .outcomes import CONVENTIONS
from .ranks import gain, metrics_from

TRAIN_COUNTS = (0, 5, 10, 20, 50)  # the highest value of each bucket; what is higher has a bucket of its own
HISTORY_LENGTHS = (5, 10, 20, 50)
FEWEST = 30  # targets, below which a mean says nothing
METRICS = ("ndcg@10", "recall@10")
MADE_NEW = "Test targets whose item lost all its events of the training part (`cold_share`)"
MASKED = f"{CONVENTIONS['masked']}, from the ranks; fewer than {FEWEST} targets are too few"


def buckets(values, tops):
    """``(name, mask)`` of each bucket of whole numbers from 0: up to each of ``tops``, and above the last."""
    values, low = np.asarray(values), 0
    for top in tops:
        name = str(top) if low == top else f"{low}-{top}" if low else f"up to {top}"
        yield name, (low <= values) & (values <= top)
        low = top + 1
    yield f"> {low - 1}", values >= low


def item_slices(ranks):
    """``(name, mask)`` by how often a target's item was seen; then by head and long tail."""
    yield from buckets(ranks["train_count"], TRAIN_COUNTS)
    yield "most popular fifth of items", ranks["head"].to_numpy()
    yield "all other items", ~ranks["head"].to_numpy()


def history_slices(ranks):
    """``(name, mask)`` by how many events the user had before the target, whether or not the model reads them all."""
    yield from buckets(ranks["history_length"], HISTORY_LENGTHS)


def sliced(first, slices, models, column="rank_masked", metrics=METRICS):
    """A table with a row per slice and a column per model and metric, the mean over a model's frames.

    Parameters
    ----------
    first : str
        What the first column is called.
    slices : function of a frame
        Yields ``(name, mask)``.
    models : sequence of (str, list of DataFrame)
    """
    parts = [[list(slices(frame)) for frame in frames] for _, frames in models]
    rows = []
    for place, (name, mask) in enumerate(parts[0][0]):
        row = [name, f"{mask.sum():,}"]
        for (_, frames), of_frames in zip(models, parts, strict=True):
            groups = [frame[of[place][1]] for frame, of in zip(frames, of_frames, strict=True)]
            row += _means([group[column] for group in groups], metrics)
        rows.append(row)
    several = len(metrics) > 1
    head = [f"{name} {pretty(metric)}" if several else name for name, _ in models for metric in metrics]
    return table([first, "targets", *head], rows)


def sliced_by_item(models, metrics=METRICS):
    """The table by how often a target's item was seen in training."""
    return sliced("times in training", item_slices, models, metrics=metrics)


def sliced_by_history(models, metrics=METRICS):
    """The table by history, of models as ``sliced`` takes them; a sentence where their ranks do not tell it alike."""
    targets = [{_hashes(frame, ["user", "item"]) for frame in frames} for _, frames in models]
    told = {_hashes(frame, ["user", "item", "history_length"]) for _, frames in models for frame in frames}
    if any(of_model != targets[0] for of_model in targets) or len(told) > len(targets[0]):
        return (
            "No table: the models' ranks do not have the same targets with as many events before each. Those of an "
            "older version count no more than MAX_ITEM_LIST_LENGTH events; train such a model again."
        )
    return sliced("events", history_slices, models, metrics=metrics)


def _hashes(frame, columns):
    """What tells whether two frames have the same rows in these columns, in whatever order."""
    return np.sort(pd.util.hash_pandas_object(frame[columns].astype(str), index=False)).tobytes()


def _means(ranks, metrics):
    if min(map(len, ranks)) < FEWEST:
        return ["too few"] * len(metrics)
    return [f"{np.mean([gain(of_frame, metric).mean() for of_frame in ranks]):.4f}" for metric in metrics]


def by_item(outcomes):
    """The section on rare and new items; empty where no outcome has ranks."""
    said = "Test targets by how often their item stands in the training part"
    return _section("Rare and new items", said, outcomes, sliced_by_item)


def by_history(outcomes):
    """The section on short and long histories; empty where no outcome has ranks."""
    said = "Test targets by how many events their user had before them"
    return _section("Short and long histories", said, outcomes, sliced_by_history)


def made_new(outcomes):
    """The section on the items that ``cold_share`` made new; empty where there are none."""
    made = of_made_new(_ranked(outcomes))
    return f"## Items made new\n\n{MADE_NEW}; {MASKED}.\n\n{made}" if made else ""


def of_made_new(models, metrics=METRICS):
    """The table of the items that ``cold_share`` made new, of models as ``sliced`` takes them; empty without any."""
    models = [(name, frames) for name, frames in models if "rank_cold" in frames[0]]
    if not models:
        return ""
    everything = sliced("ranked among", _among("all items"), models, metrics=metrics)
    alone = sliced("ranked among", _among("new items alone"), models, "rank_cold", metrics)
    return f"{everything}\n{alone.splitlines()[-1]}"


def _among(name):
    return lambda ranks: [(name, ranks["rank_cold"].to_numpy() > 0)]


def by_shortened(outcomes):
    """The section on histories cut to their last events; empty where none were."""
    outcomes = [outcome for outcome in outcomes if outcome.shortened]
    if not outcomes:
        return ""
    rows = []
    for length in outcomes[0].shortened:
        row = [f"{length:,}"]
        for outcome in outcomes:
            row += _means([outcome.shortened[length]["rank_masked"]], METRICS)
        rows.append(row)
    whole = [value for outcome in outcomes for value in _means([outcome.ranks["rank_masked"]], METRICS)]
    head = [f"{outcome.name} {pretty(metric)}" for outcome in outcomes for metric in METRICS]
    return (
        "## Histories cut short\n\nThe same model and targets, told no more than the last events of each history; "
        f"{MASKED}.\n\n{table(['events told', *head], [*rows, ['as trained', *whole]])}"
    )


def by_disturbed(outcomes):
    """The section on histories with random items in them; empty where there were none."""
    outcomes = [outcome for outcome in outcomes if outcome.disturbed]
    if not outcomes:
        return ""
    rows = [["0 %", *_with_kept([outcome.ranks for outcome in outcomes], outcomes)]]
    for share in outcomes[0].disturbed:
        ranks = [outcome.disturbed[share] for outcome in outcomes]
        rows.append([whole_percent(share), *_with_kept(ranks, outcomes)])
    head = [f"{outcome.name} {name}" for outcome in outcomes for name in ("NDCG@10", "kept")]
    return (
        "## Random items in the histories\n\nThe same model and targets; so many random items for each event of a "
        f'history stand among its events. "Kept": of the NDCG@10 without them; {MASKED}.\n\n'
        f"{table(['random items', *head], rows)}"
    )


def _with_kept(ranks, outcomes):
    """The NDCG@10 of each model, and its share of what it is without noise."""
    cells = []
    for frame, outcome in zip(ranks, outcomes, strict=True):
        now, whole = (metrics_from(each["rank_masked"], [10])["ndcg@10"] for each in (frame, outcome.ranks))
        cells += [f"{now:.4f}", whole_percent(now / whole) if whole else ""]
    return cells


def own_vectors(outcome):
    """The section on how much of the items is their own vector; empty for a model without a gate.

    Where it is near 1 for rare items too, the gate has collapsed and their texts count for nothing.
    """
    if "id_share" not in outcome.items:
        return ""
    rows = []
    for name, mask in buckets(outcome.items["train_count"], TRAIN_COUNTS):
        shares = outcome.items["id_share"][mask]
        rows.append([name, f"{len(shares):,}", f"{shares.mean():.2f}" if len(shares) else ""])
    return (
        "## Own vectors and texts\n\nHow much of an item is its own vector, by its gate: 0 is text alone, 1 no text."
        f"\n\n{table(['times in training', 'items', 'own vector'], rows)}"
    )


def _ranked(outcomes):
    return [(outcome.name, [outcome.ranks]) for outcome in outcomes if outcome.ranks is not None]


def _section(title, said, outcomes, of_models):
    models = _ranked(outcomes)
    return f"## {title}\n\n{said}; {MASKED}.\n\n{of_models(models)}" if models else ""
