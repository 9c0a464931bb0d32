"""LLM4SBR: equations by hand, what its texts may change and what they may not, over every kind of backbone."""

import json

import numpy as np
import pytest
import torch
from carousel import house, write_carousel
from torch.nn import functional as F

from recbole_llm.data.intents import attach_session_intents
from recbole_llm.errors import ArtifactError, SettingError
from recbole_llm.llm.generate import Given, Tally
from recbole_llm.llm.texts import Origin, publish
from recbole_llm.model import losses
from recbole_llm.model.base import Beside
from recbole_llm.model.intents import HeuristicIntents, localized
from recbole_llm.model.layout import Layout
from recbole_llm.text.artifact import AlignedVectors
from recbole_llm.train.build import build, configure
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


# ---------------------------------------------------------------------- localization and intents


NAMES = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [3.0, 3.0]])
PRESENT = torch.tensor([False, True, True, True])


def pinned(answer, k, localize="sum"):
    return localized(torch.tensor([answer]), torch.tensor([True]), NAMES, PRESENT, k=k, localize=localize)[0]


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
    found = localized(torch.ones(2, 2), torch.tensor([False, True]), NAMES, PRESENT, k=1, localize="sum")
    assert not found[0].any() and found[1].any()


def test_without_a_language_model_the_medoid_and_the_last_item_answer():
    names = AlignedVectors(NAMES.numpy(), PRESENT.numpy())
    intents = HeuristicIntents(names, ("long", "short"), k=0, localize="sum")
    layout = Layout.of(torch.tensor([3, 2]), only_last=True)
    items = torch.tensor([[1, 3, 2], [2, 2, 0]])
    item_T, session_T = layout.pack(items), layout.place_T // layout.length
    found = intents(item_T, session_T, layout.last_B)
    assert found["long"][0].tolist() == [[3.0, 3.0], [0.0, 4.0]], "item 3 lies between 1 and 2"
    assert found["short"][0].tolist() == [[0.0, 4.0], [0.0, 4.0]]
    assert found["long"][1].all() and found["short"][1].all()


# ---------------------------------------------------------------------- equations


def test_without_texts_it_is_the_backbones_session_vector(folder):
    world, alone = wrapped(folder, views={}), house(folder, "SRGNN")
    world.model.backbone.load_state_dict(alone.model.state_dict())
    world.model.join.load_state_dict(alone.model.transform.state_dict())
    batch = a_batch(world)
    scores = world.model.eval().full_sort_predict(batch)
    assert torch.allclose(scores, alone.model.eval().full_sort_predict(batch), atol=1e-6)


def test_a_text_of_the_long_view_moves_the_scores_by_its_gate_alone(folder):
    model = wrapped(folder).model.eval()
    items, length = torch.tensor([[3, 5, 7], [2, 4, 0]]), torch.tensor([3, 2])
    layout = Layout.of(length, only_last=True)
    views = model.views(items, layout, model.current_items())
    texts = model.texts(items, layout, None)
    known = texts["long"][1]
    other = texts | {"long": (torch.randn(2, 16), known)}
    before, after = model.fused(views, texts), model.fused(views, other)
    gates = [model.gates["long"](torch.sigmoid(views.global_BH + each["long"][0])) for each in (texts, other)]
    weight = model.join.weight[:, :16]  # of the global part
    expected = before + F.linear((gates[1] - gates[0]) * views.global_BH, weight)
    assert torch.allclose(after, expected, atol=1e-5) and not torch.allclose(after, before, atol=1e-4)


@pytest.mark.parametrize("fuse", ["scalar_gate", "vector_gate", "concat"])
@pytest.mark.parametrize(
    "views", [{"long": "global", "short": "local"}, {"short": "local"}, {"normal": "fused"}]
)
def test_every_way_of_fusing_learns(folder, fuse, views):
    world = wrapped(folder, fuse=fuse, views=views)
    loss = sum(world.model.calculate_loss(next(iter(world.train))))
    loss.backward()
    idle = [
        name
        for name, weight in world.model.named_parameters()
        if weight.grad is None and name != "no_answer" and not name.startswith("backbone.transform")
    ]
    assert not idle


def test_rows_without_an_answer_are_left_out_of_the_alignment(folder):
    keys = {"without": ("i3", "i4"), "views": {"short": "local"}}
    world = wrapped(folder, **keys)
    batch = next(iter(world.train))
    total = world.model.calculate_loss(batch)
    layout = Layout.of(batch["item_length"], only_last=True)
    views = world.model.views(batch["item_id_list"], layout, world.model.items())
    text, known = world.model.texts(batch["item_id_list"], layout, None)["short"]
    assert not known.all() and known.sum() > 1
    expected = 0.1 * losses.alignment_and_uniformity(views.local_BH[known], text[known])
    assert total[-1].item() == pytest.approx(expected.item(), rel=1e-4)
    assert torch.equal(text[~known], world.model.no_answer.expand(int((~known).sum()), -1))


def test_a_batch_of_one_session_has_no_alignment(folder):
    world = wrapped(folder)
    loss = world.model.calculate_loss(next(iter(world.train))[torch.tensor([0])])
    assert torch.is_tensor(loss) and torch.isfinite(loss)


@pytest.mark.parametrize("control", ["shuffled", "random"])
def test_controls_give_sessions_answers_that_say_nothing_of_them(folder, control):
    right, wrong = (wrapped(folder, intent_control=kind).model.eval() for kind in ("none", control))
    wrong.load_state_dict(right.state_dict())
    batch = a_batch(wrapped(folder))
    assert not torch.allclose(right.full_sort_predict(batch), wrong.full_sort_predict(batch), atol=1e-5)


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
    alone = torch.cat([model.full_sort_predict(batch[torch.tensor([row])]) for row in range(4)])
    assert torch.allclose(model.full_sort_predict(batch)[:4], alone, atol=1e-5)


def test_watching_a_model_leaves_it_as_it_was(folder):
    model = wrapped(folder, "SASRec").model.backbone.model
    assert "gather_indexes" not in vars(model)


def test_a_masked_last_position_stands_behind_the_session_and_full_ones_lose_their_oldest():
    from recbole_llm.model.backbones import with_mask

    masked, place = with_mask(torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([3, 1]), 9)
    assert masked.tolist() == [[2, 3, 9], [4, 9, 0]] and place.tolist() == [2, 1]


def test_a_backbone_that_cannot_be_watched_is_refused(folder):
    with pytest.raises(SettingError, match="NextItNet does not hand its hidden states to gather_indexes"):
        wrapped(folder, "NextItNet")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"backbone": "LLMSeqRec"}, "backbone: LLMSeqRec is no session model"),
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
            "session_intents has answers of long, expected one folder for each",
        ),
        ({"train_rows": "dense"}, "needs a model that reads left to right, but LLM4SBR is not known to"),
        ({"topk_localize": -1}, "config key `topk_localize` is -1, expected 0 or more"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_in_a_sentence(folder, keys, message):
    with pytest.raises(SettingError) as refusal:
        wrapped(folder, **keys)
    assert message in str(refusal.value)


# ---------------------------------------------------------------------- answers made ahead


def answers(root, dataset, text, *, user="u3", change=0):
    """An artifact of one answer about the history before the last event of a user."""
    tokens = dataset.field2id_token
    user_id = dataset.field2token_id["user_id"][user]
    places = torch.nonzero(dataset.events["user_id"] == user_id).squeeze(1)
    count = len(places) - 1 + change
    last = tokens["item_id"][dataset.events["item_id"][places[len(places) - 2]]]
    about = f"{user}@{count}"
    origin = Origin(
        kind="sessions", templates=("session_intent@1",), settings={}, told="x", backend="fake", revision="1",
        is_llm=True, fallback="", cuts={about: (count, str(last))},
    )  # fmt: skip
    given = (Given(about, text, "fake", "answered"),)
    return publish(root, origin, given, Tally()), int(places[-1])


@pytest.fixture
def built(folder, tmp_path):
    given = {"model": "LLM4SBR", "dataset": "carousel", "data_path": str(folder), "text_fields": ["title"]}
    given |= {
        "show_progress": False,
        "artifact_path": str(tmp_path / "artifacts"),
        "topk": [1, 3],
        "valid_metric": "MRR@3",
    }
    config = configure("LLM4SBR", given)
    config["checkpoint_dir"] = str(tmp_path)
    parts, _, _ = build(config)
    return config, parts[0]._dataset


def test_an_answer_reaches_the_row_whose_history_it_has_read_and_no_other(built, tmp_path):
    config, dataset = built
    texts, place = answers(tmp_path / "a", dataset, "Horse number 5")
    config["session_intents"] = {"long": str(texts.directory)}
    manifests = attach_session_intents(config, dataset)
    intents = dataset.session_intents["long"]
    assert torch.nonzero(intents.row_N).squeeze(1).tolist() == [place] and intents.row_N[place] == 1
    assert not intents.vector_AD[0].any() and intents.vector_AD[1].any() and "intents-long" in manifests
    config["views"] = {"long": "global"}
    world = config.model_class(config, dataset).eval()
    items, length = torch.tensor([[3, 5, 7], [2, 4, 0]]), torch.tensor([3, 2])
    layout = Layout.of(length, only_last=True)
    _, known = world.texts(items, layout, torch.tensor([place, place - 1]))["long"]
    assert known.tolist() == [True, False]
    assert torch.isfinite(world.encode(items, layout, Beside(end_B=torch.tensor([place, place - 1])))).all()


def test_answers_that_have_read_other_events_are_refused(built, tmp_path):
    config, dataset = built
    texts, _ = answers(tmp_path / "b", dataset, "Horse number 5", change=-1)
    config["session_intents"] = {"long": str(texts.directory)}
    with pytest.raises(
        ArtifactError, match="has read other events than this data set has before 1 of its 1 places"
    ):
        attach_session_intents(config, dataset)


def test_answers_about_others_than_sessions_are_refused(built, tmp_path):
    config, dataset = built
    texts, _ = answers(tmp_path / "c", dataset, "x")
    manifest = json.loads((texts.directory / "manifest.json").read_text())
    manifest["made_from"]["kind"] = "users"
    from recbole_llm.llm.texts import FORMAT
    from recbole_llm.text.manifest import content_key

    manifest["key"] = content_key({"format": FORMAT, **manifest["made_from"]})
    (texts.directory / "manifest.json").write_text(json.dumps(manifest))
    config["session_intents"] = {"long": str(texts.directory)}
    with pytest.raises(ArtifactError, match="speaks of users, expected sessions"):
        attach_session_intents(config, dataset)
