"""Whitening against its definition, and the gate and the field weights by hand."""

import pytest
import torch

from recbole_llm.model.items import (
    ExpertAdaptor,
    FieldViews,
    PopularityGate,
    TextView,
    Whitening,
    start_from_text,
)
from recbole_llm.text.artifact import AlignedVectors


def correlated(count=400, size=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(count, size, generator=generator) @ torch.randn(size, size, generator=generator) + 3.0
    present = torch.ones(count, dtype=torch.bool)
    present[[0, 5 % count]] = False
    return mixed.masked_fill(~present[:, None], 0.0), present


def test_full_whitening_has_mean_zero_and_covariance_one():
    vectors, present = correlated()
    white = Whitening.fit(vectors, present, 6, 1.0)(vectors, present)[present]
    assert torch.allclose(white.mean(0), torch.zeros(6), atol=1e-4)
    assert torch.allclose(torch.cov(white.T), torch.eye(6), atol=1e-3)


def test_power_zero_keeps_the_distances():
    vectors, present = correlated()
    turned = Whitening.fit(vectors, present, 6, 0.0)(vectors, present)[present]
    assert torch.allclose(
        torch.cdist(turned, turned), torch.cdist(vectors[present], vectors[present]), atol=1e-2
    )


def test_power_zero_drops_the_axes_of_least_spread():
    vectors, present = correlated()
    turned = Whitening.fit(vectors, present, 3, 0.0)(vectors, present)[present]
    spread = torch.linalg.eigvalsh(torch.cov(vectors[present].T)).flip(0)
    assert torch.allclose(turned.var(0), spread[:3], rtol=1e-3)


def test_zca_turns_back_to_the_old_axes():
    vectors, present = correlated()
    white = Whitening.fit(vectors, present, 6, 1.0, zca=True)(vectors, present)[present]
    likeness = torch.corrcoef(torch.cat([white.T, vectors[present].T]))[:6, 6:].diagonal()
    assert white.shape[1] == 6 and likeness.min() > 0.2
    assert torch.allclose(torch.cov(white.T), torch.eye(6), atol=1e-3)


def test_groups_are_whitened_apart():
    vectors, present = correlated()
    white = Whitening.fit(vectors, present, 6, 1.0, groups=2)(vectors, present)[present]
    covariance = torch.cov(white.T)
    assert torch.allclose(covariance[:3, :3], torch.eye(3), atol=1e-3)
    assert covariance[:3, 3:].abs().max() > 0.01, "between groups the correlation stays"


def test_items_without_text_are_zeros_and_do_not_move_the_mean():
    vectors, present = correlated()
    vectors[5] = 1e6
    whitening = Whitening.fit(vectors, present, 6, 1.0)
    assert torch.allclose(whitening.mean_D, vectors[present].mean(0), atol=1e-3)
    assert whitening(vectors, present)[5].abs().sum() == 0


def test_the_width_is_at_most_what_the_items_allow():
    vectors, present = correlated(count=5)
    assert Whitening.fit(vectors, present, 6, 1.0)(vectors, present).shape == (5, 3)  # 4 items with text


def test_one_expert_is_a_linear_map():
    adaptor = ExpertAdaptor(3, 2, 1, dropout=0.0).eval()
    adaptor.bias.data = torch.tensor([[1.0, 0.0, 0.0]])
    x = torch.randn(4, 3)
    assert torch.allclose(adaptor(x), (x - adaptor.bias[0]) @ adaptor.weight[0], atol=1e-6)


def test_experts_are_mixed_by_the_gate():
    adaptor = ExpertAdaptor(2, 1, 2, dropout=0.0).eval()
    adaptor.weight.data = torch.tensor([[[1.0], [0.0]], [[0.0], [10.0]]])
    adaptor.gate.data = torch.tensor([[0.0, torch.log(torch.tensor(3.0))], [0.0, 0.0]])
    assert adaptor(torch.tensor([[1.0, 1.0]])).item() == pytest.approx(0.25 * 1 + 0.75 * 10, abs=1e-5)


def views(n_items=8, fields=2, without=()):
    found = []
    for number in range(fields):
        generator = torch.Generator().manual_seed(number)
        present = torch.ones(n_items, dtype=torch.bool)
        present[0] = False
        for field, item in without:
            if field == number:
                present[item] = False
        vectors = torch.randn(n_items, 5, generator=generator).masked_fill(~present[:, None], 0.0)
        found.append(FieldViews.of(AlignedVectors(vectors.numpy(), present.numpy()), (1.0, 0.5), 4))
    return found


def test_fields_that_an_item_lacks_have_no_weight():
    text = TextView(views(without=[(0, 3), (1, 3), (1, 4)]), 6, 2, 0.0).eval()
    torch.nn.init.normal_(text.query)
    weight = text.weights(text.fields())
    assert weight[3].tolist() == [0, 0] and weight[4].tolist() == [1, 0]
    assert torch.allclose(weight[1:3].sum(1), torch.ones(2)) and (weight[1] > 0).all()
    assert torch.equal(text()[3], text.no_text)


def test_unseen_items_are_text_alone_and_popular_ones_trust_themselves():
    gate = PopularityGate(torch.tensor([0, 0, 5, 995]), 3, kappa=5.0)
    share = gate(torch.randn(4, 3), torch.randn(4, 3))
    assert share[1].abs().max() == 0
    assert gate.trust_I1.flatten().tolist() == pytest.approx([0, 0, 0.5, 0.995])
    assert (share[2] <= 0.5).all() and (share >= 0).all() and (share < 1).all()


def test_without_kappa_every_seen_item_is_trusted_alike():
    gate = PopularityGate(torch.tensor([0, 0, 1, 995]), 3, kappa=0.0)
    assert gate.trust_I1.flatten().tolist() == [0, 0, 1, 1]
    assert gate.popularity_I3.abs().sum() == 0


def test_starting_vectors_are_the_texts_first_components():
    start = start_from_text(views(n_items=40), 3)
    assert start.shape == (40, 3) and start[0].abs().sum() == 0
    assert start[1:].std().item() == pytest.approx(0.02, rel=1e-3)
    assert start[1:].var(0).tolist() == sorted(start[1:].var(0).tolist(), reverse=True)
