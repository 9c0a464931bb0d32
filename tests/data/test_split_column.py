"""The parts that a column of the file names: rows, histories, ranks, and what they refuse."""

import pytest
import torch
from carousel import house

from recbole_llm.errors import DataError, SettingError
from recbole_llm.evaluation.leaks import leaks_of
from recbole_llm.train.trainer import trainer_for

USERS, EVENTS = 12, 6


def part_of(user, event):
    """Users 0-7 train on all events but the first; of the others the last alone is a target, the rest is read."""
    if user < 8:
        return "train" if event else "none"
    return "none" if event < EVENTS - 1 else "valid" if user < 10 else "test"


def world(tmp_path, part_of=part_of, model="GRU4Rec", **keys):
    rows = [(u, e, (3 * u + e) % 9) for u in range(USERS) for e in range(EVENTS)]
    folder = tmp_path / "carousel"
    folder.mkdir(exist_ok=True)
    lines = [f"u{u}\ti{item}\t{1_600_000_000 + 100 * u + e}\t{part_of(u, e)}" for u, e, item in rows]
    (folder / "carousel.inter").write_text(
        "user_id:token\titem_id:token\ttimestamp:float\tmine:token\n" + "\n".join(lines) + "\n"
    )
    return house(tmp_path, model, **{"split_column": "mine", "topk": [1, 3]} | keys)


def test_the_parts_are_those_of_the_column(tmp_path):
    parts = [loader._dataset for loader in vars(world(tmp_path)).values() if hasattr(loader, "_dataset")]
    tokens = [[part.id2token("user_id", user) for user in part.inter_feat["user_id"]] for part in parts]
    assert tokens[0] == sorted(f"u{u}" for u in range(8) for _ in range(EVENTS - 1))
    assert sorted(tokens[1]) == ["u8", "u9"] and sorted(tokens[2]) == ["u10", "u11"]
    assert parts[2].inter_feat["item_length"].tolist() == [EVENTS - 1] * 2
    assert len(parts[2].history_of(parts[2].inter_feat)[0]) == 2 * (EVENTS - 1)  # seen items can be masked


def test_no_batch_holds_the_column(tmp_path):
    batch = next(iter(world(tmp_path).train))
    assert not [name for name in batch.interaction if "mine" in name]


def test_events_that_no_training_row_reads_are_not_counted(tmp_path):
    train = world(tmp_path).train._dataset
    assert train.train_counts().sum() == len(train.own_places()) == 8 * EVENTS
    only_last = world(tmp_path, lambda u, e: part_of(u, e) if e == EVENTS - 1 else "none").train._dataset
    assert len(only_last) == 8
    assert only_last.train_counts().sum() == 8 * EVENTS  # read, if not aimed at


def test_ranks_and_leaks_are_known(tmp_path):
    found = world(tmp_path)
    trainer = trainer_for(found.config, found.model)
    trainer.train_data = found.train
    ranks = trainer.evaluate_both_ways(found.test).ranks.frame(found.test._dataset, torch.ones(10))
    assert sorted(ranks["user"]) == ["u10", "u11"] and ranks["history_length"].tolist() == [EVENTS - 1] * 2
    leaks = leaks_of(found.train._dataset, found.test._dataset)
    assert leaks.targets == 2 and leaks.in_training == 0 and leaks.others_later == 0


def test_training_and_validation_are_joined_for_a_refit(tmp_path):
    asked = {"split": {"LS": "test_only"}, "order": "TO", "group_by": "user", "mode": "full"}
    found = world(tmp_path, eval_args=asked)
    assert len(found.train._dataset) == 8 * (EVENTS - 1) + 2
    assert len(found.valid._dataset) == 0 and len(found.test._dataset) == 2


@pytest.mark.parametrize(
    ("keys", "part_of", "error", "message"),
    [
        (
            {"split_column": "yours"},
            part_of,
            DataError,
            "no column `yours` that was loaded, only user_id, item_id",
        ),
        (
            {},
            lambda u, e: "trian" if u else "none",
            DataError,
            "no target of `carousel` has train nor valid nor test in",
        ),
        ({"eval_args": {"split": {"RS": [8, 1, 1]}}}, part_of, SettingError, "give one of the two"),
        ({"model": "BPR"}, part_of, SettingError, "split_column needs a sequential model"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(tmp_path, keys, part_of, error, message):
    with pytest.raises(error, match=message):
        world(tmp_path, part_of, **keys)


def test_windows_over_sessions_that_are_asked_for_their_last_event_alone_are_refused(tmp_path):
    with pytest.raises(DataError, match="8 of 8 users have gaps in it, or no target at their second event"):
        world(tmp_path, lambda u, e: part_of(u, e) if e == EVENTS - 1 else "none", train_rows="dense")


def test_without_the_key_the_column_is_not_loaded(tmp_path):
    assert "mine" not in world(tmp_path, split_column=None).train._dataset.events
