"""The acceptance checks of LLMSeqRec, and every switch of its configuration on the carousel."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from carousel import N_ITEMS, house, token_vectors, write_carousel
from recbole.model.sequential_recommender import SASRec

from recbole_llm.errors import ArtifactError, SettingError
from recbole_llm.model import base, losses
from recbole_llm.model.base import Beside
from recbole_llm.model.layout import Layout
from recbole_llm.text.artifact import AlignedVectors

PLAIN = {
    "fusion": "id_only",
    "encoder": "sasrec",
    "score": "dot",
    "time_mode": "none",
    "position": "learned",
    "lambda_align": 0.0,
    "id_init": "random",
}
SWITCHES = [
    *({"fusion": fusion} for fusion in ("gate", "sum", "concat", "text_only", "dual")),
    {"fusion": "id_only"},
    {"fusion": "nullspace"},
    {"fusion": "text_only", "lambda_align": 0.1},
    {"lambda_align": 0.1, "id_dropout": 0.1},
    *({"loss": loss, "n_negatives": 5} for loss in ("ce", "ssm", "gbce", "bce")),
    {"loss": "ssm", "n_negatives": 5, "negatives": "batch"},
    *({"loss": loss, "n_negatives": 5, "negatives": "row"} for loss in ("ssm", "gbce")),
    *({"whiten": whiten} for whiten in ("none", "pca", "relaxed", "full", "ensemble")),
    {"whiten_groups": 2, "whiten_zca": True},
    *({"position": position} for position in ("learned", "rotary", "relative", "none")),
    *({"time_mode": mode} for mode in ("bias", "tisasrec")),
    {"time_input": True},
    {"use_query_time": True},
    {"score": "dot"},
    {"encoder": "sasrec", "position": "learned"},
    *({"id_init": start} for start in ("pca", "random", "zeros")),
    {"ctx_gate": True},
    {"kappa": 0.0},
    {"likeness_events": 3, "likeness_rare": 2.0},
    {"likeness_events": 2, "score": "dot", "ctx_gate": True},
    {"likeness_events": 1, "fusion": "dual", "train_rows": "prefix"},
    {"text_trainable": True},
    {"n_experts": 1},
    {"lambda_feat": 0.1, "feat_warmup": 0},
    {"lambda_sd": 0.1, "train_rows": "prefix", "n_similar_users": 3},
    {"train_rows": "prefix"},
    {"enable_amp": True},
    {"attention_dropout": 0.1, "dropout": 0.1, "adaptor_dropout": 0.1, "id_dropout": 0.5},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("llmseqrec"))


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda s: " ".join(f"{k}={v}" for k, v in s.items()))
def test_every_switch_trains_all_its_weights_and_scores_every_item(folder, switch):
    world = house(folder, fields=("title", "colour"), **switch)
    torch.manual_seed(0)
    total = world.model.calculate_loss(next(iter(world.train)))
    total.backward()
    assert torch.isfinite(total)
    untouched = [name for name, p in world.model.named_parameters() if p.requires_grad and p.grad is None]
    assert not untouched
    world.model.eval()
    batch = next(iter(world.test))[0]
    scores = world.model.full_sort_predict(batch)
    assert scores.shape == (len(batch), N_ITEMS + 1) and torch.isfinite(scores).all()
    one = world.model.predict(batch)
    assert torch.allclose(one, scores.gather(1, batch["item_id"][:, None]).squeeze(1), atol=1e-4)


def test_the_plain_variant_is_recboles_sasrec(folder):
    ours = house(folder, **PLAIN, n_layers=2)
    keys = {"hidden_size": 16, "inner_size": 64, "n_layers": 2, "MAX_ITEM_LIST_LENGTH": 8}
    theirs = house(folder, "SASRec", train_neg_sample_args="None", loss_type="CE", **keys).model.eval()
    assert type(theirs) is SASRec
    names = {
        "table.own.weight": "item_embedding.weight",
        "sequence.position.weight": "position_embedding.weight",
        "sequence.norm.weight": "LayerNorm.weight",
        "sequence.norm.bias": "LayerNorm.bias",
    }
    weights = {
        name: theirs.state_dict()[names.get(name, name.removeprefix("sequence."))]
        for name in ours.model.state_dict()
    }
    ours.model.load_state_dict(weights)
    ours.model.eval()
    for batch in ours.test:
        difference = ours.model.full_sort_predict(batch[0]) - theirs.full_sort_predict(batch[0])
        assert difference.abs().max() < 1e-5


def test_in_a_dot_product_the_length_of_an_item_counts_but_not_in_what_is_read(folder):
    model, batch = scored_by_dot(folder)
    history = batch["item_id_list"], batch["item_length"]
    item = int(history[0][0, 0])
    user, score = model(*history), model.full_sort_predict(batch)
    longer = model.current_items().clone()
    longer[item] *= 3
    model.eval()._kept["items"] = longer
    assert torch.allclose(model(*history), user, atol=1e-3), "the item stands in the first history"
    others = torch.arange(N_ITEMS + 1) != item
    after = model.full_sort_predict(batch)
    assert torch.allclose(after[:, item], 3 * score[:, item], atol=1e-2)
    assert torch.allclose(after[:, others], score[:, others], atol=1e-2)


def scored_by_dot(folder):
    """A model whose items are of some length, as learned ones are, and a batch of its test part."""
    world = house(folder, score="dot")
    with torch.no_grad():
        for weight in (world.model.table.own.weight, world.model.table.text.adaptors[0].weight):
            weight.normal_()
    return world.model.eval(), next(iter(world.test))[0]


def unseen(world):
    """Make one item unseen: as if the training part had never held it."""
    gate = world.model.table.gate
    gate.trust_I1[3] = 0
    if world.model.likeness is not None:
        world.model.likeness.lean_I1[3] = 1 + world.model.settings.likeness_rare
    return 3


def test_the_own_vector_of_an_unseen_item_plays_no_part(folder):
    world = house(folder)
    item = unseen(world)
    world.model.eval()
    batch = next(iter(world.test))[0]
    before = world.model.full_sort_predict(batch)
    gate = world.model.table.parts().gate
    assert gate[item].abs().max() == 0
    with torch.no_grad():
        world.model.table.own.weight[item] = 100.0
    world.model.train()
    world.model.eval()
    assert torch.equal(world.model.full_sort_predict(batch), before)


@torch.no_grad()
def test_the_likeness_of_the_last_texts_is_added_to_the_score_and_rare_items_lean_on_it(folder):
    world = house(folder, likeness_events=2, likeness_rare=3.0, kappa=5.0)
    model, layout = world.model.eval(), Layout.of(torch.tensor([3, 1]))
    model.likeness.weight_K.copy_(torch.tensor([0.7, 0.2]))
    history, elapsed = torch.tensor([[4, 5, 6], [7, 0, 0]]), torch.zeros(2, 3, dtype=torch.long)
    user_TS = model.encode(history, layout, Beside(elapsed))
    behind = model.likeness.width
    item_IS = model.scored(model.current_items())
    added_TI = user_TS[:, -behind:] @ item_IS[:, -behind:].t()

    text = F.normalize(model.likeness.text_IW, dim=1)
    count_I = world.train._dataset.train_counts()
    lean_I = 1 + 3.0 * (1 - count_I / (count_I + 5.0))
    for place, events in zip(layout.last_B, ([6, 5], [7]), strict=True):
        expected_I = sum(weight * text @ text[item] for weight, item in zip((0.7, 0.2), events, strict=False))
        assert torch.allclose(added_TI[place], expected_I * lean_I, atol=1e-6)
    assert (item_IS[0, -behind:] == 0).all(), "padding is like nothing"

    scores = model.full_sort_predict(next(iter(world.test))[0])
    model.likeness.weight_K.zero_()
    model.train(), model.eval()
    assert (model.full_sort_predict(next(iter(world.test))[0]) - scores).abs().max() > 0.1


@pytest.mark.parametrize("keys", [{}, {"likeness_events": 3, "likeness_rare": 2.0}], ids=str)
def test_a_new_item_is_ranked_by_its_text_without_training(folder, keys):
    world = house(folder, fields=("title", "colour"), **keys)
    world.model.eval()
    batch = next(iter(world.test))[0]
    before = world.model.full_sort_predict(batch)
    twin_of = unseen(world)
    world.model.train()
    world.model.eval()
    dataset = world.train._dataset
    twin = {
        f: AlignedVectors(v.vectors[[twin_of]], v.present[[twin_of]]) for f, v in dataset.text_vectors.items()
    }
    assert list(world.model.add_items(twin)) == [N_ITEMS + 1]
    after = world.model.full_sort_predict(batch)
    assert after.shape == (len(batch), N_ITEMS + 2)
    assert torch.allclose(after[:, -1], after[:, twin_of], atol=1e-4), (
        "the same text, both unseen: the same score"
    )
    old = [item for item in range(N_ITEMS + 1) if item != twin_of]
    history_without_it = ~(batch["item_id_list"] == twin_of).any(1)
    assert history_without_it.any()
    assert torch.allclose(after[history_without_it][:, old], before[history_without_it][:, old], atol=1e-4)


def test_new_items_need_a_fusion_that_can_do_without_own_vectors(folder):
    world = house(folder, fusion="sum")
    with pytest.raises(
        SettingError, match="fusion: sum scores an item by a vector of its own.*gate or text_only"
    ):
        world.model.add_items({"title": token_vectors(["new"])})


def test_items_without_text_share_one_learned_vector(folder):
    world = house(folder, without=("i1", "i2"))
    world.model.eval()
    text = world.model.table.parts().text
    bare = [world.train._dataset.token2id("item_id", token) for token in ("i1", "i2")]
    assert torch.equal(text[bare[0]], text[bare[1]])
    assert torch.equal(text[bare[0]], world.model.table.text.no_text)


def test_the_cached_items_are_the_computed_ones(folder):
    world = house(folder)
    world.model.eval()
    world.model.full_sort_predict(next(iter(world.test))[0])
    assert torch.equal(world.model._kept["items"], world.model.items())
    world.model.train()
    assert not world.model._kept


def test_the_target_time_matters_only_where_it_is_asked_for(folder):
    for asked in (False, True):
        world = house(folder, use_query_time=asked, time_mode="bias")
        world.model.eval()
        batch = next(iter(world.test))[0]
        before = world.model.full_sort_predict(batch)
        batch.interaction["timestamp"] += 1000
        if asked:
            batch.interaction["next_elapsed_list"] = batch["next_elapsed_list"] + 1000
        assert torch.equal(world.model.full_sort_predict(batch), before) is not asked


def test_the_context_of_earlier_texts_moves_the_gate(folder):
    world = house(folder, ctx_gate=True)
    world.model.eval()
    batch = next(iter(world.test))[0]
    before = world.model.full_sort_predict(batch)
    with torch.no_grad():
        world.model.table.context.weight.zero_()
    assert not torch.allclose(world.model.full_sort_predict(batch), before, atol=1e-5)


def test_id_dropout_shows_the_text_alone(folder):
    world = house(folder, id_dropout=1.0)
    batch = next(iter(world.train))
    world.model.calculate_loss(batch).backward()
    assert world.model.table.own.weight.grad.abs().max() == 0


def test_similar_users_are_those_who_read_alike(folder):
    world = house(folder, lambda_sd=0.1, train_rows="prefix", n_similar_users=3)
    near = world.model.neighbours
    assert near.similar_UP.shape[1] == 39  # 40 users: everybody else
    assert all(user not in near.similar_UP[user].tolist() for user in range(1, 41))
    history, length, drawn = near.draw(torch.tensor([1, 2]))
    assert drawn == 3 and history.shape == (6, 8) and length.min() >= 1
    vectors = torch.as_tensor(world.train._dataset.text_vectors["title"].vectors)
    mean = torch.stack(
        [vectors[row[: int(n)]].mean(0) for row, n in zip(near.item_seq_UL, near.length_U, strict=True)]
    )
    likeness = torch.cosine_similarity(mean[1][None], mean)
    nearest = int(near.similar_UP[1, 0])
    assert likeness[nearest] >= likeness[[user for user in range(2, 41)]].max() - 1e-5


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"hidden_size": 15}, "hidden_size 15 must be a multiple of n_heads 2"),
        ({"hidden_size": 6, "position": "rotary"}, "even head size, but 6 / 2 is odd"),
        ({"encoder": "sasrec", "time_mode": "bias"}, "set position: learned, time_mode: none"),
        ({"fusion": "id_only", "lambda_align": 0.1}, "fusion: id_only has no text vectors to align"),
        ({"fusion": "sum", "ctx_gate": True}, "but fusion is sum; set ctx_gate: False"),
        ({"lambda_sd": 0.1}, "needs train_rows: prefix, found dense"),
        ({"lambda_sd": 0.1, "train_rows": "prefix", "time_mode": "bias"}, "set time_mode: none"),
        ({"lambda_sd": 0.1, "train_rows": "prefix", "fusion": "id_only"}, "fusion: id_only has none"),
        ({"n_heads": 0}, "`n_heads` is 0, expected 1 or more"),
        ({"temperature": -1}, "`temperature` is -1.0, expected more than 0"),
        ({"kappa": -1}, "`kappa` is -1.0, expected 0 or more"),
        ({"id_dropout": 2}, "`id_dropout` is 2.0, expected from 0 to 1"),
        ({"loss": "gbce", "negatives": "batch"}, "log Q correction of loss: ssm, found loss: gbce"),
        ({"fusion": "gat"}, "`fusion` is 'gat', expected one of gate, sum"),
        ({"dropout": "much"}, r"`dropout` is 'much' \(str\), expected float"),
    ],
)
def test_settings_that_cannot_be_are_refused(folder, keys, message):
    with pytest.raises(SettingError, match=message):
        house(folder, **keys)


@pytest.mark.parametrize("ctx_gate", [False, True])
def test_an_item_whose_own_vector_is_dropped_is_text_alone_on_both_sides(folder, ctx_gate):
    world = house(folder, ctx_gate=ctx_gate, id_dropout=1.0)
    world.model.train().calculate_loss(next(iter(world.train))).backward()
    assert world.model.table.own.weight.grad.abs().max() == 0


def test_weights_of_other_texts_are_refused(folder):
    world, other = house(folder), house(folder, salt=4)
    with pytest.raises(ArtifactError, match="trained with 0000000000000000000 as `title`"):
        other.model.load_other_parameter(world.model.other_parameter())
    world.model.load_other_parameter(world.model.other_parameter())


@pytest.mark.parametrize("fusion", ["id_only", "gate"])
def test_what_was_scored_does_not_change_what_is_saved(folder, fusion):
    world = house(folder, fusion=fusion)
    names = set(world.model.state_dict())
    world.model.eval().full_sort_predict(next(iter(world.test))[0])
    assert set(world.model.state_dict()) == names


def test_the_context_of_a_window_is_no_target(folder):
    world = house(folder, window_overlap=5)
    batch = next(iter(world.train))
    layout, target = Layout.of(batch["item_length"]), batch["next_item_list"]
    assert ((target == 0) & (batch["item_id_list"] > 0)).any()
    with torch.no_grad():
        user = world.model.eval().encode(batch["item_id_list"], layout, Beside(batch["elapsed_list"]))
        taught = layout.pack(target) > 0
        items = world.model.scored(world.model.current_items())
        expected = losses.full_softmax(user[taught], items, layout.pack(target)[taught])
        assert world.model.calculate_loss(batch).item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"fusion": "dual"},
        {"ctx_gate": True},
        {"likeness_events": 3},
        {"time_input": True},
        {"time_mode": "bias"},
        {"time_mode": "tisasrec"},
        {"encoder": "sasrec", "position": "learned"},
        {"position": "relative"},
    ],
    ids=str,
)
@torch.no_grad()
def test_what_comes_later_changes_nothing_before_it(folder, keys):
    model = house(folder, **keys).model.eval()
    for parameter in model.parameters():
        parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    layout = Layout.of(torch.tensor([6]))
    items, elapsed = torch.tensor([[3, 4, 5, 6, 7, 8]]), torch.tensor([[0, 7, 14, 21, 40, 63]])
    before = model.encode(items, layout, Beside(elapsed))
    items[0, 4:], elapsed[0, 4:] = torch.tensor([1, 12]), torch.tensor([22, 90])
    after = model.encode(items, layout, Beside(elapsed))
    assert torch.allclose(before[:4], after[:4], atol=1e-5)
    assert (before[4:] - after[4:]).abs().max() > 1e-3


def test_times_that_are_all_the_same_are_left_out_with_a_warning(tmp_path, caplog):
    path = write_carousel(tmp_path) / "carousel" / "carousel.inter"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([rows[0], *(row.rpartition("\t")[0] + "\t5" for row in rows[1:])]) + "\n")
    world = house(tmp_path, time_mode="bias", time_input=True)
    assert world.model.settings.time_mode == "none" and world.model.gap is None
    assert "have the same time; time_mode and time_input are off" in caplog.text


def test_the_text_vectors_are_not_in_the_checkpoint(folder):
    world = house(folder)
    assert not [name for name in world.model.state_dict() if ".table_" in name]
    assert (
        house(folder, text_trainable=True).model.state_dict()["table.text.table_0_0"].shape[0] == N_ITEMS + 1
    )


def test_weight_decay_of_the_adaptors_is_their_own(folder):
    groups = house(folder, adaptor_weight_decay=0.5).model.parameter_groups()
    assert "weight_decay" not in groups[0] and groups[1]["weight_decay"] == 0.5
    assert len(groups[1]["params"]) == 4
    assert np.sum([len(group["params"]) for group in groups]) == len(list(house(folder).model.parameters()))


@pytest.mark.parametrize(
    "switch",
    [
        {"loss": "ssm"},
        {"loss": "gbce", "negatives": "row"},
        {"loss": "ssm", "negatives": "batch"},
        {"loss": "bce", "ctx_gate": True, "whiten": "none"},
        {"loss": "ssm", "fusion": "nullspace"},
        {"loss": "ssm", "likeness_events": 3},
        {"loss": "ssm", "lambda_align": 0.1, "text_trainable": True},
        {"loss": "ssm", "train_rows": "prefix", "fusion": "dual"},
    ],
    ids=lambda s: " ".join(f"{k}={v}" for k, v in s.items()),
)
def test_a_sampled_loss_reads_the_items_of_its_batch_alone_and_is_the_same(folder, switch, monkeypatch):
    world = house(folder, fields=("title", "colour"), n_negatives=3, window_overlap=2, **switch)
    model, batch = world.model.train(), next(iter(world.train))
    found = []
    for most in (1e9, 0):
        monkeypatch.setattr(base, "MOST", most)
        model.zero_grad()
        torch.manual_seed(0)
        loss = model.calculate_loss(batch)
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_the_items_that_a_batch_names_come_once_with_padding_first(folder, monkeypatch):
    monkeypatch.setattr(base, "MOST", 1e9)
    model = house(folder, loss="ssm").model
    named = model._named(torch.tensor([[7, 3], [7, 0]]), torch.tensor([9, 3]), torch.tensor([4]))
    assert [part.tolist() for part in named] == [[0, 3, 4, 7, 9], [[3, 1], [3, 0]], [4, 1], [2]]
    monkeypatch.setattr(base, "MOST", 1.0)
    assert model._named(torch.arange(N_ITEMS + 2))[0] is None, "as many as there are"
