"""Answers pinned to items' names, and what they say then."""

import numpy as np
import pytest
import torch
from three_items import PRESENT, TEXTS, names

from recbole_llm.model.intents import HeuristicIntents
from recbole_llm.model.localization import Names, localized
from recbole_llm.text.artifact import AlignedVectors


def pinned(answer, k, localize="sum"):
    return localized(torch.tensor([answer]), torch.tensor([True]), names(), k=k, localize=localize)[0]


def test_an_answer_becomes_the_names_nearest_to_it():
    assert pinned([1.0, 0.1], 0).tolist() == pytest.approx([1.0, 0.1]), "K = 0: the answer's own vector"
    near = 1 / np.sqrt(1.01)
    assert pinned([1.0, 0.1], 1).tolist() == pytest.approx([2 * near, 0.0])
    diagonal = 1.1 / np.sqrt(2.02)
    two = [2 * near + 3 * diagonal, 3 * diagonal]
    assert pinned([1.0, 0.1], 2).tolist() == pytest.approx(two)
    assert pinned([1.0, 0.1], 2, "mean").tolist() == pytest.approx([two[0] / 2, two[1] / 2])
    share = np.exp(near) / (np.exp(near) + np.exp(diagonal))
    soft = [2 * share + 3 * (1 - share), 3 * (1 - share)]
    assert pinned([1.0, 0.1], 2, "softmax").tolist() == pytest.approx(soft)
    assert pinned([1.0, 0.1], 50).isfinite().all(), "more than there are"


def test_no_answer_has_no_vector():
    found = localized(torch.ones(2, 2), torch.tensor([False, True]), names(), k=1, localize="sum")
    assert not found[0].any() and found[1].any()


def test_answers_are_found_by_names_and_say_all_that_is_known_of_their_items():
    other = AlignedVectors(torch.tensor([[0.0], [5.0], [6.0], [7.0]]).numpy(), PRESENT.numpy())
    both = Names.of([TEXTS, other])
    answer = torch.tensor([[1.0, 0.1]]), torch.tensor([True])
    near = 1 / np.sqrt(1.01)
    found = localized(*answer, both, k=1, localize="sum")[0]
    assert found.tolist() == pytest.approx([2 * near, 0.0, 5 * near])
    assert localized(*answer, both, k=0, localize="sum")[0].tolist() == pytest.approx([1.0, 0.1, 0.0])


def test_whitened_fields_count_alike_and_noise_takes_the_place_of_what_they_say():
    draw = torch.Generator().manual_seed(0)
    wide, narrow = (
        AlignedVectors((torch.randn(50, size, generator=draw) + 9).numpy(), torch.arange(50).numpy() > 0)
        for size in (8, 3)
    )
    found = Names.of([wide, narrow], "full", 8)
    name_I, rest_I = found.vector_IW[1:, :8].norm(dim=1), found.vector_IW[1:, 8:].norm(dim=1)
    assert torch.allclose(name_I, rest_I) and torch.allclose(name_I, torch.full_like(name_I, 5.5**0.5))
    assert not found.vector_IW[0].any()
    answer = HeuristicIntents(found, ("short",), 5, k=1, localize="sum").answer_IW
    assert not torch.allclose(answer, HeuristicIntents(found, ("short",), k=1, localize="sum").answer_IW)
    assert not answer[0].any() and answer[1:].any(1).all()
