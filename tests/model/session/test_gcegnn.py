"""GCE-GNN's two graphs against its equations, and the global graph against one worked by hand."""

import pytest
import torch
import torch.nn.functional as F
from carousel import house, write_carousel
from model.session.sessions import SESSIONS, batch_of, model_of

from recbole_llm.model.layout import Layout
from recbole_llm.model.session.global_graph import neighbours


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("gcegnn"))


def local(model, items, own):
    """Eqs. (6)-(8): each item of a session by its neighbours; item id -> vector."""
    after = {pair for pair in zip(items, items[1:], strict=False) if pair[0] != pair[1]}
    found = {}
    for item in set(items):
        kinds = {item: 0}
        for other in set(items) - {item}:
            before, behind = (other, item) in after, (item, other) in after
            if before or behind:
                kinds[other] = 3 if before and behind else 1 if before else 2
        score = [
            F.leaky_relu(model.local_layer.relation.weight[kind] @ (own[item] * own[other]), 0.2)
            for other, kind in kinds.items()
        ]
        share = torch.softmax(torch.stack(score), 0)
        found[item] = sum(weight * own[other] for weight, other in zip(share, kinds, strict=True))
    return found


def wide(model, items, own):
    """Eqs. (1)-(5): each item of a session by its neighbours in the global graph; item id -> vector."""
    mean, layer, found = torch.stack([own[item] for item in items]).mean(0), model.global_layer, {}
    for item in set(items):
        near = [(j, w) for j, w in zip(model.neighbour_IK[item], model.share_IK[item], strict=True) if j > 0]
        score = [
            layer.weigh(F.leaky_relu(layer.near(torch.cat([mean * own[j], w[None]])), 0.2)) for j, w in near
        ]
        share = torch.softmax(torch.cat(score), 0) if near else ()
        met = sum(
            (weight * own[j] for weight, (j, _) in zip(share, near, strict=True)), torch.zeros_like(mean)
        )
        found[item] = F.relu(layer.join(torch.cat([own[item], met])))
    return found


@torch.no_grad()
def test_the_vectors_are_those_of_the_equations(folder):
    model = model_of(folder, "GCEGNN", n_neighbours=3).eval()
    model.neighbour_IK[9] = 0  # as an item that met none
    seq_BL, length_B = batch_of()
    views, own = model.views(seq_BL, Layout.of(length_B), model.items()), model.items()
    event_BLH, attention = views.layout.pad(views.event_TH), model.attention
    for row, items in enumerate(SESSIONS):
        near, far = local(model, items, own), wide(model, items, own)
        event_LH = torch.stack([far[item] + near[item] for item in items])  # eq. (9)
        assert torch.allclose(event_BLH[row, : len(items)], event_LH, atol=1e-5)
        position_LH = attention.position.weight[: len(items)].flip(0)  # the last event has position 0
        placed_LH = torch.tanh(attention.place(torch.cat([event_LH, position_LH], 1)))  # eq. (10)
        seen_LH = attention.of_event(placed_LH) + attention.of_mean(event_LH.mean(0))
        weight_L1 = attention.weigh(torch.sigmoid(seen_LH))  # eq. (12)
        assert torch.allclose(model.session(views)[row], (weight_L1 * event_LH).sum(0), atol=1e-5)
        assert torch.allclose(views.local_BH[row], event_LH[-1], atol=1e-5)


def shop(tmp_path, rows):
    folder = tmp_path / "carousel"
    folder.mkdir()
    text = "".join(f"{user}\t{item}\t{time}\n" for time, (user, item) in enumerate(rows, 1))
    (folder / "carousel.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + text)
    return house(tmp_path, "GCEGNN", topk=[1], valid_metric="NDCG@1").train._dataset


def test_the_global_graph_counts_meetings_in_training_alone(tmp_path):
    """Leave-one-out takes the last two events of each user away: a b a c of ann and a b of bob are trained on."""
    rows = [("ann", item) for item in "abacdd"] + [("bob", item) for item in "abcd"]
    dataset = shop(tmp_path, rows)
    neighbour_IK, share_IK = neighbours(dataset, n_neighbours=2, window=2)
    token = dataset.field2id_token["item_id"]
    found = {
        token[item]: {
            token[other]: round(float(share), 3) for other, share in zip(*pair, strict=True) if other
        }
        for item, pair in enumerate(zip(neighbour_IK, share_IK, strict=True))
        if item
    }
    # ann: ab ba ac (one step), bc (two steps; a and a are one item); bob: ab
    assert found == {
        "a": {"b": 0.75, "c": 0.25},
        "b": {"a": 0.75, "c": 0.25},
        "c": {"a": 0.5, "b": 0.5},
        "d": {},
    }
    assert neighbours(dataset, n_neighbours=1, window=2)[0].shape == (5, 1)


def test_the_neighbours_are_read_in_pieces_as_in_one(folder, monkeypatch):
    model = model_of(folder, "GCEGNN").eval()
    whole = model(*batch_of())
    monkeypatch.setattr("recbole_llm.model.session.gcegnn.CELLS", 1)
    assert torch.allclose(model(*batch_of()), whole, atol=1e-6)
