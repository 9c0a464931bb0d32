"""Dropout drawn four numbers at a time."""

import pytest
import torch

from recbole_llm.model.dropout import Dropout


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_every_place_is_dropped_at_the_rate_and_the_mean_is_kept(rate):
    torch.manual_seed(0)
    ones = torch.ones(400, 1003)  # not a multiple of four
    dropped = Dropout(rate)(ones)
    kept = (dropped != 0).double()
    assert kept.mean().item() == pytest.approx(1 - rate, abs=0.003)
    for place in range(4):  # each quarter of a 64-bit draw
        assert kept.flatten()[place::4].mean().item() == pytest.approx(1 - rate, abs=0.005)
    assert torch.allclose(dropped[dropped != 0], torch.tensor(1 / (1 - rate)))
    assert (kept[:, 1:] * kept[:, :-1]).mean().item() == pytest.approx((1 - rate) ** 2, abs=0.005)


def test_gradients_pass_where_numbers_are_kept_and_evaluation_changes_nothing():
    torch.manual_seed(0)
    numbers = torch.randn(50, 7, requires_grad=True)
    dropped = Dropout(0.5)(numbers)
    dropped.sum().backward()
    assert torch.equal(numbers.grad, torch.where(dropped != 0, 2.0, 0.0))
    assert Dropout(0.5).eval()(numbers) is numbers and Dropout(0.0)(numbers) is numbers
