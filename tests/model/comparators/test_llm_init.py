"""LLMInit: where its items start, and that it is its backbone from then on."""

import pytest
import torch
from carousel import house, write_carousel


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("llm_init"))


def test_other_weights_make_other_items_of_a_backbone_that_keeps_them(folder):
    world, other = (house(folder, "LLMInit", backbone="DHCN", seed=seed) for seed in (1, 2))
    batch = next(iter(world.test))[0]
    expected = other.model.eval().full_sort_predict(batch)
    before = world.model.eval().full_sort_predict(batch)
    world.model.load_state_dict(other.model.state_dict())
    after = world.model.full_sort_predict(batch)
    assert torch.allclose(after, expected, atol=1e-6) and not torch.allclose(before, expected, atol=1e-3)
