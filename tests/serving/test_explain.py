"""An explanation says what the model does: taking out the event that it names lowers the score the most."""

import random

import pytest
import torch
from carousel import house, write_carousel

from recbole_llm.serving.explain import explain
from recbole_llm.train.trainer import trainer_for


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    folder = write_carousel(tmp_path_factory.mktemp("explained"))
    world = house(folder, fields=("title", "colour"), epochs=20, eval_step=20)
    trainer_for(world.config, world.model).fit(world.train, world.valid, verbose=False)
    return world


def histories(world):
    for batch in world.test:
        rows = batch[0]
        for history, length, item in zip(
            rows["item_id_list"], rows["item_length"], rows["item_id"], strict=True
        ):
            yield history[: int(length)], int(item)


def test_the_score_is_the_models_and_the_influence_what_deletion_takes(learnt):
    history, item = next(histories(learnt))
    found = explain(learnt.model, history, item)
    table = learnt.model.scored(learnt.model.current_items())

    def score(events):
        return float((learnt.model(events[None], torch.tensor([len(events)])) @ table[item]).detach())

    assert found.score == pytest.approx(score(history), abs=1e-4)
    for place in range(len(history)):
        rest = torch.cat([history[:place], history[place + 1 :]])
        assert found.influence[place] == pytest.approx(score(history) - score(rest), abs=1e-4)


def test_taking_out_the_named_event_costs_more_than_a_random_one(learnt):
    draw, wins, tried = random.Random(0), 0, 0
    for history, item in histories(learnt):
        if len(history) < 3:
            continue
        influence = explain(learnt.model, history, item).influence
        top = max(range(len(history)), key=influence.__getitem__)
        other = draw.choice([place for place in range(len(history)) if place != top])
        wins, tried = wins + (influence[top] > influence[other]), tried + 1
    assert tried >= 30 and wins / tried >= 0.8


def test_on_the_carousel_the_last_event_speaks_for_the_next(learnt):
    last_is_top = []
    for history, item in histories(learnt):
        influence = explain(learnt.model, history, item).influence
        last_is_top.append(influence[-1] == max(influence))
    assert sum(last_is_top) / len(last_is_top) > 0.8


def test_shares_and_weights_are_shares(learnt):
    history, item = next(histories(learnt))
    found = explain(learnt.model, history, item)
    assert set(found.field_weights) == {"title", "colour"}
    assert sum(found.field_weights.values()) == pytest.approx(1, abs=1e-5)
    assert 0 < found.id_share < 1
    assert all(-1.0001 <= value <= 1.0001 for value in found.likeness)
    assert explain(learnt.model, torch.tensor([item]), item).likeness[0] == pytest.approx(1, abs=1e-5)


def test_a_history_of_one_event_carries_the_whole_score(learnt):
    found = explain(learnt.model, torch.tensor([3]), 4)
    assert found.influence == pytest.approx((found.score,))
