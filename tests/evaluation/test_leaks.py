"""What the training part knew, on small data where it can be counted by hand."""

import pytest
from recbole.data import create_dataset, data_preparation
from recbole.utils import init_seed

from recbole_llm.evaluation.leaks import Leaks, leaks_of, warning
from recbole_llm.train.build import configure

BY_TIME = {"split": {"RS": [0.5, 0.25, 0.25]}, "order": "TO", "group_by": None, "mode": "full"}
AT_RANDOM = {"split": {"RS": [0.5, 0.25, 0.25]}, "order": "RO", "group_by": "user", "mode": "full"}


def leaks(folder, rows, model="SASRec", **keys):
    (folder / "shop").mkdir(exist_ok=True)
    head = "user_id:token\titem_id:token\ttimestamp:float"
    (folder / "shop" / "shop.inter").write_text(
        "\n".join([head, *("\t".join(map(str, row)) for row in rows)]) + "\n"
    )
    given = {"model": model, "dataset": "shop", "data_path": str(folder), "train_neg_sample_args": "None"}
    config = configure(
        model, {key: value for key, value in (given | keys).items() if model != "BPR" or "neg" not in key}
    )
    config["checkpoint_dir"] = str(folder)
    init_seed(1, True)
    train, _, test = data_preparation(config, create_dataset(config))
    return leaks_of(train._dataset, test._dataset)


def test_leave_one_out_trains_on_what_others_did_later(tmp_path):
    early = [("early", f"i{k}", 1000 + 7 * k) for k in range(5)]  # training: 1000, 1007, 1014; test: 1028
    late = [("late", f"i{k}", 1020 + 9 * k) for k in range(5)]  # training: 1020, 1029, 1038; test: 1056
    found = leaks(tmp_path, early + late)
    assert found == Leaks(
        targets=2, in_training=0, timed=2, own_later=0, others_later=pytest.approx((2 / 6 + 0) / 2)
    )
    assert warning(found, {"eval_args": BY_TIME}) is None


def test_one_cut_in_time_trains_on_nothing_later(tmp_path):
    found = leaks(
        tmp_path,
        [(f"u{u}", f"i{k}", 1000 + 9 * k + u) for u in range(5) for k in range(9)],
        eval_args=BY_TIME,
    )
    assert (found.targets, found.in_training, found.own_later, found.others_later) == (10, 0, 0, 0.0)


def test_counts_say_nothing_of_other_users(tmp_path):
    clock = [("clock", f"i{k}", 1000 + k) for k in range(5)]
    counts = [("count", f"i{k}", 1 + k) for k in range(5)]
    assert leaks(tmp_path, clock + counts) == Leaks(2, 0, 1, 0, 0.0)
    assert leaks(tmp_path, counts) == Leaks(1, 0)


def test_a_random_split_is_warned_of(tmp_path):
    rows = [(f"u{u}", f"i{k + u}", 1000 + 9 * k + u) for u in range(6) for k in range(12)]
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    found = leaks(tmp_path, rows, "BPR", eval_args=AT_RANDOM, load_col=columns)
    assert found.targets == found.timed == 18 and found.in_training == 0 and 0 < found.own_later <= 18
    assert "have a later event of their user in training" in warning(found, {"eval_args": AT_RANDOM})


def test_what_is_drawn_at_random_is_warned_of_whatever_is_known_of_times():
    unknown = Leaks(targets=6, in_training=0)
    for found in (unknown, None):
        assert "training events were drawn at random (eval_args' order: RO)" in warning(
            found, {"eval_args": AT_RANDOM}
        )
        assert warning(found, {"eval_args": AT_RANDOM, "benchmark_filename": ["a", "b", "c"]}) is None


def test_a_target_that_its_user_had_in_training_is_counted_where_events_are_not_told_apart(tmp_path):
    rows = [(f"u{u}", f"i{u}", 1000 + k) for u in range(3) for k in range(8)]  # each user has one item alone
    found = leaks(tmp_path, rows, "BPR", eval_args=AT_RANDOM, load_col={"inter": ["user_id", "item_id"]})
    assert found == Leaks(targets=6, in_training=6)
    assert "training rows hold 6 of the 6 test targets" in warning(found, {"eval_args": AT_RANDOM})


def test_an_item_taken_again_is_no_leak_where_times_tell_events_apart(tmp_path):
    rows = [(f"u{u}", f"i{k % 2 + u}", 1_000_000 + 9 * k + u) for u in range(5) for k in range(8)]
    in_order = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
    found = leaks(tmp_path, rows, "BPR", eval_args=in_order)
    assert (found.targets, found.in_training, found.own_later) == (5, 0, 0) and warning(
        found, {"eval_args": in_order}
    ) is None


def test_counts_say_nothing_of_other_users_for_a_general_model_either(tmp_path):
    in_order = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
    rows = [(f"u{u}", f"i{k + u}", k + 1) for u in range(5) for k in range(8)]
    assert leaks(tmp_path, rows, "BPR", eval_args=in_order) == Leaks(5, 0)
