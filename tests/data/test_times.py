"""Times stay those of the file where RecBole squeezes them to 0 .. 1, as its settings of ml-100k do."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import recbole
import torch
from recbole.data.dataset import SequentialDataset
from shop import loaders, write

from dataset_prep.gaps import are_counts
from recbole_llm.data.dataset import ELAPSED, OffsetDataset
from recbole_llm.data.times import times_of
from recbole_llm.errors import DataError

CLOCK = 978_300_000
ROWS = [
    (f"u{u}", f"i{(3 * k + u) % 7}", CLOCK + 86_400 * ((5 * k) % 6) + 13 * u)
    for u in range(4)
    for k in range(6)
]
AT_RANDOM = {"split": {"RS": [0.5, 0.25, 0.25]}, "order": "RO", "group_by": "user", "mode": "full"}
GENERAL = {"model": "BPR", "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}
UNTIMED, TIMED = {"inter": ["user_id", "item_id"]}, {"inter": ["user_id", "item_id", "timestamp"]}


@pytest.mark.parametrize("asked", [{"normalize_all": True}, {"normalize_field": ["timestamp"]}])
def test_gaps_are_those_of_the_file_where_times_are_squeezed(tmp_path, asked):
    write(tmp_path, ROWS)
    plain, squeezed = (loaders(tmp_path, OffsetDataset, **keys)[2]._dataset for keys in ({}, asked))
    rows = torch.arange(4)
    assert squeezed.events["timestamp"].max() == 1.0
    assert torch.equal(squeezed.event_times, plain.event_times)
    assert torch.equal(squeezed[rows][ELAPSED], plain[rows][ELAPSED])
    assert squeezed[rows][ELAPSED][0].tolist() == [86_400 * day for day in range(4)]
    assert not squeezed.counted().any()


def test_the_times_of_ml_100k_are_a_clock_s(tmp_path):
    """In RecBole's wheel with RecBole's settings; the README of the data says September 1997 to April 1998."""
    found = loaders(
        tmp_path, dataset="ml-100k", data_path=str(Path(recbole.__file__).parent / "dataset_example")
    )
    data = found[2]._dataset
    first, last = (
        datetime.fromtimestamp(int(t), UTC) for t in (data.event_times.min(), data.event_times.max())
    )
    assert (first.year, first.month, last.year, last.month) == (1997, 9, 1998, 4)
    assert not data.counted().any()


def test_squeezed_batches_are_recboles_own(tmp_path):
    write(tmp_path, ROWS)
    kinds, rows = (SequentialDataset, OffsetDataset), torch.arange(4)
    theirs, ours = (loaders(tmp_path, kind, normalize_all=True)[2]._dataset[rows] for kind in kinds)
    assert all(torch.equal(theirs[field], ours[field]) for field in theirs.interaction)


def test_the_times_of_a_general_model_are_unsqueezed(tmp_path):
    write(tmp_path, ROWS)
    train = loaders(tmp_path, **GENERAL, normalize_all=True, load_col=TIMED, eval_args=AT_RANDOM)[0]._dataset
    assert train.inter_feat["timestamp"].max() <= 1.0
    known = {time for *_, time in ROWS}
    assert {round(time) for time in times_of(train)} <= known
    assert not are_counts(train.inter_feat["user_id"].numpy(), times_of(train)).any()


def test_no_times_are_none(tmp_path):
    write(tmp_path, ROWS)
    assert times_of(loaders(tmp_path, **GENERAL, load_col=UNTIMED, eval_args=AT_RANDOM)[0]._dataset) is None


def test_a_column_of_times_that_is_not_there_is_named(tmp_path):
    write(tmp_path, ROWS)
    with pytest.raises(DataError, match="times of `shop`, column `when`, were not loaded"):
        loaders(tmp_path, TIME_FIELD="when", load_col=UNTIMED)


def test_counts_of_which_a_filter_left_some_out_are_counts_still():
    users, times = np.repeat([1, 2, 3], 4), np.array([2, 3, 5, 6, 0, 1, 2, 3, 1, 400, 900, 1000])
    assert are_counts(users, times).tolist() == [True] * 8 + [False] * 4
