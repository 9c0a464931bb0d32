"""What holds of every session model: padding, company, order and gradients, and the parts that a wrapper asks for."""

import pytest
import torch
from carousel import house, write_carousel
from model.session.sessions import KEYS, SESSIONS, batch_of, model_of
from recbole.data.interaction import Interaction

from recbole_llm.model import MODELS
from recbole_llm.model.base import VectorRecommender
from recbole_llm.model.layout import Layout
from recbole_llm.model.session.base import SessionRecommender

NAMES = sorted(
    name for name, model in MODELS.items() if issubclass(model, SessionRecommender) and name != "LLM4SBR"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("sessions"))


@pytest.fixture(params=NAMES)
def model(request, folder):
    return model_of(folder, request.param).eval()


def rows(sessions=SESSIONS, length=8, target=11):
    seq_BL, length_B = batch_of(sessions, length)
    return Interaction(
        {"item_id_list": seq_BL, "item_length": length_B, "item_id": torch.full_like(length_B, target)}
    )


def test_more_padding_changes_nothing(model):
    short, long = (model.full_sort_predict(rows(length=length)) for length in (8, 12))
    assert torch.allclose(short, long, atol=1e-6)


def test_a_session_is_scored_alone_as_in_company(model):
    together = model.full_sort_predict(rows())
    for number, items in enumerate(SESSIONS):
        alone = model.full_sort_predict(rows([items]))
        assert torch.isfinite(alone).all()
        assert torch.allclose(alone[0], together[number], atol=1e-5), items


def test_the_order_of_a_batch_is_the_order_of_its_scores(model):
    order = [3, 0, 4, 2, 1]
    assert torch.allclose(
        model.full_sort_predict(rows([SESSIONS[place] for place in order])),
        model.full_sort_predict(rows())[order],
        atol=1e-5,
    )


def test_autocast_is_for_the_ranking_loss_alone(model):
    exact = model.loss_terms(rows())
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.loss_terms(rows())
    assert rough.keys() == exact.keys()
    assert rough["ranking"] != exact["ranking"] and torch.allclose(
        rough["ranking"], exact["ranking"], rtol=1e-3
    )
    for name in exact.keys() - {"ranking"}:
        assert torch.equal(rough[name], exact[name])


def test_predict_is_the_gathered_full_sort(model):
    assert torch.allclose(model.predict(rows()), model.full_sort_predict(rows())[:, 11], atol=1e-5)


def test_the_order_of_a_session_matters(model):
    there, back = (model.full_sort_predict(rows([items])) for items in ([1, 2, 3, 4], [4, 2, 3, 1]))
    assert not torch.allclose(there, back, atol=1e-3)


def test_a_wrapper_gets_the_parts_and_scores_with_a_vector_of_its_own(model):
    seq_BL, length_B = batch_of()
    layout = Layout.of(length_B, only_last=True)
    views = model.views(seq_BL, layout, model.items())
    assert views.local_BH.shape == views.global_BH.shape == (5, 8)
    assert layout.pad(views.event_TH).shape == (5, 8, 8)
    assert torch.equal(layout.pad(views.event_TH)[torch.arange(5), length_B - 1], views.local_BH)
    session_BH = model.session(views)
    assert torch.allclose(model.scores(session_BH, views), model.full_sort_predict(rows()), atol=1e-6)
    doubled = model.scores(2 * session_BH, views) - model.scores(session_BH, views)
    assert torch.allclose(doubled, session_BH @ views.item_IH.t(), atol=1e-5)
    target_B = torch.full_like(length_B, 11)
    scores = model.scores(session_BH, views)[:, 1:]
    expected = torch.nn.functional.cross_entropy(scores, target_B - 1)
    assert torch.allclose(model.session_loss(session_BH, views, target_B), expected, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_learns(name, folder):
    model = model_of(folder, name).train()
    model.calculate_loss(rows()).backward()
    without = [
        name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()
    ]
    assert not without


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_loss(name, folder):
    """Against differences of the loss, in double precision."""
    model = model_of(folder, name).double().eval()
    model.calculate_loss(rows()).backward()
    for weight in model.parameters():
        place = weight.grad.abs().argmax()
        flat, slope = weight.data.view(-1), weight.grad.view(-1)[place]
        losses = []
        for shift in (1e-5, -2e-5):
            flat[place] += shift
            losses.append(model.calculate_loss(rows()).detach())
        flat[place] += 1e-5
        assert (losses[0] - losses[1]) / 2e-5 == pytest.approx(float(slope), rel=1e-4)


@pytest.mark.parametrize("loss", ["ssm", "gbce", "bce"])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "TAGNN"])
def test_sampled_losses_have_a_gradient(name, loss, folder):
    model = model_of(folder, name, loss=loss, n_negatives=4).train()
    model.calculate_loss(rows()).backward()
    grad = model.item_embedding.weight.grad
    assert torch.isfinite(grad).all() and grad.any()


@pytest.mark.parametrize("name", NAMES)
def test_two_trainings_with_one_seed_are_the_same(name, folder, one_thread):
    losses = []
    for _ in range(2):
        world = house(folder, name, **KEYS)
        model = world.model.train()
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for batch in world.train:
            optimizer.zero_grad()
            loss = model.calculate_loss(batch)
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] == losses[1]


def test_what_reads_left_to_right_says_so():
    assert VectorRecommender.causal and not SessionRecommender.causal
