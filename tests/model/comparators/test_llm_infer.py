"""LLMInfer: sums of answers by hand, and what it refuses."""

import pytest
import torch
from carousel import house, write_carousel
from three_items import names

from recbole_llm.data.intents import Intents
from recbole_llm.errors import SettingError
from recbole_llm.model.base import Beside
from recbole_llm.model.intents import GivenIntents
from recbole_llm.model.layout import Layout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("llm_infer"))


def test_views_are_summed_at_length_one_and_a_missing_answer_adds_nothing(folder):
    model = house(folder, "LLMInfer", views={"long": "global", "short": "local"}).model
    events, tokens = (torch.tensor([7, 7, 7, 8]), torch.tensor([1, 1, 1, 1])), ["[PAD]", "one"]
    given = {
        "long": Intents.of(
            torch.tensor([[0.0, 0.0], [0.0, 9.0], [5.0, 0.0]]),
            torch.tensor([0, 1, 2, 0]),
            *events,
            tokens=tokens,
        ),
        "short": Intents.of(
            torch.tensor([[0.0, 0.0], [4.0, 4.0]]), torch.tensor([0, 1, 0, 0]), *events, tokens=tokens
        ),
    }
    model.intents = GivenIntents(given, names(), k=0, localize="sum")
    items, length = torch.ones(3, 2, dtype=torch.long), torch.tensor([1, 2, 1])
    layout = Layout.of(length, only_last=True)
    both = [0.5**0.5, 1 + 0.5**0.5]
    found = model.encode(items, layout, Beside(end_B=torch.tensor([1, 2, 3])))
    assert found.flatten().tolist() == pytest.approx([*both, 1.0, 0.0, 0.0, 0.0]), "place 3: nobody was asked"
    assert not model.encode(items, layout, Beside()).any(), "new sessions"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"topk_localize": -1}, "config key `topk_localize` is -1, expected 0 or more"),
        ({"views": {}}, "config key `views` has none, expected one at least"),
        (
            {"views": {"long": "globl"}},
            "`views` has long: globl, expected for each view one of global, local, fused",
        ),
        ({"views": {"third": "local"}}, "views: nothing stands in for the answers of third"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_a_sentence(folder, keys, message):
    with pytest.raises(SettingError) as refusal:
        house(folder, "LLMInfer", **keys)
    assert message in str(refusal.value)
