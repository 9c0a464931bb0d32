"""S2-DHCN's two channels against matrices written out, and its second loss."""

import pytest
import torch
import torch.nn.functional as F
from carousel import house, write_carousel
from model.session.sessions import KEYS, SESSIONS, batch_of, model_of

from recbole_llm.model.layout import Layout
from recbole_llm.model.session.dhcn import incidence, overlaps
from recbole_llm.model.session.graph import SessionGraph


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("dhcn"))


@torch.no_grad()
def test_the_items_are_those_of_the_hypergraph(folder):
    world = house(folder, "DHCN", n_layers=3, **KEYS)
    model, dataset = world.model.eval(), world.train._dataset
    place = dataset.own_places()
    holds_IS = torch.zeros(dataset.item_num, dataset.user_num)
    holds_IS[dataset.events["item_id"][place], dataset.events["user_id"][place]] = 1
    step_II = (holds_IS / holds_IS.sum(1, keepdim=True).clamp(min=1)) @ (
        holds_IS / holds_IS.sum(0).clamp(min=1)
    ).t()  # D^-1 H B^-1 H^T
    layers = [model.item_embedding.weight]
    for _ in range(3):
        layers.append(step_II @ layers[-1])
    assert torch.allclose(model.items()[1:], (sum(layers) / 4)[1:], atol=1e-6)
    item, session, session_start, item_start = incidence(dataset)
    assert len(item) == len(session) == holds_IS.sum() and len(session_start) == 40 and len(item_start) == 18


def test_sessions_overlap_by_what_they_have_in_common():
    seq_BL, length_B = batch_of([[1, 2, 3], [2, 3, 3, 4], [9]])
    share_BB = overlaps(SessionGraph.of(seq_BL, Layout.of(length_B)))
    # 2 of 4 items in common; a session with itself: all in common, and the unit matrix
    assert torch.allclose(
        share_BB, torch.tensor([[2, 0.5, 0], [0.5, 2, 0], [0, 0, 2]]) / torch.tensor([[2.5], [2.5], [2]])
    )


@torch.no_grad()
def test_a_session_is_read_through_what_it_overlaps_with(folder):
    model = model_of(folder, "DHCN", n_layers=3).eval()
    seq_BL, length_B = batch_of()
    graph = SessionGraph.of(seq_BL, Layout.of(length_B))
    mean_BH = torch.stack([model.item_embedding.weight[torch.tensor(items)].mean(0) for items in SESSIONS])
    share_BB, layers = overlaps(graph), [mean_BH]
    for _ in range(3):
        layers.append(share_BB @ layers[-1])
    assert torch.allclose(model.through_overlaps(graph), sum(layers) / 4, atol=1e-6)


@torch.no_grad()
def test_the_session_vector_weighs_events_by_what_they_are_and_where_they_stand(folder):
    model = model_of(folder, "DHCN").eval()
    attention, item_IH, found_BH = model.attention, model.items(), model(*batch_of())
    for row, items in enumerate(SESSIONS):
        event_LH = item_IH[torch.tensor(items)]
        position_LH = attention.position.weight[: len(items)].flip(0)
        placed_LH = torch.tanh(attention.place(torch.cat([event_LH, position_LH], 1)))
        seen_LH = torch.sigmoid(attention.of_event(placed_LH) + attention.of_mean(event_LH.mean(0)))
        assert torch.allclose(found_BH[row], (attention.weigh(seen_LH) * event_LH).sum(0), atol=1e-5)


def batch():
    seq_BL, length_B = batch_of()
    return {"item_id_list": seq_BL, "item_length": length_B, "item_id": torch.arange(1, 6)}


def test_the_second_loss_is_small_and_summed_over_the_batch(folder):
    model = model_of(folder, "DHCN").train()
    torch.manual_seed(3)
    ranking, further = model.loss_terms(batch()).values()
    torch.manual_seed(3)
    seq_BL, length_B = batch_of()
    graph = SessionGraph.of(seq_BL, Layout.of(length_B))
    session_BH, line_BH = model(seq_BL, length_B), model.through_overlaps(graph)
    torch.manual_seed(3)
    shuffled_BH = session_BH[torch.randperm(5)][:, torch.randperm(8)]
    right_B, wrong_B = (session_BH * line_BH).sum(1), (shuffled_BH * line_BH).sum(1)
    expected = -(F.logsigmoid(right_B) + torch.log(1 - torch.sigmoid(wrong_B))).sum()
    assert further.item() == pytest.approx(0.01 * expected.item(), rel=1e-5)
    assert ranking.item() > 0


def test_without_its_weight_there_is_no_second_loss(folder):
    assert len(model_of(folder, "DHCN", lambda_ssl=0.0).train().loss_terms(batch())) == 1


@pytest.mark.parametrize("detach", [True, False])
def test_detached_the_line_graph_learns_nothing(folder, detach):
    model = model_of(folder, "DHCN", dhcn_detach=detach).train()
    seq_BL, length_B = batch_of()
    line_BH = model.through_overlaps(SessionGraph.of(seq_BL, Layout.of(length_B)))
    model._contrast(torch.ones_like(line_BH, requires_grad=True), line_BH).backward()
    assert (model.item_embedding.weight.grad is None) == detach
