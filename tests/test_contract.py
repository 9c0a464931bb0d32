"""What every model of the package promises, whatever its paper; one class more in ``MODELS`` is one row more here."""

import pytest
import torch
from carousel import N_ITEMS, house, write_carousel

from recbole_llm.errors import SettingError
from recbole_llm.model import MODELS, checkpoint
from recbole_llm.train.trainer import trainer_for

NUMBERED = ("table.own.weight", "item_embedding.weight")  # weights with a row for each item
READ_TEXT = sorted(name for name, model in MODELS.items() if hasattr(model, "reads_text"))
NOT_CAUSAL = sorted(name for name, model in MODELS.items() if not model.causal)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("contract"))


@pytest.fixture(scope="module", params=sorted(MODELS))
def learnt(request, folder):
    """Each model once, trained on the carousel."""
    world = house(folder, request.param, epochs=30, eval_step=30, average_decay="None")
    world.trainer = trainer_for(world.config, world.model)
    world.trainer.fit(world.train, world.valid, verbose=False, saved=True)
    world.model.eval()
    world.batch = next(iter(world.test))[0]
    return world


@pytest.fixture(params=sorted(MODELS))
def name(request):
    return request.param


def test_it_learns_the_carousel(learnt):
    if not learnt.model.learns:
        pytest.skip("has nothing to learn")
    found = learnt.trainer.evaluate_both_ways(learnt.test)
    assert found.unmasked["recall@1"] > 0.9


def test_scores_are_finite_and_one_per_item(learnt):
    scores = learnt.model.full_sort_predict(learnt.batch)
    assert scores.shape == (len(learnt.batch), N_ITEMS + 1)
    assert torch.isfinite(scores).all()


def test_predict_is_the_gathered_full_sort(learnt):
    scores = learnt.model.full_sort_predict(learnt.batch)
    one = learnt.model.predict(learnt.batch)
    assert torch.allclose(one, scores.gather(1, learnt.batch["item_id"][:, None]).squeeze(1), atol=1e-5)


def test_permuting_the_batch_permutes_the_scores(learnt):
    order = torch.randperm(len(learnt.batch), generator=torch.Generator().manual_seed(0))
    scores = learnt.model.full_sort_predict(learnt.batch)
    assert torch.allclose(learnt.model.full_sort_predict(learnt.batch[order]), scores[order], atol=1e-5)


def test_a_batch_of_one_is_scored_as_in_company(learnt):
    alone = learnt.model.full_sort_predict(learnt.batch[torch.tensor([3])])
    assert torch.allclose(alone, learnt.model.full_sort_predict(learnt.batch)[3:4], atol=1e-5)


def test_saving_and_loading_keeps_the_scores(learnt, folder, tmp_path):
    scores = learnt.model.full_sort_predict(learnt.batch)
    checkpoint.save(tmp_path / "weights.safetensors", learnt.model.state_dict(), {"other_parameter": {}})
    fresh = house(folder, type(learnt.model).__name__, seed=5).model.eval()
    assert learnt.model.learns is not torch.allclose(fresh.full_sort_predict(learnt.batch), scores, atol=1e-3)
    fresh.load_state_dict(checkpoint.load(tmp_path / "weights.safetensors")[0])
    assert torch.equal(fresh.full_sort_predict(learnt.batch), scores)


def test_a_position_does_not_see_what_comes_after_it(learnt):
    if not learnt.model.causal:
        pytest.skip("reads a history as a whole")
    changed = learnt.batch.interaction["item_id_list"].clone()
    last = learnt.batch["item_length"] - 1
    changed[torch.arange(len(changed)), last] = 1
    before = learnt.model(learnt.batch["item_id_list"], last.clamp(min=1))
    after = learnt.model(changed, last.clamp(min=1))
    longer = last >= 1
    assert torch.allclose(before[longer], after[longer], atol=1e-6)


def test_the_target_of_a_row_is_never_read(learnt):
    other = learnt.batch[torch.arange(len(learnt.batch))]
    for column in ("item_id", "timestamp"):
        other.interaction[column] = torch.ones_like(other[column])
    assert torch.equal(learnt.model.full_sort_predict(other), learnt.model.full_sort_predict(learnt.batch))


@pytest.mark.parametrize("name", NOT_CAUSAL)
def test_a_model_that_reads_a_history_as_a_whole_refuses_windows(name, folder):
    with pytest.raises(SettingError, match=f"left to right, but {name} is not known to.*train_rows: prefix"):
        house(folder, name, train_rows="dense")


def test_what_stands_behind_a_history_is_not_read(learnt):
    changed = learnt.batch.interaction["item_id_list"].clone()
    behind = torch.arange(changed.shape[1]) >= learnt.batch["item_length"][:, None]
    assert behind.any()
    before = learnt.model(changed, learnt.batch["item_length"])
    changed[behind] = 3
    assert torch.equal(learnt.model(changed, learnt.batch["item_length"]), before)


@pytest.mark.parametrize("name", READ_TEXT)
def test_wrong_text_vectors_change_the_scores(name, folder):
    batch = next(iter(house(folder, name).test))[0]
    keys = {"start": "random"} if name == "LLM4SBR" else {}  # it starts as its backbone, which reads no text
    right, wrong = (
        house(folder, name, salt=salt, **keys).model.eval().full_sort_predict(batch) for salt in (0, 9)
    )
    assert not torch.allclose(right, wrong, atol=1e-3)


def test_the_order_of_rows_in_the_file_does_not_matter(name, folder, tmp_path):
    there, back = house(folder, name), house(write_carousel(tmp_path, shuffled=True), name)

    def by_token(world):
        world.model.eval()
        tokens = world.train._dataset.field2id_token["item_id"]
        for name, weight in world.model.named_parameters():
            if name.endswith(NUMBERED):  # the starting weights depend on the numbering, the model must not
                numbers = [int(token[1:]) + 1 if row else 0 for row, token in enumerate(tokens)]
                weight.data = torch.tensor(numbers)[:, None] / 100 * torch.linspace(-1, 1, weight.shape[1])
        scores = torch.cat([world.model.full_sort_predict(batch[0]) for batch in world.test])
        users = torch.cat([batch[0]["user_id"] for batch in world.test])
        names = world.train._dataset.id2token("user_id", users)
        columns = sorted(range(1, len(tokens)), key=lambda number: tokens[number])
        return scores[sorted(range(len(names)), key=lambda row: names[row])][:, columns]

    assert torch.allclose(by_token(there), by_token(back), atol=2e-5)
