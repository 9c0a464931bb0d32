"""Answers as vectors: pinned to items' names, stood in for without a language model, exchanged for a control."""

import numpy as np
import pytest
import torch

from recbole_llm.data.intents import Intents
from recbole_llm.errors import SettingError
from recbole_llm.model.intents import GivenIntents, HeuristicIntents, among_others, localized, noise_for
from recbole_llm.model.layout import Layout
from recbole_llm.text.artifact import AlignedVectors

NAMES = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [3.0, 3.0]])
PRESENT = torch.tensor([False, True, True, True])


def pinned(answer, k, localize="sum"):
    return localized(
        torch.tensor([answer]), torch.tensor([True]), NAMES, PRESENT, k=k, localize=localize
    ).vector_AD[0]


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
    found = localized(
        torch.ones(2, 2), torch.tensor([False, True]), NAMES, PRESENT, k=1, localize="sum"
    ).vector_AD
    assert not found[0].any() and found[1].any()


def test_without_a_language_model_the_medoid_and_the_last_item_answer():
    names = AlignedVectors(NAMES.numpy(), PRESENT.numpy())
    intents = HeuristicIntents(names, ("long", "short", "normal"), k=0, localize="sum")
    layout = Layout.of(torch.tensor([3, 2]), only_last=True)
    items = torch.tensor([[1, 3, 2], [2, 2, 0]])
    item_T, session_T = layout.pack(items), layout.place_T // layout.length
    found = intents(item_T, session_T, layout.last_B)
    assert found["long"][0].tolist() == [[3.0, 3.0], [0.0, 4.0]], "item 3 lies between 1 and 2"
    assert found["short"][0].tolist() == [[0.0, 4.0], [0.0, 4.0]]
    assert torch.equal(found["normal"][0], found["short"][0]), "asked without a qualifier: the last item too"
    assert found["long"][1].all() and found["short"][1].all()


def test_answers_are_exchanged_between_users_each_given_once():
    user_A = torch.tensor([0, 4, 4, 4, 0, 1, 1, 2, 3, 3])
    orders = [among_others(user_A, seed) for seed in range(20)]
    for order_A in orders:
        assert order_A.sort().values.tolist() == list(range(10)) and order_A[[0, 4]].tolist() == [0, 4]
        assert ((user_A[order_A] != user_A) | (user_A == 0)).all()
    assert len({tuple(order_A.tolist()) for order_A in orders}) > 3
    with pytest.raises(SettingError, match="answers to exchange, but 2 of 3 are of one user"):
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


@pytest.mark.parametrize("control", ["shuffled", "random"])
def test_under_a_control_what_stands_in_says_nothing_of_the_session(control):
    names = AlignedVectors(NAMES.numpy(), PRESENT.numpy())
    item_N = torch.tensor([1, 2, 3] * 40)
    intents = HeuristicIntents(names, ("long", "short"), item_N, control, 5, k=0, localize="sum")
    one, end_B = torch.zeros(120, dtype=torch.long), torch.arange(120)
    found = intents(torch.ones(120, dtype=torch.long), end_B, end_B, end_B)  # 120 sessions of item 1 alone
    for vector_BD, known_B in found.values():
        assert known_B.all() and len(vector_BD.unique(dim=0)) == 3, "one item, and the texts of all"
    assert not torch.equal(found["long"][0], found["short"][0])
    assert not intents(one[:1], one[:1], one[:1])["long"][1].any(), "a new session has no place to draw by"


@pytest.mark.parametrize("k", [0, 2])
def test_a_report_says_how_many_answers_name_no_item_and_how_many_one_of_their_session(k):
    user_N, item_N = torch.tensor([1, 1, 1, 2, 2, 2]), torch.tensor([1, 2, 3, 3, 1, 2])
    vector_AD = torch.tensor([[0.0, 0.0], [9.0, 0.1], [9.0, 0.1], [0.0, 1.0], [-1.0, 0.2], [0.0, 7.0]])
    row_N = torch.tensor([0, 1, 2, 0, 3, 4])  # row 5: of another data set
    intents = Intents.of(vector_AD, row_N, user_N, item_N, answered={"training": 0.5, "test": 0.0})
    found = GivenIntents(
        {"long": intents}, AlignedVectors(NAMES.numpy(), PRESENT.numpy()), k=k, localize="sum"
    )
    # 1 and 2 name item 1, which user 1 has met before both; 3 names item 2, which user 2 meets later; 4 names none
    assert found.remarks == (
        "its long answers speak of 50% of training, 0% of test rows",
        "of its 4 long answers 25.0% name no item (best cosine with a name below 0.8), 50.0% one of the session itself",
    )
