"""The losses against naive float64 sums, and their gradients against autograd's."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from recbole_llm.model import losses


def some(n_targets=7, n_items=11, size=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    user = torch.randn(n_targets, size, generator=generator, dtype=torch.float64).requires_grad_()
    item = torch.randn(n_items, size, generator=generator, dtype=torch.float64).requires_grad_()
    return user, item, torch.randint(1, n_items, (n_targets,), generator=generator)


def naive_full_softmax(user, item, target):
    logit = (user @ item.T).clone()
    logit[:, 0] = losses.PADDING_LOGIT
    return F.cross_entropy(logit, target)


def test_the_last_numbers_of_items_may_learn_nothing_and_all_else_is_the_same():
    user, item, target = some(11, 30, 8)
    whole, some_fixed = (losses.full_softmax(user, item, target, n_fixed) for n_fixed in (0, 3))
    assert whole.item() == some_fixed.item()
    of_user, of_item = torch.autograd.grad(whole, (user, item))
    of_same_user, of_learned = torch.autograd.grad(some_fixed, (user, item))
    assert torch.allclose(of_user, of_same_user, atol=1e-12)
    assert torch.allclose(of_item[:, :5], of_learned[:, :5], atol=1e-12)
    assert of_item[1:, 5:].abs().min() > 0 and (of_learned[:, 5:] == 0).all()


def test_seen_items_are_no_candidates_of_their_own_rows(monkeypatch):
    monkeypatch.setitem(losses.CELLS, "cpu", 3 * 11)  # three rows a chunk
    monkeypatch.setattr(losses, "FEWEST_ROWS", 1)
    user, item, target = some()
    seen = torch.tensor([[5, 2, 0], [1, 0, 0], [0, 0, 0], [3, 8, 9], [10, 0, 0], [4, 6, 7], [2, 3, 0]])
    seen[seen == target[:, None]] = 0
    logit = (user @ item.T).scatter(1, seen, -torch.inf)
    logit[:, 0] = -torch.inf
    ours, theirs = losses.full_softmax(user, item, target, seen_TL=seen), F.cross_entropy(logit, target)
    assert torch.allclose(ours, theirs, atol=1e-12) and ours < losses.full_softmax(user, item, target)
    both = (torch.autograd.grad(loss, (user, item)) for loss in (ours, theirs))
    assert all(torch.allclose(one, other, atol=1e-12) for one, other in zip(*both, strict=True))


@settings(max_examples=25, deadline=None)
@given(
    n_targets=st.integers(1, 150),
    n_items=st.integers(3, 30),
    chunk=st.integers(1, 50),
    seed=st.integers(0, 99),
)
def test_full_softmax_in_chunks_is_the_naive_one(n_targets, n_items, chunk, seed):
    before = losses.CELLS["cpu"], losses.FEWEST_ROWS
    losses.CELLS["cpu"], losses.FEWEST_ROWS = chunk * n_items, 1
    try:
        user, item, target = some(n_targets, n_items, seed=seed)
        ours = losses.full_softmax(user, item, target)
        ours_gradients = torch.autograd.grad(3 * ours, (user, item))
        theirs = naive_full_softmax(user, item, target)
        theirs_gradients = torch.autograd.grad(3 * theirs, (user, item))
    finally:
        losses.CELLS["cpu"], losses.FEWEST_ROWS = before
    assert torch.allclose(ours, theirs, atol=1e-12)
    for one, other in zip(ours_gradients, theirs_gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_full_softmax_in_bfloat16_is_near_the_exact_one():
    user, item, target = some(200, 50, 16)
    exact = naive_full_softmax(user, item, target)
    with torch.autocast("cpu", torch.bfloat16):
        near = losses.full_softmax(user.float(), item.float(), target)
    assert near.dtype == torch.float32 and near.item() != exact.float().item()
    assert near.item() == pytest.approx(exact.item(), rel=0.01)


def test_sampled_softmax_by_hand():
    user, item = torch.tensor([[1.0, 0.0]]), torch.tensor([[9.0, 9.0], [2.0, 0.0], [1.0, 5.0], [0.0, 1.0]])
    negatives = torch.tensor([2, 3, 1])  # the last is the target and is taken out
    found = losses.sampled_softmax(user, item, torch.tensor([1]), negatives)
    assert found.item() == pytest.approx(-2 + math.log(math.exp(2) + math.exp(1) + 1), abs=1e-6)


def test_sampled_softmax_over_all_items_is_the_full_one():
    user, item, target = some()
    everything = torch.arange(1, len(item))
    found = losses.sampled_softmax(user, item, target, everything)
    assert found.item() == pytest.approx(naive_full_softmax(user, item, target).item(), abs=1e-9)


def test_gbce_without_calibration_is_bce():
    user, item, target = some()
    negatives = torch.tensor([1, 4, 6])
    ours = losses.generalised_bce(user, item, target, negatives, calibration=0.0)
    positive, negative = (user * item[target]).sum(1), user @ item[negatives].T
    kept = negatives != target[:, None]
    theirs = -(F.logsigmoid(positive) + (F.logsigmoid(-negative) * kept).sum(1)).mean() / 4
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-12)


def test_gbce_fully_calibrated_weighs_the_positive_by_the_sampling_rate():
    user, item = torch.zeros(1, 2), torch.zeros(12, 2)  # every score 0, every log-sigmoid -log 2
    found = losses.generalised_bce(user, item, torch.tensor([1]), torch.tensor([2, 3]), calibration=1.0)
    assert found.item() == pytest.approx(
        math.log(2) * (2 / 10 + 2) / 3, abs=1e-6
    )  # beta = 2 negatives / 10 items


def naive_logits(user, item, target, negative, log_q=None):
    """For each target its score and those of its negatives, itself left out; a loop in float64."""
    rows = []
    for t, own in enumerate(target.tolist()):
        others = (negative if negative.dim() == 1 else negative[t]).tolist()
        scores = [user[t] @ item[i] - (log_q[i] if log_q is not None else 0) for i in [own, *others]]
        rows.append([scores[0], *(s for s, i in zip(scores[1:], others, strict=True) if i != own)])
    return rows


@pytest.mark.parametrize("kind", ["shared", "row", "batch"])
def test_sampled_losses_are_the_naive_ones_with_their_gradients(kind, monkeypatch):
    monkeypatch.setattr(losses, "OWN_ROWS", 3)
    user, item, target = some(11, 9, 4, seed=2)
    torch.manual_seed(1)
    negative = losses.draw_negatives(kind, 6, target, len(item))
    log_q = torch.rand(len(item), dtype=torch.float64).log() if kind == "batch" else None
    rows = naive_logits(user, item, target, negative, log_q)
    kept = [torch.stack(row) for row in rows]
    softmax = torch.stack([torch.logsumexp(row, 0) - row[0] for row in kept]).mean()
    calls = [(lambda: losses.sampled_softmax(user, item, target, negative, log_q), softmax)]
    if kind != "batch":
        rate = negative.shape[-1] / (len(item) - 2)
        beta = rate * (0.7 * (1 - 1 / rate) + 1 / rate)
        each = [-(beta * F.logsigmoid(row[0]) + F.logsigmoid(-row[1:]).sum()) / 7 for row in kept]
        calls.append(
            (lambda: losses.generalised_bce(user, item, target, negative, calibration=0.7), sum(each) / 11)
        )
    for ours, theirs in calls:
        assert ours().item() == pytest.approx(theirs.item(), abs=1e-12)
        gradients = [torch.autograd.grad(x, (user, item), retain_graph=True) for x in (ours(), theirs)]
        for one, other in zip(*gradients, strict=True):
            assert torch.allclose(one, other, atol=1e-12)


def test_negatives_are_real_items_drawn_as_their_name_says():
    target = torch.tensor([3, 3, 3, 7])
    drawn = losses.draw_negatives("shared", 15, target, 20)
    assert len(drawn) == 15 == len(set(drawn.tolist())) and drawn.min() >= 1 and drawn.max() <= 19
    assert sorted(losses.draw_negatives("shared", 99, target, 5).tolist()) == [1, 2, 3, 4]
    own = losses.draw_negatives("row", 500, target, 20)
    assert own.shape == (4, 500) and sorted(set(own.flatten().tolist())) == list(range(1, 20))
    of_batch = losses.draw_negatives("batch", 4000, target, 20)
    assert (of_batch == 3).double().mean().item() == pytest.approx(0.75, abs=0.03) and set(
        of_batch.tolist()
    ) == {3, 7}


def test_a_large_catalogue_is_taken_in_by_fewer_rows_at_a_time(monkeypatch):
    user, item, target = some(40, 30)
    whole = losses.full_softmax(user, item, target)
    monkeypatch.setitem(losses.CELLS, "cpu", 60)  # two rows of 30 items
    monkeypatch.setattr(losses, "FEWEST_ROWS", 1)
    assert losses.full_softmax(user, item, target).item() == pytest.approx(whole.item(), abs=1e-12)


def test_alignment_of_orthogonal_views_by_hand():
    views = torch.eye(2)
    expected = math.log(math.exp(2) + 1) - 2  # cosine 1 or 0 over temperature 0.5
    assert losses.alignment(views, views, temperature=0.5).item() == pytest.approx(expected, abs=1e-6)


def test_decorrelation_is_zero_for_equal_uncorrelated_views():
    view = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert losses.decorrelation(view, view).item() == pytest.approx(0.0, abs=1e-5)
    assert losses.decorrelation(view, -view).item() == pytest.approx(
        8.0, abs=1e-4
    )  # each diagonal -1: (-2)^2 twice


def test_the_temperature_stays_within_its_bounds():
    low, mid, high = (losses.temperature_of(torch.tensor(t).log()).item() for t in (1e-4, 0.07, 5.0))
    assert (low, mid, high) == pytest.approx((0.01, 0.07, 1.0))


@pytest.mark.parametrize(("start", "inward"), [(0.001, 1.0), (3.0, -1.0)])
def test_a_temperature_that_a_step_took_beyond_its_bounds_comes_back(start, inward):
    log_temperature = torch.nn.Parameter(torch.tensor(start).log())
    bound = torch.tensor(min(max(start, 0.01), 1.0)).log().item()
    optimizer = torch.optim.SGD([log_temperature], 0.1)
    (-inward * losses.temperature_of(log_temperature)).backward()
    optimizer.step()
    assert inward * (log_temperature.item() - bound) > 1e-4


def test_looking_at_a_temperature_moves_nothing():
    log_temperature = torch.nn.Parameter(torch.tensor(9.0))
    with torch.no_grad():
        assert losses.temperature_of(log_temperature) == 1.0 and log_temperature == 9.0


def test_gradients_are_bit_equal_from_run_to_run_on_several_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        user, item, target = (t.float() if t.is_floating_point() else t for t in some(20_000, 50, 16))
        item = item.detach().requires_grad_()
        negatives = torch.arange(1, 20)
        for loss in (
            lambda: losses.sampled_softmax(user, item, target, negatives),
            lambda: losses.generalised_bce(user, item, target, negatives, calibration=0.5),
            lambda: losses.full_softmax(user, item, target),
        ):
            first, *others = (torch.autograd.grad(loss(), item)[0] for _ in range(4))
            assert all(torch.equal(first, other) for other in others)
    finally:
        torch.set_num_threads(threads)
