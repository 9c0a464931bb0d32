"""LLMSeqSim: sessions as weighed means of their items' texts, by hand."""

import pytest
import torch
from carousel import house, write_carousel

from recbole_llm.errors import SettingError

TEXTS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
SESSIONS, LENGTHS = torch.tensor([[1, 1, 2], [2, 3, 0], [3, 0, 0]]), torch.tensor([3, 2, 1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("llm_seq_sim"))


@pytest.mark.parametrize(
    ("keys", "first", "second"),
    [
        ({"session": "mean"}, [2.0, 1.0], [-1.0, 1.0]),
        ({"session": "last"}, [0.0, 1.0], [-1.0, 0.0]),
        ({"session": "decayed", "half_life": 1.0}, [0.75, 1.0], [-1.0, 0.5]),
        ({"session": "decayed", "half_life": 2.0}, [0.5 + 0.5**0.5, 1.0], [-1.0, 0.5**0.5]),
    ],
)
def test_a_session_is_the_weighed_mean_of_its_texts_at_length_one(folder, keys, first, second):
    model = house(folder, "LLMSeqSim", **keys).model
    model.text_ID = TEXTS
    expected = torch.nn.functional.normalize(torch.tensor([first, second, [-1.0, 0.0]]), dim=1)
    assert torch.allclose(model(SESSIONS, LENGTHS), expected, atol=1e-6), "padding has no share"


def test_the_score_is_the_cosine_and_an_item_without_text_has_none(folder):
    world = house(folder, "LLMSeqSim", session="last", without=("i3",))
    model, batch = world.model.eval(), next(iter(world.test))[0]
    scores, row = model.full_sort_predict(batch), torch.arange(len(batch["item_length"]))
    last = batch["item_id_list"][row, batch["item_length"] - 1]
    unknown = world.train._dataset.field2token_id["item_id"]["i3"]
    assert not scores[:, unknown].any() and not scores[last == unknown].any()
    assert torch.allclose(scores[row, last][last != unknown], torch.ones(()), atol=1e-5)


def test_a_half_life_that_cannot_be_is_refused(folder):
    with pytest.raises(SettingError, match="config key `half_life` is 0.0, expected more than 0"):
        house(folder, "LLMSeqSim", session="decayed", half_life=0.0)
