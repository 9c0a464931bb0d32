"""Items made new: which ones, that nothing of them is left in training, and that all else is as it was."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shop import events, loaders, write

from recbole_llm.data.cold import choose
from recbole_llm.data.dataset import NEXT_ITEMS
from recbole_llm.errors import DataError, SettingError


def chosen(share, by, seed=0):
    """Of items 1..20, item n seen n times; item 1 first, item 20 last."""
    item_N = np.repeat(np.arange(1, 21), np.arange(1, 21))
    trained_N = np.ones(len(item_N), bool)
    return np.flatnonzero(choose(item_N, item_N * 10, trained_N, 21, share, by, seed))


def test_of_each_few_items_of_like_popularity_one_is_chosen():
    for seed in range(20):
        assert [item // 5 for item in chosen(0.2, "popularity", seed) - 1] == [0, 1, 2, 3]
    assert len({tuple(chosen(0.2, "popularity", seed)) for seed in range(20)}) > 5


def test_the_newest_items_are_those_that_appear_last():
    assert list(chosen(0.2, "newest")) == [17, 18, 19, 20]


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_share_of_no_item_or_of_all_is_refused(share):
    with pytest.raises(DataError, match="expected one or more, not all"):
        chosen(share, "popularity")


def listed(part):
    """(user, history, target) of every row, as tokens."""
    dataset, found = part._dataset, []
    for batch in part:
        rows = batch[0] if isinstance(batch, tuple) else batch
        users, tokens = dataset.field2id_token["user_id"], dataset.field2id_token["item_id"]
        for user, items, length, target in zip(
            rows["user_id"], rows["item_id_list"], rows["item_length"], rows["item_id"], strict=True
        ):
            found.append((users[int(user)], tuple(tokens[items[:length].numpy()]), tokens[int(target)]))
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=events(), by=st.sampled_from(["popularity", "newest"]))
def test_training_is_what_it_would_be_had_the_items_no_event_and_the_test_part_stays(tmp_path, rows, by):
    rows = [(user, item, 1_000_000 * time, rating) for user, item, time, rating in rows]
    write(tmp_path, rows, "user_id:token\titem_id:token\ttimestamp:float\trating:float")
    try:
        before = loaders(tmp_path)
        after = loaders(tmp_path, cold_share=0.3, cold_by=by)
    except (DataError, ValueError, SettingError):
        return  # too few events for three parts, or too few items
    cold = after[2]._dataset.cold
    names = set(after[2]._dataset.field2id_token["item_id"][cold.numpy()])
    expected = []
    for user in {row[0] for row in rows}:
        items = [row[1] for row in sorted(rows, key=lambda row: row[2]) if row[0] == user]
        trained = items[: len(items) - min(2, max(len(items) - 2, 0))]  # leave-one-out
        left = [item for item in trained if item not in names]
        expected += [(user, tuple(left[max(0, end - 4) : end]), left[end]) for end in range(1, len(left))]
    assert sorted(listed(after[0])) == sorted(expected)
    assert listed(after[1]) == [row for row in listed(before[1]) if row[2] not in names]
    assert listed(after[2]) == listed(before[2])


def test_windows_show_nothing_of_a_new_item(tmp_path):
    write(tmp_path, [(f"u{u}", f"i{(u + k) % 9}", k) for u in range(6) for k in range(9)])
    train = loaders(tmp_path, train_rows="dense", cold_share=0.3)[0]
    cold = train._dataset.cold
    targets = 0
    for batch in train:
        assert not cold[batch["item_id_list"]].any() and not cold[batch[NEXT_ITEMS]].any()
        targets += int((batch[NEXT_ITEMS] > 0).sum())
    assert targets == len(train._dataset.inter_feat) > 0
    assert train._dataset.train_counts()[cold].sum() == 0


def test_a_model_without_such_rows_is_refused(tmp_path):
    from recbole_llm.train.build import configure

    write(tmp_path, [(f"u{u}", f"i{(u + k) % 9}", k) for u in range(6) for k in range(9)])
    given = {"model": "BPR", "dataset": "shop", "data_path": str(tmp_path), "cold_share": 0.3}
    with pytest.raises(SettingError, match="cold_share needs a sequential model.*BPR has none"):
        configure("BPR", given)
    sampled = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni5"}
    given |= {"model": "SASRec", "train_neg_sample_args": "None", "eval_args": sampled}
    with pytest.raises(
        SettingError, match="cold_share needs the ranks of all items: set eval_args' mode to full"
    ):
        configure("SASRec", given)


def test_the_newest_items_need_times_that_compare_between_users(tmp_path):
    write(tmp_path, [(f"u{u}", f"i{(u + k) % 9}", k) for u in range(6) for k in range(9)])
    with pytest.raises(DataError, match="cold_by: newest compares times between users, but 100%"):
        loaders(tmp_path, cold_share=0.3, cold_by="newest")
