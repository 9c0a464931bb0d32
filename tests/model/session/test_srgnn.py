"""SRGNN is RecBole's SRGNN: same weights, same vectors, same loss."""

import pytest
import torch
from carousel import house, write_carousel
from model.session.sessions import KEYS, batch_of, model_of

from recbole_llm.model import MODELS, get_model, known_names
from recbole_llm.model.session.srgnn import SRGNN


def same_weights(ours, theirs):
    """Give ours the weights of RecBole's."""
    network, gnn = ours.graph_network, theirs.gnn
    pairs = [
        (ours.item_embedding.weight, theirs.item_embedding.weight),
        *zip(network.before.parameters(), gnn.linear_edge_in.parameters(), strict=True),
        *zip(network.after.parameters(), gnn.linear_edge_out.parameters(), strict=True),
        *((network.before_bias, gnn.b_iah), (network.after_bias, gnn.b_ioh)),
        *zip(network.input_gates.parameters(), (gnn.w_ih, gnn.b_ih), strict=True),
        *zip(network.hidden_gates.parameters(), (gnn.w_hh, gnn.b_hh), strict=True),
        *zip(ours.attention.of_last.parameters(), theirs.linear_one.parameters(), strict=True),
        *zip(ours.attention.of_node.parameters(), theirs.linear_two.parameters(), strict=True),
        (ours.attention.weigh.weight, theirs.linear_three.weight),
        *zip(ours.transform.parameters(), theirs.linear_transform.parameters(), strict=True),
    ]
    assert len(pairs) == len(list(ours.parameters())) == len(list(theirs.parameters()))
    with torch.no_grad():
        for weight, given in pairs:
            weight.copy_(given)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("srgnn"))


@pytest.fixture(params=[1, 2], ids=["one step", "two steps"])
def both(request, folder):
    ours = model_of(folder, "SRGNN", step=request.param)
    size = {"embedding_size": 8, "MAX_ITEM_LIST_LENGTH": 8, "step": request.param}
    theirs = house(folder, "RecBole-SRGNN", train_neg_sample_args=None, **size).model
    same_weights(ours, theirs)
    return ours, theirs


def test_the_session_vectors_and_scores_are_recboles(both):
    ours, theirs = both
    sessions = batch_of()
    assert torch.allclose(ours(*sessions), theirs(*sessions), atol=1e-6)
    columns = {"item_id_list": sessions[0], "item_length": sessions[1], "item_id": torch.arange(1, 6)}
    assert torch.allclose(ours.full_sort_predict(columns), theirs.full_sort_predict(columns), atol=1e-6)
    assert torch.allclose(ours.predict(columns), theirs.predict(columns), atol=1e-6)


def test_random_sessions_full_of_repeats_too(both):
    ours, theirs = both
    generator = torch.Generator().manual_seed(0)
    length_B = torch.randint(1, 9, (64,), generator=generator)
    seq_BL = torch.randint(1, 6, (64, 8), generator=generator) * (torch.arange(8) < length_B[:, None])
    assert torch.allclose(ours(seq_BL, length_B), theirs(seq_BL, length_B), atol=1e-6)


def test_the_gradients_are_recboles(both):
    sessions, found = batch_of(), []
    for model in both:
        vector_BH = model(*sessions)
        (vector_BH * torch.linspace(-1, 1, vector_BH.numel()).view_as(vector_BH)).sum().backward()
        gnn = model.graph_network if isinstance(model, SRGNN) else model.gnn
        gates = gnn.input_gates.weight if isinstance(model, SRGNN) else gnn.w_ih
        found.append((model.item_embedding.weight.grad[1:], gates.grad))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_many_sessions_are_read_in_pieces_as_in_one(folder, monkeypatch):
    model = model_of(folder, "SRGNN")
    whole = model(*batch_of())
    whole.sum().backward()
    grad = model.item_embedding.weight.grad.clone()
    model.zero_grad()
    monkeypatch.setattr("recbole_llm.model.session.gates.CELLS", 1)
    pieces = model(*batch_of())
    pieces.sum().backward()
    assert torch.allclose(pieces, whole, atol=1e-6)
    assert torch.allclose(model.item_embedding.weight.grad, grad, atol=1e-5)


def test_both_models_of_this_name_can_be_had(folder):
    assert get_model("SRGNN") is MODELS["SRGNN"]
    theirs = get_model("RecBole-SRGNN")
    assert theirs.__mro__[1].__module__ == "recbole.model.sequential_recommender.srgnn"
    assert {"SRGNN", "RecBole-SRGNN", "GRU4Rec"} <= set(
        known_names()
    ) and "RecBole-GRU4Rec" not in known_names()
    config = house(folder, "RecBole-SRGNN", train_neg_sample_args=None).config
    assert config["embedding_size"] == 64 and config["train_batch_size"] == 2048  # RecBole's own defaults
    assert house(folder, "SRGNN", **KEYS).config["train_batch_size"] == 16
