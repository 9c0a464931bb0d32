"""One cut in time for all users, times that are counts, places of rows, and histories cut short."""

import pytest
import torch
from shop import loaders, write

from recbole_llm.data.dataset import ROW_END, audience
from recbole_llm.errors import DataError

BY_TIME = {"split": {"RS": [0.5, 0.25, 0.25]}, "order": "TO", "group_by": None, "mode": "full"}
CLOCK = 1_600_000_000  # float32 tells such seconds apart by 128


def test_one_cut_in_time_puts_no_event_of_training_after_one_of_the_test(tmp_path):
    write(tmp_path, [(f"u{u}", f"i{k}", CLOCK + 13 * k + u) for u in range(7) for k in range(9)])
    parts = [loader._dataset for loader in loaders(tmp_path, eval_args=BY_TIME)]
    times = [part.event_times[part.inter_feat[ROW_END]] for part in parts]
    assert [len(part) for part in times] == [28, 14, 14]
    assert times[0].max() <= times[1].min() and times[1].max() <= times[2].min()


def test_a_cut_in_time_needs_times_that_compare_between_users(tmp_path):
    write(tmp_path, [(f"u{u}", f"i{k}", k + 1) for u in range(7) for k in range(9)])
    with pytest.raises(
        DataError, match="100% of the events of `shop` have counts for times.*group_by to user"
    ):
        loaders(tmp_path, eval_args=BY_TIME)


def test_counts_are_told_from_a_clock_user_by_user(tmp_path):
    counted = [("count", f"i{k}", k + 1) for k in range(4)]
    clock = [("clock", f"i{k}", CLOCK + k) for k in range(4)] + [
        ("gap", f"i{k}", t) for k, t in enumerate((1, 2, 400))
    ]
    write(tmp_path, counted + clock)
    data = loaders(tmp_path)[0]._dataset
    users = data.id2token("user_id", data.events["user_id"][data.counted()])
    assert set(users) == {"count"} and len(users) == 4


def test_the_places_of_training_are_all_but_what_is_held_out(tmp_path):
    write(tmp_path, [(f"u{u}", f"i{k}", k) for u in range(3) for k in range(9)])
    train, valid, test = (loader._dataset for loader in loaders(tmp_path))  # histories of four events
    held_out = torch.cat([valid.inter_feat[ROW_END], test.inter_feat[ROW_END]])
    assert sorted([*train.places().tolist(), *held_out.tolist()]) == list(range(27))
    assert test.places().tolist() == [u * 9 + k for u in range(3) for k in range(4, 9)]


def test_a_shortened_history_has_its_last_events_and_is_whole_again_after(tmp_path):
    write(tmp_path, [(f"u{u}", f"i{k}", k) for u in range(3) for k in range(9)])
    test = loaders(tmp_path)[2]
    data = test._dataset
    whole = data[torch.arange(3)]
    with data.shortened(2):
        short = data[torch.arange(3)]
        seen = data.history_of(short)
    assert short["item_length"].tolist() == [2, 2, 2]
    assert torch.equal(short["item_id_list"][:, :2], whole["item_id_list"][:, 2:4])
    assert len(seen[0]) == 3 * 8  # what was seen is still known
    assert torch.equal(data[torch.arange(3)]["item_id_list"], whole["item_id_list"])


def test_random_items_stand_among_the_events_and_are_gone_after(tmp_path):
    write(tmp_path, [(f"u{u}", f"i{k}", k) for u in range(3) for k in range(9)])
    data = loaders(tmp_path, MAX_ITEM_LIST_LENGTH=20)[2]._dataset
    whole = data[torch.arange(3)]
    with data.disturbed(0.5):
        noisy, alone = data[torch.arange(3)], data[torch.tensor([2])]
    assert noisy["item_length"].tolist() == [12, 12, 12]  # eight events and half as many
    for row in range(3):
        columns = ("item_id_list", "timestamp_list")
        own, read = (
            list(zip(*(each[c][row].tolist() for c in columns), strict=True)) for each in (whole, noisy)
        )
        rest = iter(read)
        assert all(event in rest for event in own[:8]), "the events are there, in their order"
        times = [time for _, time in read[:12]]
        assert times == sorted(times) and all(item for item, _ in read[:12]) and set(read[12:]) == {(0, 0.0)}
    assert torch.equal(alone["item_id_list"][0], noisy["item_id_list"][2]), "whatever the batch"
    assert torch.equal(data[torch.arange(3)]["item_id_list"], whole["item_id_list"])


def test_a_random_item_is_never_what_comes_next(tmp_path):
    write(tmp_path, [(f"u{u}", f"i{(u + k) % 3}", k) for u in range(40) for k in range(9)])
    data = loaders(tmp_path, MAX_ITEM_LIST_LENGTH=20)[2]._dataset
    with data.disturbed(1.0):
        noise = data.noise.item_RL
    target = data.inter_feat["item_id"]
    assert (noise != target[:, None]).all() and noise.min() == 1 and noise.max() == 3


def test_where_random_items_make_a_history_too_long_its_oldest_events_fall_out(tmp_path):
    write(tmp_path, [(f"u{u}", f"i{k}", k) for u in range(3) for k in range(9)])
    data = loaders(tmp_path, MAX_ITEM_LIST_LENGTH=8)[2]._dataset
    whole = data[torch.arange(3)]["timestamp_list"]
    with data.disturbed(1.0):
        noisy = data[torch.arange(3)]
    assert noisy["item_length"].tolist() == [8, 8, 8]
    assert (noisy["timestamp_list"][:, -1] >= whole[:, -2]).all()


@pytest.mark.parametrize("keys", [{}, {"cold_share": 0.3}])
def test_the_audience_of_an_item_is_the_users_who_know_it(tmp_path, keys):
    write(tmp_path, [(f"u{u}", f"i{(u + k) % (5 if u else 2)}", k) for u in range(6) for k in range(9)])
    train = loaders(tmp_path, **keys)[0]._dataset
    place = train.own_places()
    pairs = set(
        zip(train.events["user_id"][place].tolist(), train.events["item_id"][place].tolist(), strict=True)
    )
    known_I, users = audience(train)
    assert users == len({user for user, _ in pairs})
    assert known_I.tolist() == [sum(item == i for _, i in pairs) for item in range(train.item_num)]
