"""Data at the edge of what can be learnt from: handled, or refused in one sentence."""

import numpy as np
import pytest
import torch
from carousel import TINY

from recbole_llm.data.dataset import ELAPSED
from recbole_llm.errors import DataError
from recbole_llm.train.build import build, configure
from recbole_llm.train.trainer import trainer_for

BOTH = pytest.mark.parametrize("rows", ["dense", "prefix"])


def world(folder, events, **keys):
    """The parts, the model and its trainer for ``(user, item, time)`` events."""
    (folder / "shop").mkdir(exist_ok=True)
    lines = [
        "user_id:token\titem_id:token\ttimestamp:float",
        *("\t".join(map(str, event)) for event in events),
    ]
    (folder / "shop" / "shop.inter").write_text("\n".join(lines) + "\n")
    given = {**TINY, "model": "LLMSeqRec", "dataset": "shop", "data_path": str(folder), "fusion": "id_only"}
    config = configure("LLMSeqRec", given | {"epochs": 2, "eval_step": 1, "dropout": 0.1} | keys)
    config["checkpoint_dir"] = str(folder / "checkpoint")
    parts, _, model = build(config)
    return parts, model, trainer_for(config, model)


def trained(folder, events, **keys):
    """What two epochs and a test leave: the parts and the ``Evaluation``; every weight is still a number."""
    parts, model, trainer = world(folder, events, **keys)
    trainer.fit(*parts[:2], verbose=False)
    assert all(torch.isfinite(weight).all() for weight in model.parameters())
    return parts, trainer.evaluate_both_ways(parts[2])


def walk(user, length, first=0):
    return [(user, f"i{(first + step) % 7}", 10 * step) for step in range(length)]


@BOTH
def test_windows_longer_than_any_history_are_histories(tmp_path, rows):
    events = walk("u", 6) + walk("v", 5, 2)
    parts, found = trained(tmp_path, events, MAX_ITEM_LIST_LENGTH=50, train_rows=rows)
    assert len(found.ranks.frame(parts[0]._dataset, parts[0]._dataset.train_counts())) == 2


@BOTH
def test_a_user_of_one_event_is_no_row_and_one_of_two_is_trained_on_alone(tmp_path, rows):
    events = walk("u", 6) + [("one", "i1", 5)] + walk("two", 2, 3)
    (train, _, test), _ = trained(tmp_path, events, train_rows=rows)

    def users(loader):
        batches = [batch[0] if isinstance(batch, tuple) else batch for batch in loader]
        return set(train._dataset.id2token("user_id", torch.cat([batch["user_id"] for batch in batches])))

    assert users(train) == {"u", "two"} and users(test) == {"u"}  # RecBole holds out no user's only target


@BOTH
def test_an_item_that_is_only_tested_is_ranked_all_the_same(tmp_path, rows):
    events = walk("u", 6) + [("u", "new", 99)] + walk("v", 6, 3)
    parts, found = trained(tmp_path, events, train_rows=rows)
    dataset = parts[0]._dataset
    frame = found.ranks.frame(dataset, dataset.train_counts()).set_index("item")
    assert frame.loc["new", "train_count"] == 0 and 1 <= frame.loc["new", "rank"] <= 8


@BOTH
def test_where_nobody_can_be_validated_the_last_epoch_is_kept(tmp_path, rows):
    split = {"split": {"LS": "test_only"}, "order": "TO", "group_by": "user", "mode": "full"}
    parts, found = trained(tmp_path, walk("u", 5) + walk("v", 5, 2), train_rows=rows, eval_args=split)
    assert not len(parts[1]) and len(parts[2]._dataset) == 2 and found.masked


@BOTH
def test_equal_times_keep_the_order_of_the_file_and_have_no_gaps(tmp_path, rows):
    events = [(user, f"i{item}", 77) for user in "uv" for item in range(6)]
    parts, _ = trained(tmp_path, events, train_rows=rows, time_mode="bias", time_input=True)
    batch = next(iter(parts[2]))[0]
    tokens = parts[0]._dataset.id2token("item_id", batch["item_id_list"][0, :5])
    assert list(tokens) == ["i0", "i1", "i2", "i3", "i4"] and not batch[ELAPSED].any()


@BOTH
def test_an_unsorted_file_gives_the_rows_of_the_sorted_one(tmp_path, rows):
    events = walk("u", 7) + walk("v", 6, 2)
    mixed = [events[place] for place in np.random.default_rng(0).permutation(len(events))]
    named = []
    for order in (events, mixed):
        (train, _, _), _, _ = world(tmp_path, order, train_rows=rows)
        dataset = train._dataset
        batch = dataset[np.arange(len(dataset))]
        lists = [[str(dataset.id2token("item_id", i)) for i in row if i] for row in batch["item_id_list"]]
        users = [str(user) for user in dataset.id2token("user_id", batch["user_id"])]
        named.append(sorted(zip(users, lists, strict=True)))
    assert named[0] == named[1]


@BOTH
def test_data_in_which_nobody_has_two_events_is_refused(tmp_path, rows):
    with pytest.raises(DataError, match=r"no user of `shop` has two interactions: 2 interactions of 2 users"):
        world(tmp_path, walk("u", 1) + walk("v", 1), train_rows=rows)


def test_two_billion_rows_do_not_overflow():
    from recbole_llm.data.windows import Windows

    first = np.array([2**31 - 3, 2**33], np.int64)
    windows = Windows(first, first + 10, 4, shifted=False, seed=0)
    end, length, _ = windows.rows(np.arange(len(windows)))
    assert length.sum() == 20 and end.max() == 2**33 + 10 and end.min() == 2**31 - 1
