"""LLM4SBR: equations by hand, what its texts may change and what they may not, over every kind of backbone."""

import pytest
import torch
from carousel import house, write_carousel
from recbole.data.interaction import Interaction
from torch.nn import functional as F

from recbole_llm.data.parts import ROW_END
from recbole_llm.errors import SettingError
from recbole_llm.model import losses
from recbole_llm.model.backbones import Watched
from recbole_llm.model.layout import Layout
from recbole_llm.train.trainer import trainer_for

OURS = ("SRGNN", "TAGNN", "GCEGNN", "DHCN")
THEIRS = ("GRU4Rec", "SASRec", "NARM", "STAMP", "GCSAN", "BERT4Rec", "RecBole-SRGNN")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("llm4sbr"))


def wrapped(folder, backbone="SRGNN", **keys):
    return house(folder, "LLM4SBR", backbone=backbone, **keys)


def a_batch(world):
    return next(iter(world.test))[0]


def texts_of(model, items, layout, end_B=None):
    return model.texts(model.answers(items, layout, end_B))


# ---------------------------------------------------------------------- alignment and uniformity


def test_alignment_and_uniformity_by_hand():
    first = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    second = torch.tensor([[5.0, 0.0], [-1.0, 0.0]])
    align = losses.alignment_and_uniformity(first, second, "align")
    assert align.item() == pytest.approx((0 + 2) / 2)
    uniform = losses.alignment_and_uniformity(first, second, "uniform")
    assert uniform.item() == pytest.approx((-2 * 2 + -2 * 4) / 2, rel=1e-4)  # log of one pair each: -2 d^2
    both = losses.alignment_and_uniformity(first, second)
    assert both.item() == pytest.approx(align.item() + uniform.item())


def test_alignment_lies_in_its_range_and_one_row_has_none():
    rows = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    assert losses.alignment_and_uniformity(rows, -rows, "align").item() == pytest.approx(4.0)
    assert losses.alignment_and_uniformity(rows, rows, "align").item() == pytest.approx(0.0, abs=1e-6)
    assert losses.alignment_and_uniformity(rows, rows, "uniform").item() <= 0
    assert losses.alignment_and_uniformity(rows[:1], rows[:1]) is None


def test_uniformity_is_that_of_all_pairs():
    rows = F.normalize(torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    expected = torch.pdist(rows).pow(2).mul(-2).exp().mean().log()
    assert losses.alignment_and_uniformity(rows, rows, "uniform").item() == pytest.approx(
        expected.item(), abs=1e-5
    )


# ---------------------------------------------------------------------- equations


def test_without_texts_it_is_the_backbones_session_vector(folder):
    world, alone = wrapped(folder, views={}), house(folder, "SRGNN")
    world.model.backbone.load_state_dict(alone.model.state_dict())
    world.model.join.load_state_dict(alone.model.transform.state_dict())
    batch = a_batch(world)
    scores = world.model.eval().full_sort_predict(batch)
    assert torch.allclose(scores, alone.model.eval().full_sort_predict(batch), atol=1e-6)


def test_with_all_gates_at_one_it_is_the_backbones_session_vector_whatever_the_texts(folder):
    world, alone = wrapped(folder, start="random"), house(folder, "SRGNN")
    world.model.backbone.load_state_dict(alone.model.state_dict())
    world.model.join.load_state_dict(alone.model.transform.state_dict())
    batch, layout = a_batch(world), Layout.of(a_batch(world)["item_length"], only_last=True)
    alone.model.eval(), world.model.eval()
    expected = alone.model(batch["item_id_list"], batch["item_length"])
    inputs = batch["item_id_list"], batch["item_length"]
    assert not torch.allclose(world.model(*inputs)[:, :16], expected, atol=1e-3)
    for gate in world.model.gates.values():
        gate.forward = lambda met_BH: met_BH.new_ones(len(met_BH), 1)
    assert all(known.all() for _, known in texts_of(world.model, batch["item_id_list"], layout).values())
    assert torch.allclose(world.model(*inputs)[:, :16], expected, atol=1e-6)


@pytest.mark.parametrize("backbone", [*OURS, "GRU4Rec", "SASRec"])
def test_the_answers_rank_by_their_cosines_with_the_names_once_their_weights_have_left_zero(folder, backbone):
    world, alone = wrapped(folder, backbone), wrapped(folder, backbone, infer_score=False)
    model, batch = world.model.eval(), a_batch(world)
    alone.model.eval().load_state_dict(model.state_dict(), strict=False)
    without = alone.model.full_sort_predict(batch)
    assert torch.allclose(model.full_sort_predict(batch), without, atol=1e-6), "at the start"
    layout = Layout.of(batch["item_length"], only_last=True)
    answers = model.answers(batch["item_id_list"], layout, None)
    name_IW = model.intents.unit_IW
    long_BI, short_BI = (F.normalize(answers[view][0], dim=1) @ name_IW.t() for view in ("long", "short"))
    model.infer_weight_V.data = torch.tensor([0.2, -0.1])
    scores = model.train().eval().full_sort_predict(batch)
    assert torch.allclose(scores, without + 2 * long_BI - short_BI, atol=1e-5)
    target_B = batch["item_id"] = torch.arange(len(scores)) % (model.n_items - 1) + 1
    own_B = scores.gather(1, target_B[:, None]).squeeze(1)
    assert torch.allclose(model.predict(batch), own_B, atol=1e-5)


@pytest.mark.parametrize("backbone", [*OURS, "GRU4Rec"])
def test_what_was_read_has_no_chance_in_training_and_in_ranking(folder, backbone):
    world = wrapped(folder, backbone, no_repeats=True)
    model, batch = world.model.eval(), next(iter(world.train))
    model.infer_weight_V.data = torch.tensor([0.2, -0.1])
    scores, seen = model.full_sort_predict(batch), batch["item_id_list"]
    assert (scores.gather(1, seen) == -torch.inf).all()
    scores[:, 0] = -torch.inf
    expected = F.cross_entropy(scores, batch["item_id"])
    assert model.loss_terms(batch)["ranking"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_text_of_the_long_view_moves_the_scores_by_its_gate_alone(folder):
    model = wrapped(folder, start="random").model.eval()
    items, length = torch.tensor([[3, 5, 7], [2, 4, 0]]), torch.tensor([3, 2])
    layout = Layout.of(length, only_last=True)
    views = model.views(items, layout, model.current_items())
    texts = texts_of(model, items, layout)
    known = texts["long"][1]
    other = texts | {"long": (torch.randn(2, 16), known)}
    before, after = model.fused(views, texts), model.fused(views, other)
    gates = [model.gates["long"](torch.sigmoid(views.global_BH + each["long"][0])) for each in (texts, other)]
    weight = model.join.weight[:, :16]  # of the global part
    expected = before + F.linear((gates[1] - gates[0]) * views.global_BH, weight)
    assert torch.allclose(after, expected, atol=1e-5) and not torch.allclose(after, before, atol=1e-4)


@pytest.mark.parametrize("fuse", ["scalar_gate", "vector_gate", "concat"])
@pytest.mark.parametrize("backbone", ["GCEGNN", "DHCN", *THEIRS])
def test_it_starts_as_the_backbone_and_keeps_a_length_that_is_fixed(folder, backbone, fuse):
    model, batch = wrapped(folder, backbone, fuse=fuse).model.eval(), a_batch(wrapped(folder))
    layout = Layout.of(batch["item_length"], only_last=True)
    views = model.views(batch["item_id_list"], layout, model.items())
    own_BH, texts = model.backbone.session(views), texts_of(model, batch["item_id_list"], layout)
    assert torch.allclose(model.fused(views, texts), own_BH, atol=1e-5)
    for weight in (*model.join.parameters(), *model.gates.parameters()):
        torch.nn.init.normal_(weight)
    moved_BH = model.fused(views, texts)
    assert F.cosine_similarity(moved_BH, own_BH).max() < 0.99
    kept = torch.allclose(moved_BH.norm(dim=1), own_BH.norm(dim=1), rtol=1e-4)
    assert kept == (backbone in ("SASRec", "BERT4Rec")), "which end in a layer norm"


@pytest.mark.parametrize("fuse", ["scalar_gate", "vector_gate", "concat"])
@pytest.mark.parametrize(
    "views", [{"long": "global", "short": "local"}, {"short": "local"}, {"normal": "fused"}]
)
def test_every_way_of_fusing_learns(folder, fuse, views):
    world = wrapped(folder, fuse=fuse, views=views)
    loss = world.model.calculate_loss(next(iter(world.train)))
    loss.backward()
    idle = {
        name
        for name, weight in world.model.named_parameters()
        if weight.grad is None or not weight.grad.any()
    }
    unread = {"no_answer"}  # every item has a name here
    if "normal" not in views:  # which alone meets the backbone's own vector
        unread |= {"backbone.transform.weight", "backbone.transform.bias"}
    assert idle == unread


@pytest.mark.parametrize("fuse", ["scalar_gate", "vector_gate"])
def test_several_views_of_one_anchor_are_gated_in_any_order(folder, fuse):
    views = {"long": "local", "short": "local", "normal": "local"}
    model = wrapped(folder, fuse=fuse, views=views, start="random").model.eval()
    other = wrapped(folder, fuse=fuse, views=dict(reversed(views.items())), start="random").model.eval()
    other.load_state_dict(model.state_dict())
    batch = a_batch(wrapped(folder))
    scores = model.full_sort_predict(batch)
    assert torch.allclose(scores, other.full_sort_predict(batch), atol=1e-6)
    for gate in model.gates.values():
        gate.weight.data.mul_(20)
    assert not torch.allclose(scores, model.full_sort_predict(batch), atol=1e-3), "and all of them count"


def test_rows_without_an_answer_are_left_out_of_the_alignment(folder):
    keys = {"without": ("i3", "i4"), "views": {"short": "local"}}
    world = wrapped(folder, **keys)
    batch = next(iter(world.train))
    terms = world.model.loss_terms(batch)
    layout = Layout.of(batch["item_length"], only_last=True)
    views = world.model.views(batch["item_id_list"], layout, world.model.items())
    text, known = texts_of(world.model, batch["item_id_list"], layout)["short"]
    assert not known.all() and known.sum() > 1
    expected = 0.1 * losses.alignment_and_uniformity(views.local_BH[known], text[known])
    assert terms["alignment, short"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert torch.equal(text[~known], world.model.no_answer.expand(int((~known).sum()), -1))


def test_a_batch_of_one_session_has_no_alignment(folder):
    world = wrapped(folder)
    (ranking,) = world.model.loss_terms(next(iter(world.train))[torch.tensor([0])]).values()
    assert torch.isfinite(ranking)


def test_a_last_batch_of_one_session_stops_no_training(folder):
    rows = len(wrapped(folder).train._dataset)
    world = wrapped(folder, train_batch_size=rows - 1, epochs=1, eval_step=0)
    trainer = trainer_for(world.config, world.model)
    trainer.fit(world.train, verbose=False, saved=False)
    assert len(world.train) == 2 and trainer.curve[0]["loss"] > 0


@pytest.mark.parametrize("control", ["shuffled", "random"])
def test_controls_give_no_session_its_own_answer_and_each_the_same_at_every_ranking(folder, control):
    right, wrong = (wrapped(folder, intent_control=kind).model.eval() for kind in ("none", control))
    wrong.load_state_dict(right.state_dict())
    batch = a_batch(wrapped(folder))
    layout = Layout.of(batch["item_length"], only_last=True)
    given, own = (
        torch.cat(
            [text for text, _ in texts_of(model, batch["item_id_list"], layout, batch[ROW_END]).values()]
        )
        for model in (wrong, right)
    )
    assert torch.isclose(given, own, atol=1e-5).all(1).float().mean() < 0.3, "by chance alone"
    scores = wrong.full_sort_predict(batch)
    alone = torch.cat([wrong.full_sort_predict(batch[torch.tensor([row])]) for row in range(len(scores))])
    assert torch.allclose(scores, alone, atol=1e-5), "whoever else is in the batch"
    again = wrapped(folder, intent_control=control).model.eval()
    again.load_state_dict(right.state_dict())
    assert torch.equal(scores, again.full_sort_predict(batch)), "and in another run"


@pytest.mark.parametrize("backbone", ["SRGNN", "GRU4Rec"])
@pytest.mark.parametrize("views", [{"long": "global"}, {}])
def test_a_sampled_loss_lets_texts_and_watched_models_see_the_true_ids(folder, backbone, views):
    world = wrapped(folder, backbone, loss="ssm", n_negatives=2, views=views)
    batch = next(iter(world.train))[torch.tensor([0])]
    seen = []
    found, world.model.views = (
        world.model.views,
        lambda items, *more: seen.append(items) or found(items, *more),
    )
    world.model.calculate_loss(batch)
    if backbone == "GRU4Rec" or views:
        assert torch.equal(seen[0], batch["item_id_list"])
    else:
        assert not torch.equal(seen[0], batch["item_id_list"]), "SRGNN alone needs but the batch's items"


# ---------------------------------------------------------------------- backbones


@pytest.mark.parametrize("backbone", [*OURS, *THEIRS])
def test_every_backbone_learns_the_carousel(folder, backbone):
    keys = {
        "learning_rate": 0.03,
        "train_batch_size": 64,
        "enable_amp": False,
        "hidden_size": 16,
        "stopping_step": 50,
    }
    world = wrapped(folder, backbone, epochs=20, eval_step=20, **keys)
    trainer = trainer_for(world.config, world.model)
    trainer.fit(world.train, world.valid, verbose=False, saved=True)
    assert trainer.evaluate_both_ways(world.test).unmasked["recall@3"] > 0.9


@pytest.mark.parametrize("backbone", THEIRS)
def test_padding_and_company_do_not_matter_to_a_watched_backbone(folder, backbone):
    world = wrapped(folder, backbone)
    model, batch = world.model.eval(), a_batch(world)
    together = model.full_sort_predict(batch)
    for row in range(4):
        alone = batch[torch.tensor([row])]
        places = int(alone["item_length"]) + 1  # one behind the session, for BERT4Rec's mask
        alone.update(Interaction({"item_id_list": alone["item_id_list"][:, :places]}))
        assert torch.allclose(together[row], model.full_sort_predict(alone)[0], atol=1e-5)
    assert batch["item_length"][:4].min() + 1 < batch["item_id_list"].shape[1], "some padding was cut off"


@pytest.mark.parametrize("backbone", ["GRU4Rec", "SASRec", "NARM", "STAMP", "GCSAN", "RecBole-SRGNN"])
def test_all_that_a_watched_model_has_learns(folder, backbone):
    world = wrapped(folder, backbone)
    world.model.calculate_loss(next(iter(world.train))).backward()
    idle = [
        name
        for name, weight in world.model.backbone.named_parameters()
        if weight.grad is None or not weight.grad.any()
    ]
    assert not idle


@pytest.mark.parametrize("backbone", THEIRS)
def test_the_long_view_is_the_models_own_vector_where_it_has_one_beside_its_last_state(folder, backbone):
    world = wrapped(folder, backbone)
    watched, batch = world.model.eval().backbone, a_batch(world)
    length_B = batch["item_length"]
    layout = Layout.of(length_B, only_last=True)
    views = watched.views(batch["item_id_list"], layout, watched.items())
    assert watched.has_global == (backbone in ("NARM", "STAMP", "GCSAN", "RecBole-SRGNN"))
    if watched.has_global:
        own = watched.model(batch["item_id_list"], length_B)
        assert torch.equal(views.global_BH, own) and torch.equal(watched.session(views), own)
    else:
        own = watched.to_items(watched.hidden(batch["item_id_list"], length_B)[1])
        assert torch.equal(watched.session(views), views.local_BH)
        assert torch.allclose(watched.session(views), own, atol=1e-6), "which the model scores with"


def test_the_short_view_of_gcsan_is_of_its_graph_and_not_of_its_attention(folder):
    world = wrapped(folder, "GCSAN")
    watched, batch = world.model.eval().backbone, a_batch(world)
    layout = Layout.of(batch["item_length"], only_last=True)
    views = watched.views(batch["item_id_list"], layout, watched.items())
    gcsan, picked = watched.model, []
    gather = type(gcsan).gather_indexes
    gcsan.gather_indexes = lambda *given: picked.append(gather(gcsan, *given)) or picked[-1]
    gcsan(batch["item_id_list"], batch["item_length"])
    assert len(picked) == 2 and torch.equal(views.local_BH, picked[0])


def test_a_session_without_an_answer_has_the_learned_vector_in_every_way_of_fusing(folder):
    for fuse in ("scalar_gate", "vector_gate", "concat"):
        world = wrapped(folder, fuse=fuse, intent_control="shuffled")  # which has no answer for a new session
        model, batch = world.model.eval(), a_batch(world)
        layout = Layout.of(batch["item_length"], only_last=True)
        views = model.views(batch["item_id_list"], layout, model.items())
        found = model(batch["item_id_list"], batch["item_length"])
        unknown_BH = model.no_answer.expand_as(views.local_BH)
        fused_BH = model.fused(views, {view: (unknown_BH, None) for view in ("long", "short")})
        assert torch.allclose(found[:, :16], fused_BH, atol=1e-6) and not found[:, 16:].any(), fuse


def test_watching_a_model_leaves_it_as_it_was(folder):
    model = wrapped(folder, "SASRec").model.backbone.model
    assert "gather_indexes" not in vars(model)


def test_a_masked_last_position_stands_behind_the_session_and_full_ones_lose_their_oldest():
    from recbole_llm.model.backbones import with_mask

    masked, place = with_mask(torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([3, 1]), 9)
    assert masked.tolist() == [[2, 3, 9], [4, 9, 0]] and place.tolist() == [2, 1]


@pytest.mark.parametrize("backbone", ["NextItNet", "Caser"])
def test_a_backbone_that_cannot_be_watched_is_refused(folder, backbone):
    with pytest.raises(SettingError, match=f"{backbone} does not hand its hidden states to gather_indexes"):
        wrapped(folder, backbone)


@pytest.mark.parametrize("wrapper", ["LLM4SBR", "LLMInit"])
@pytest.mark.parametrize(
    "backbone",
    ["LLM4SBR", "LLMInit", "LLMSeqRec", "HierLLMRec", "RAGLLMRec", "LLMInfer", "LLMSeqSim", "BPR"],
)
def test_a_backbone_that_is_no_session_model_is_refused_by_every_wrapper(folder, wrapper, backbone):
    world = house(folder, wrapper)
    world.config["backbone"] = backbone
    with pytest.raises(SettingError, match=f"backbone: {backbone} is no session model with item embeddings"):
        type(world.model)(world.config, world.train._dataset)


def test_a_backbone_without_item_embeddings_is_refused(folder):
    with pytest.raises(SettingError, match="backbone: FPMC is no session model with item embeddings"):
        wrapped(folder, "FPMC")


@pytest.mark.parametrize("backbone", ["GCSAN", "RecBole-SRGNN"])
def test_a_model_is_tried_where_its_weights_are_whatever_device_it_will_stand_on(folder, backbone):
    model = wrapped(folder, backbone).model.backbone.model
    model.device = torch.device("meta")  # as a GPU would be
    watched = Watched(model)
    assert watched.has_global and model.device == torch.device("meta")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"backbone": "SRGN"}, "no model is called SRGN; did you mean SRGNN?"),
        (
            {"views": {"long": "globl"}},
            "`views` has long: globl, expected for each view one of global, local, fused",
        ),
        (
            {"views": {"a": "fused", "b": "local"}},
            "a view that meets the fused session vector; then all must",
        ),
        (
            {"session_intents": {"long": "x"}},
            "session_intents has answers of long, expected one folder for each of the views long, short",
        ),
        (
            {"views": {"third": "local"}},
            "views: nothing stands in for the answers of third; name their folders",
        ),
        (
            {"views": {"items": "local"}},
            "config key `views` has items, expected names of letters, digits and _",
        ),
        ({"views": {"a.b": "local"}}, "config key `views` has a.b, expected names of letters, digits and _"),
        ({"train_rows": "dense"}, "needs a model that reads left to right, but LLM4SBR is not known to"),
        ({"topk_localize": -1}, "config key `topk_localize` is -1, expected 0 or more"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_in_a_sentence(folder, keys, message):
    with pytest.raises(SettingError) as refusal:
        wrapped(folder, **keys)
    assert message in str(refusal.value)
