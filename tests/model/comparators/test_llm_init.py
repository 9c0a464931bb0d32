"""LLMInit: where its items start, and that it is its backbone from then on."""

import pytest
import torch
from carousel import house, write_carousel


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("llm_init"))


@pytest.mark.parametrize("backbone", ["SRGNN", "GRU4Rec"])
def test_items_start_at_their_texts_as_wide_as_the_backbone_starts_them(folder, backbone):
    start = house(folder, "LLMInit", backbone=backbone).model.model.item_embedding.weight.detach()
    alone = house(folder, backbone).model.item_embedding.weight.detach()
    given = start[1:, :12]  # a text has 12 numbers, a session model may have more
    assert given.std().item() == pytest.approx(alone[1:].std().item(), rel=0.1)
    assert not start[0].any() and not start[:, 12:].any()
    like = torch.corrcoef(start[1:]).flatten()
    texts = torch.as_tensor(house(folder, "LLMInit").train._dataset.text_vectors["title"].vectors)[1:]
    expected = torch.corrcoef(texts - texts.mean(0)).flatten()
    assert torch.corrcoef(torch.stack([like, expected]))[0, 1] > 0.8, "items alike in text begin alike"


def test_an_item_without_a_text_starts_at_zero(folder):
    world = house(folder, "LLMInit", without=("i3", "i4"))
    ids = world.train._dataset.field2token_id["item_id"]
    start = world.model.model.item_embedding.weight
    bare = [token for token, row in ids.items() if not start[row].any()]
    assert sorted(bare) == ["[PAD]", "i3", "i4"]


def test_other_weights_make_other_items_of_a_backbone_that_keeps_them(folder):
    world, other = (house(folder, "LLMInit", backbone="DHCN", seed=seed) for seed in (1, 2))
    batch = next(iter(world.test))[0]
    expected = other.model.eval().full_sort_predict(batch)
    before = world.model.eval().full_sort_predict(batch)
    world.model.load_state_dict(other.model.state_dict())
    after = world.model.full_sort_predict(batch)
    assert torch.allclose(after, expected, atol=1e-6) and not torch.allclose(before, expected, atol=1e-3)
