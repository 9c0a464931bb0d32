"""Intents of sessions: stood in for without a language model, or given; what ranks by them, what a report says."""

import pytest
import torch
from three_items import names

from recbole_llm.data.intents import Intents
from recbole_llm.model.intents import GivenIntents, HeuristicIntents, query
from recbole_llm.model.layout import Layout


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
