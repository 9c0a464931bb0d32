"""Our batches are RecBole's own, to the bit; and what RecBole loses (exact times, the order of ties) is kept."""

import numpy as np
import torch
from carousel import assert_same_batches, house, write_carousel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recbole.config import Config
from recbole.data.dataset import DIENDataset, SequentialDataset
from recbole.utils import init_seed
from shop import events, loaders, write

from recbole_llm.data.dataset import ELAPSED, NEXT_ELAPSED, NEXT_ITEMS, ROW_END, OffsetDataset


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=events(),
    mode=st.sampled_from(["full", "uni5"]),
    held_out=st.sampled_from(["valid_and_test", "valid_only", "test_only"]),
)
def test_batches_are_bit_equal_to_recboles(tmp_path, rows, mode, held_out):
    if all(sum(row[0] == f"u{u}" for row in rows) < 3 for u in range(6)):
        return  # nobody has a row to train on
    write(tmp_path, rows, "user_id:token\titem_id:token\ttimestamp:float\trating:float")
    keys = {
        "load_col": {"inter": ["user_id", "item_id", "timestamp", "rating"]},
        "eval_args": {"split": {"LS": held_out}, "order": "TO", "mode": mode, "group_by": "user"},
    }
    ours, theirs = loaders(tmp_path, **keys), loaders(tmp_path, SequentialDataset, **keys)
    for our_part, their_part in zip(ours, theirs, strict=True):
        init_seed(5, True)
        ours_listed = list(our_part)
        init_seed(5, True)
        assert_same_batches(ours_listed, list(their_part))


def test_the_matrix_of_users_and_items_is_recboles(tmp_path):
    write(tmp_path, [(f"u{u}", f"i{(u * k) % 5}", k) for u in range(4) for k in range(1, 7)])
    ours, theirs = loaders(tmp_path)[0]._dataset, loaders(tmp_path, SequentialDataset)[0]._dataset
    assert (ours.inter_matrix() != theirs.inter_matrix()).nnz == 0
    assert ours.inter_matrix().nnz == 16


def test_a_history_costs_two_numbers_not_a_row_of_a_matrix(tmp_path):
    write(tmp_path, [("u", f"i{k}", k) for k in range(300)])
    part = loaders(tmp_path, MAX_ITEM_LIST_LENGTH=100)[0]._dataset
    assert "item_id_list" not in part.inter_feat.interaction
    assert all(column.ndim == 1 for column in part.inter_feat.interaction.values())


def test_times_that_float32_cannot_tell_apart_keep_their_order(tmp_path):
    times = [978300000, 978300001, 978300002, 978300003, 978300010, 978300011]
    write(tmp_path, [("u", f"i{9 - k}", time) for k, time in reversed(list(enumerate(times)))])
    train, valid, test = loaders(tmp_path)
    dataset = train._dataset
    names = dataset.id2token("item_id", dataset.events["item_id"])
    assert list(names) == ["i9", "i8", "i7", "i6", "i5", "i4"]
    assert next(iter(test))[0][ELAPSED].tolist() == [
        [0, 1, 2, 9]
    ]  # the last 4 of 5 events, from the second on


def test_events_at_one_time_keep_the_order_of_the_file(tmp_path):
    write(tmp_path, [("u", name, 7) for name in "dbacef"] + [("v", "a", 1), ("v", "b", 1), ("v", "c", 1)])
    test = loaders(tmp_path)[2]
    rows = next(iter(test))[0]
    assert list(test._dataset.id2token("item_id", rows["item_id"])) == ["c", "f"]  # v's comes first in time


def test_a_dense_batch_by_hand(tmp_path):
    write(
        tmp_path, [("u", f"i{k}", 10 * k) for k in range(1, 9)]
    )  # i8 is the test item, i7 the validation item
    train = loaders(tmp_path, train_rows="dense", window_shift=False)[0]
    rows = train._dataset[np.arange(2)]
    tokens = train._dataset.field2id_token["item_id"]

    def named(column):
        return [[tokens[item] for item in row if item] for row in rows[column]]

    assert named("item_id_list") == [["i1"], ["i2", "i3", "i4", "i5"]]
    assert named(NEXT_ITEMS) == [["i2"], ["i3", "i4", "i5", "i6"]]
    assert rows["item_length"].tolist() == [1, 4]
    assert rows[ELAPSED].tolist() == [[0, 0, 0, 0], [0, 10, 20, 30]]


def test_the_events_that_overlap_are_read_and_are_no_targets_again(tmp_path):
    write(tmp_path, [("u", f"i{k}", k) for k in range(1, 11)])  # i9 and i10 are held out
    train = loaders(tmp_path, train_rows="dense", window_shift=False, window_overlap=2)[0]
    rows = train._dataset[np.arange(3)]
    tokens = train._dataset.field2id_token["item_id"]
    read = [[tokens[item] for item in row if item] for row in rows["item_id_list"]]
    taught = [[tokens[item] if item else "" for item in row] for row in rows[NEXT_ITEMS]]
    assert read == [["i1", "i2", "i3"], ["i2", "i3", "i4", "i5"], ["i4", "i5", "i6", "i7"]]
    assert taught == [["i2", "i3", "i4", ""], ["", "", "i5", "i6"], ["", "", "i7", "i8"]]


def test_query_times_are_given_only_when_asked_for(tmp_path):
    write(tmp_path, [("u", f"i{k}", k * k) for k in range(1, 9)])
    assert NEXT_ELAPSED not in next(iter(loaders(tmp_path)[2]))[0]
    rows = next(iter(loaders(tmp_path, use_query_time=True)[2]))[0]
    assert rows[ELAPSED].tolist() == [[0, 9, 20, 33]]  # times 16, 25, 36, 49; the target is at 64
    assert rows[NEXT_ELAPSED].tolist() == [[9, 20, 33, 48]]


def test_the_whole_history_is_masked_not_the_window_alone(tmp_path):
    write(tmp_path, [("u", f"i{k}", k) for k in range(9)] + [("v", f"i{k}", k) for k in range(3)])
    rows = next(iter(loaders(tmp_path)[2]))[0]
    number, item = loaders(tmp_path)[2]._dataset.history_of(rows)
    assert number.tolist() == [0] * 8 + [1] * 2 and (rows[ROW_END] == torch.tensor([8, 11])).all()
    assert len(set(item[:8].tolist())) == 8


def test_training_counts_leave_validation_and_test_out(tmp_path):
    write(tmp_path, [("u", "a", 1), ("u", "b", 2), ("u", "a", 3), ("u", "c", 4), ("u", "d", 5)])
    dataset = loaders(tmp_path)[0]._dataset
    counts = dict(zip(dataset.field2id_token["item_id"], dataset.train_counts().tolist(), strict=True))
    assert counts == {"[PAD]": 0, "a": 2, "b": 1, "c": 0, "d": 0}


def test_dense_and_prefix_rows_teach_the_same_targets(tmp_path):
    write_carousel(tmp_path, n_users=9)
    dense, prefix = (house(tmp_path, train_rows=rows).train for rows in ("dense", "prefix"))
    taught = torch.cat([batch[NEXT_ITEMS].flatten() for batch in dense])
    assert sorted(taught[taught > 0].tolist()) == sorted(
        item for batch in prefix for item in batch["item_id"].tolist()
    )


def test_stock_recbole_gets_the_offsets_by_one_key(tmp_path):
    from recbole.quick_start import quick_start

    write(tmp_path, [(f"u{u}", f"i{k}", k) for u in range(4) for k in range(9)])
    given = {"data_path": str(tmp_path), "MAX_ITEM_LIST_LENGTH": 4, "train_neg_sample_args": None}
    given["load_col"] = {"inter": ["user_id", "item_id", "timestamp"]}
    found = {}
    for key in (True, False, None):
        settings = given if key is None else given | {"history_as_offsets": key}
        config = Config(model="SASRec", dataset="shop", config_dict=settings)
        found[key] = type(quick_start.create_dataset(config))
    assert found == {True: OffsetDataset, False: SequentialDataset, None: SequentialDataset}
    config = Config(model="DIEN", dataset="shop", config_dict=given | {"history_as_offsets": True})
    assert type(quick_start.create_dataset(config)) is DIENDataset  # it makes rows in a way of its own
    config = Config(model="BPR", dataset="shop", config_dict=given | {"history_as_offsets": True})
    assert not isinstance(quick_start.create_dataset(config), SequentialDataset)


def test_validation_may_look_at_some_users_drawn_once(tmp_path):
    write(tmp_path, [(f"u{u}", f"i{k}", k) for u in range(30) for k in range(6)])
    drawn = []
    for seed in (1, 1, 2):
        train, valid, test = loaders(tmp_path, valid_users=7, seed=seed)
        users = [user for batch in valid for user in batch[0]["user_id"].tolist()]
        assert len(users) == 7 == len(set(users)) and len(valid._dataset) == 7
        assert len(test._dataset) == 30 and len(train._dataset) == 90
        drawn.append(users)
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(loaders(tmp_path, valid_users=99)[1]._dataset) == 30


def test_lists_within_events_are_gathered_as_recbole_copies_them(tmp_path):
    rows = [
        (f"u{u}", f"i{(u + k) % 6}", k, " ".join(f"t{n}" for n in range(k % 3 + 1)), f"{k}.5 {u}.25")
        for u in range(5)
        for k in range(2 + u)
    ]
    write(tmp_path, rows, "user_id:token\titem_id:token\ttimestamp:float\ttags:token_seq\tplace:float_seq")
    keys = {"load_col": {"inter": ["user_id", "item_id", "timestamp", "tags", "place"]}}
    ours, theirs = loaders(tmp_path, **keys), loaders(tmp_path, SequentialDataset, **keys)
    for parts in zip(ours, theirs, strict=True):
        listed = []
        for part in parts:
            init_seed(5, True)
            listed.append(list(part))
        assert_same_batches(*listed)
    assert listed[0][0][0]["tags_list"].shape[1:] == (4, 3)
