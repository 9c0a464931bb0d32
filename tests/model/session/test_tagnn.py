"""TAGNN's target attention against its equations, session by session and item by item."""

import pytest
import torch
import torch.nn.functional as F
from carousel import write_carousel
from model.session.sessions import SESSIONS, batch_of, model_of

from recbole_llm.errors import SettingError
from recbole_llm.model.layout import Layout
from recbole_llm.model.session import target_attention


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("tagnn"))


def read(model):
    seq_BL, length_B = batch_of()
    return model.views(seq_BL, Layout.of(length_B, only_last=True), model.items())


def test_the_scores_are_those_of_the_equations(folder):
    model = model_of(folder, "TAGNN").eval()
    views = read(model)
    event_BLH, item_IH = views.layout.pad(views.event_TH), model.items()
    session_BH, scores_BI = model.session(views), model.scores(model.session(views), views)
    for row, items in enumerate(SESSIONS):
        event_LH = event_BLH[row, : len(items)]
        seen_LH = torch.sigmoid(model.attention.of_last(event_LH[-1]) + model.attention.of_node(event_LH))
        share_L = torch.softmax(model.attention.weigh(seen_LH).squeeze(1), 0)
        global_H = (share_L[:, None] * event_LH).sum(0)
        assert torch.allclose(views.global_BH[row], global_H, atol=1e-6)
        for item, vector_H in enumerate(item_IH):
            share_L = torch.softmax(event_LH @ model.target.weight.t() @ vector_H, 0)
            target_H = (share_L[:, None] * event_LH).sum(0)
            assert torch.allclose(scores_BI[row, item], (session_BH[row] + target_H) @ vector_H, atol=1e-5)


def test_the_scores_are_made_in_pieces_as_in_one(folder, monkeypatch):
    model = model_of(folder, "TAGNN")
    seq_BL, length_B = batch_of()
    batch = {"item_id_list": seq_BL, "item_length": length_B, "item_id": torch.arange(1, 6)}
    found = []
    for cells in (2**20, 1):
        monkeypatch.setattr("recbole_llm.model.session.target_attention.CELLS", cells)
        model.zero_grad()
        loss = model.calculate_loss(batch)
        loss.backward()
        found.append((loss, model.target.weight.grad.clone(), model.full_sort_predict(batch)))
    for whole, pieces in zip(*found, strict=True):
        assert torch.allclose(whole, pieces, atol=1e-6)


@pytest.mark.parametrize("cells", [2**20, 40])
def test_the_loss_and_its_gradients_are_those_of_the_scores(folder, monkeypatch, cells):
    monkeypatch.setattr("recbole_llm.model.session.target_attention.CELLS", cells)
    model, target_B = model_of(folder, "TAGNN"), torch.arange(1, 6)
    graph = read(model).graph
    torch.manual_seed(0)
    sizes = (len(SESSIONS), len(graph.item_N), len(graph.item_N), model.n_items)
    both = [[torch.randn(size, 8, requires_grad=True) for size in sizes]]
    both.append([each.detach().clone().requires_grad_() for each in both[0]])
    mine = target_attention.loss(*both[0], graph, target_B)
    theirs = F.cross_entropy(target_attention.scores(*both[1], graph)[:, 1:], target_B - 1)
    assert torch.allclose(mine, theirs, atol=1e-5)
    (3 * mine).backward()
    (3 * theirs).backward()
    for first, second in zip(*both, strict=True):
        assert torch.allclose(first.grad, second.grad, atol=1e-5) and first.grad.abs().sum() > 0


def test_another_loss_is_refused(folder):
    with pytest.raises(SettingError, match="loss: bce has one for all; set loss: ce"):
        model_of(folder, "TAGNN", loss="bce")
