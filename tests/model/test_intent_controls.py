"""Intents exchanged for a control: asked about another user's history, or noise."""

from types import SimpleNamespace

import pytest
import torch

from recbole_llm.errors import SettingError
from recbole_llm.model.intent_controls import AskedElsewhere, among_others, noise_for
from recbole_llm.model.intents import HeuristicIntents
from recbole_llm.model.localization import Names
from recbole_llm.text.artifact import AlignedVectors


def test_answers_are_exchanged_between_users_each_given_once():
    user_A = torch.tensor([0, 4, 4, 4, 0, 1, 1, 2, 3, 3])
    orders = [among_others(user_A, seed) for seed in range(20)]
    for order_A in orders:
        assert order_A.sort().values.tolist() == list(range(10)) and order_A[[0, 4]].tolist() == [0, 4]
        assert ((user_A[order_A] != user_A) | (user_A == 0)).all()
    assert len({tuple(order_A.tolist()) for order_A in orders}) > 3
    with pytest.raises(SettingError, match="histories to exchange, but 2 of 3 are of one user"):
        among_others(torch.tensor([0, 1, 1, 2]), 0)


def test_noise_has_the_answers_mean_and_width_and_none_where_there_is_none():
    known_A = torch.arange(5001) > 0
    answer_AD = torch.randn(5001, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor(
        [1.0, 2.0, 0.0]
    )
    noise_AD = noise_for(answer_AD + 7, known_A, 0)
    assert not noise_AD[0].any()
    assert noise_AD[1:].mean(0).tolist() == pytest.approx([7.0, 7.0, 7.0], abs=0.1)
    assert noise_AD[1:].std(0).tolist() == pytest.approx([1.0, 2.0, 0.0], abs=0.1)


def texts_of(texts, item_B):
    return torch.as_tensor(texts.vectors)[item_B]


def test_elsewhere_is_a_history_of_another_user_for_each_place_once():
    user_N = torch.tensor([1, 1, 1, 2, 3, 3, 3, 3, 4, 4, 5, 5, 5])
    start_N = torch.searchsorted(user_N, user_N)
    item_N = torch.arange(1, 14)
    events = {"user": user_N, "item": item_N}
    dataset = SimpleNamespace(
        events=events, uid_field="user", iid_field="item", user_start=start_N, max_item_list_len=2
    )
    end_B = torch.nonzero(torch.arange(13) > start_N).squeeze(1)  # all rows
    texts = AlignedVectors(torch.eye(14)[:, :13].numpy(), torch.arange(14).numpy() > 0)
    intents = HeuristicIntents(Names.of([texts]), ("short",), k=0, localize="sum")
    asked = AskedElsewhere(intents, dataset, 3)
    items_BL, layout, other_B = asked.history_in_stead(end_B)
    assert (user_N[other_B] != user_N[end_B]).all() and other_B.sort().values.tolist() == end_B.tolist()
    for row, end in enumerate(other_B.tolist()):
        history = item_N[max(int(start_N[end]), end - 2) : end].tolist()
        assert items_BL[row].tolist() == history + [0] * (2 - len(history)), "no more than a model reads"
        assert layout.length_B[row] == len(history)
    assert not torch.equal(AskedElsewhere(intents, dataset, 4).history_in_stead(end_B)[2], other_B), (
        "by the seed"
    )
    answer_BW, known_B = asked(None, None, end_B, end_B)["short"]
    assert known_B.all() and torch.equal(answer_BW, texts_of(texts, item_N[other_B - 1])), (
        "of the other's last item"
    )
    assert not asked(None, None, end_B)["short"][1].any(), "a new session has no place by which to draw"
