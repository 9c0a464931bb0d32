"""Answers as vectors: pinned to items' names, stood in for without a language model, exchanged for a control."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recbole_llm.data.intents import Intents
from recbole_llm.errors import SettingError
from recbole_llm.model.intents import (
    AskedElsewhere,
    GivenIntents,
    HeuristicIntents,
    Names,
    among_others,
    localized,
    noise_for,
    query,
)
from recbole_llm.model.layout import Layout
from recbole_llm.text.artifact import AlignedVectors

NAMES = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [3.0, 3.0]])
PRESENT = torch.tensor([False, True, True, True])


def pinned(answer, k, localize="sum"):
    return localized(torch.tensor([answer]), torch.tensor([True]), names(), k=k, localize=localize)[0]


def names(whiten="none"):
    return Names.of([AlignedVectors(NAMES.numpy(), PRESENT.numpy())], whiten, 2)


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


def test_without_a_language_model_the_medoid_and_the_last_item_answer():
    intents = HeuristicIntents(names(), ("long", "short", "normal"), k=0, localize="sum")
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


def test_answers_are_found_by_names_and_say_all_that_is_known_of_their_items():
    other = AlignedVectors(torch.tensor([[0.0], [5.0], [6.0], [7.0]]).numpy(), PRESENT.numpy())
    both = Names.of([AlignedVectors(NAMES.numpy(), PRESENT.numpy()), other])
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


def test_answers_rank_by_their_directions_and_a_missing_one_by_nothing():
    answers = {
        "long": (torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([True, False])),
        "short": (torch.tensor([[0.0, 2.0], [5.0, 0.0]]), torch.tensor([True, True])),
    }
    assert query(answers).flatten().tolist() == pytest.approx([0.6, 1.8, 1.0, 0.0])
    weighed = query(answers, torch.tensor([10.0, -1.0]))
    assert weighed.flatten().tolist() == pytest.approx([6.0, 7.0, -1.0, 0.0])


@pytest.mark.parametrize("k", [0, 2])
def test_a_report_says_how_many_answers_name_no_item_and_how_many_one_of_their_session(k):
    user_N, item_N = torch.tensor([1, 1, 1, 2, 2, 2]), torch.tensor([1, 2, 3, 3, 1, 2])
    vector_AD = torch.tensor([[0.0, 0.0], [9.0, 0.1], [9.0, 0.1], [0.0, 1.0], [-1.0, 0.2], [0.0, 7.0]])
    row_N = torch.tensor([0, 1, 2, 0, 3, 4])  # row 5: of another data set
    intents = Intents.of(vector_AD, row_N, user_N, item_N, answered={"training": 0.5, "test": 0.0})
    found = GivenIntents({"long": intents}, names("full"), k=k, localize="sum")
    # 1 and 2 name item 1, which user 1 has met before both; 3 names item 2, which user 2 meets later; 4 names none
    assert found.remarks == (
        "its long answers speak of 50% of training, 0% of test rows",
        "of its 4 long answers 25.0% name no item (best cosine with a name below 0.8), 50.0% one of the session itself",
    )
