"""HierLLMRec by hand, and what must not happen: a look at the future, at padding, at another item's text."""

from pathlib import Path

import numpy as np
import pytest
import torch
from carousel import TINY, house, write_carousel
from tiny_llm import WORDS, write_tiny_llm
from torch.nn import functional as F

from recbole_llm.errors import ArtifactError, BackendError, SettingError
from recbole_llm.model import losses
from recbole_llm.model.base import Beside
from recbole_llm.model.layout import Layout
from recbole_llm.model.rec_llm import Pooling
from recbole_llm.text.plain import clean
from recbole_llm.train import run as road
from recbole_llm.train.build import build, configure, known_to
from recbole_llm.train.trainer import trainer_for

TOLD = [
    "Title",
    "Colour",
    "Horse",
    "number",
    ":",
    ".",
    *map(str, range(17)),
]  # what the carousel's texts are made of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("hier"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A function from a kind of language model to a folder with a tiny one."""
    made = {}

    def make(kind):
        if kind not in made:
            made[kind] = str(write_tiny_llm(tmp_path_factory.mktemp(kind), kind, [*WORDS, *TOLD]))
        return made[kind]

    return make


def live(folder, **keys):
    """A model built by the main job's own steps, from the texts of the carousel's .item file."""
    given = {"model": "HierLLMRec", "dataset": "carousel", "data_path": str(folder)}
    given |= known_to("HierLLMRec", "carousel", TINY) | {"text_fields": ["title", "colour"]}
    given |= {"text_max_tokens": 31} | keys  # the tiny models read 32
    config = configure("HierLLMRec", given)
    config["checkpoint_dir"] = str(folder / "live")
    parts, _, model = build(config)
    return config, parts, model


def a_batch(world):
    return next(iter(world.test))[0]


# ---------------------------------------------------------------------- by hand


@pytest.mark.parametrize("head", ["embed", "tied"])
def test_without_a_rec_llm_it_ranks_by_the_cosine_with_the_mean_of_the_history(folder, head):
    world = house(
        folder,
        "HierLLMRec",
        rec_llm="none",
        head=head,
        pool_user="mean",
        train_rows="prefix",
        hidden_size=12,
        whiten="none",
    )
    model, batch = world.model.eval(), a_batch(world)
    with torch.no_grad():  # every map starts as the identity, up to lengths that a cosine does not see
        model.log_temperature.fill_(0.0)
        model.input_map.norm = model.norm = torch.nn.Identity()
    vectors = model.item_llm.table_IW
    for row in range(len(batch)):
        history = batch["item_id_list"][row][: batch["item_length"][row]]
        expected = F.cosine_similarity(vectors[history].mean(0)[None], vectors[1:])
        assert torch.allclose(model.full_sort_predict(batch)[row, 1:], expected, atol=1e-5)


def test_a_classifier_scores_by_its_rows_and_their_bias(folder):
    world = house(folder, "HierLLMRec", head="classifier", score="dot")
    model, batch = world.model.eval(), a_batch(world)
    with torch.no_grad():
        model.head.item_IH.copy_(torch.randn(model.head.item_IH.shape))
    layout = Layout.of(batch["item_length"], only_last=True)
    user = model.norm(model.pooled(layout.pack(batch["item_id_list"]), layout))
    weight, bias = model.head.item_IH[:, :-1], model.head.item_IH[:, -1]
    assert torch.allclose(model.full_sort_predict(batch), user @ weight.T + bias, atol=1e-5)


def test_a_running_mean_is_the_mean_of_what_was_read_so_far():
    layout = Layout.of(torch.tensor([3, 1]))
    hidden = layout.pack(torch.tensor([[[1.0], [3.0], [8.0]], [[5.0], [0.0], [0.0]]]))
    means = layout.pad(Pooling("mean", 1)(hidden, layout))
    assert means[:, :, 0].tolist() == [[1.0, 2.0, 4.0], [5.0, 0.0, 0.0]]


def test_attention_pooling_weighs_by_a_learned_query():
    layout, pooling = Layout.of(torch.tensor([2])), Pooling("attention", 1)
    with torch.no_grad():
        pooling.query.weight.fill_(1.0)
        pooling.query.bias.zero_()
    pooled = pooling(torch.tensor([[0.0], [1.0]]), layout)
    share = np.exp(1) / (1 + np.exp(1))
    assert torch.allclose(pooled, torch.tensor([[0.0], [share]], dtype=torch.float32))


def test_one_pass_of_the_rec_llm_ranks_a_batch(folder, monkeypatch):
    world, calls = house(folder, "HierLLMRec"), []
    forward = world.model.rec_llm.forward
    monkeypatch.setattr(world.model.rec_llm, "forward", lambda *x: calls.append(1) or forward(*x))
    world.model.eval().full_sort_predict(a_batch(world))
    assert len(calls) == 1


def test_nce_has_the_positive_first_and_leaves_false_negatives_out():
    items = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 1e-4], [0.0, 1.0]]), dim=1)
    user, target = items[1:2] / 0.5, torch.tensor([1])
    alone = losses.noise_contrastive(user, items, target, torch.tensor([1, 2]), threshold=0.99)
    assert alone.item() == pytest.approx(0.0, abs=1e-6), "the item itself and its copy are no negatives"
    against = losses.noise_contrastive(user, items, target, torch.tensor([3]), threshold=0.99)
    assert against.item() == pytest.approx(np.log(1 + np.exp(-2.0)), abs=1e-6)


def test_under_autocast_the_same_negatives_are_false():
    def at(cosine):
        return [cosine, (1 - cosine**2) ** 0.5]

    items = torch.tensor([[1.0, 0.0], [1.0, 0.0], at(0.9905), at(0.9915)])  # all .9922 in bfloat16
    user, target, negative = torch.zeros(1, 2), torch.tensor([1]), torch.tensor([2, 3])
    with torch.autocast("cpu", torch.bfloat16):
        under = losses.noise_contrastive(user, items, target, negative, threshold=0.991)
    assert under.item() == pytest.approx(np.log(2)), "the second alone is nearer than the threshold"


def test_the_temperature_stays_within_its_bounds(folder):
    model = house(folder, "HierLLMRec", loss="nce").model.eval()
    pooled = torch.randn(3, model.rec_llm.width)
    for extreme, length in ((-50.0, 100.0), (50.0, 1.0)):
        with torch.no_grad():
            model.log_temperature.fill_(extreme)
        for grad in (False, True):
            with torch.set_grad_enabled(grad):
                norm = model.project(pooled).norm(dim=1)
            assert torch.allclose(norm, torch.full((3,), length), rtol=1e-4)


# ---------------------------------------------------------------------- what must not matter


@pytest.mark.parametrize("pooling", ["mean", "last", "attention"])
@pytest.mark.parametrize("llm", ["transformer", "sasrec", "llama", "none"])
def test_the_vector_of_an_event_does_not_depend_on_later_ones(folder, tiny, pooling, llm):
    keys = {"rec_llm": "decoder", "rec_llm_path": tiny(llm)} if llm == "llama" else {"rec_llm": llm}
    model = house(folder, "HierLLMRec", pool_user=pooling, **keys).model.eval()
    items, length = torch.tensor([[3, 5, 7, 9], [2, 4, 0, 0]]), torch.tensor([4, 2])
    changed = items.clone()
    changed[0, 3] = 11
    layout = Layout.of(length)
    before, after = (layout.pad(model.encode(each, layout, Beside())) for each in (items, changed))
    assert torch.allclose(before[0, :3], after[0, :3], atol=1e-6) and torch.allclose(
        before[1], after[1], atol=1e-6
    )
    assert not torch.allclose(before[0, 3], after[0, 3], atol=1e-3)


@pytest.mark.parametrize("pooling", ["mean", "last", "attention"])
@pytest.mark.parametrize("llm", ["transformer", "llama", "gpt2", "t5"])
def test_what_is_trained_is_what_ranks(folder, tiny, pooling, llm):
    """The last event of a dense row, and a history alone, without company or padding: the same user vector."""
    keys = {"train_rows": "prefix", "rec_llm": "t5_encoder"} if llm == "t5" else {"rec_llm": "decoder"}
    keys = {"rec_llm": llm} if llm == "transformer" else keys | {"rec_llm_path": tiny(llm)}
    model = house(folder, "HierLLMRec", pool_user=pooling, **keys).model.eval()
    items, length = torch.tensor([[3, 5, 7, 9], [2, 4, 0, 0]]), torch.tensor([4, 2])
    ranked = model(items, length)
    if llm != "t5":
        dense = Layout.of(length)
        assert torch.allclose(model.encode(items, dense, Beside())[dense.last_B], ranked, atol=1e-5)
    alone = model(F.pad(items[1:, :2], (0, 5)), length[1:])
    assert torch.allclose(alone, ranked[1:], atol=1e-5)


def test_a_model_that_sees_the_whole_history_takes_no_dense_rows(folder, tiny):
    with pytest.raises(SettingError, match="t5_encoder reads a history as a whole"):
        house(folder, "HierLLMRec", rec_llm="t5_encoder", rec_llm_path=tiny("t5"), train_rows="dense")


@pytest.mark.parametrize("init", ["pretrained", "random"])
@pytest.mark.parametrize(
    ("kind", "causal"), [("bert", False), ("t5", False), ("llama", True), ("gpt2", True)]
)
def test_whether_a_language_model_reads_ahead_is_tried(folder, tiny, kind, causal, init):
    keys = {"rec_llm_path": tiny(kind), "rec_init": init, "train_rows": "prefix"}
    right, wrong = ("decoder", "t5_encoder") if causal else ("t5_encoder", "decoder")
    house(folder, "HierLLMRec", rec_llm=right, **keys)
    refusal = "but .* reads left to right" if causal else "an event would see later ones"
    with pytest.raises(SettingError, match=refusal):
        house(folder, "HierLLMRec", rec_llm=wrong, **keys)


# ---------------------------------------------------------------------- texts


def test_every_item_has_the_vector_of_its_own_text_after_filtering_and_renumbering(tmp_path):
    from recbole_llm.data.texts import attach_item_texts, attach_text_vectors
    from recbole_llm.train.build import training_part

    folder = write_carousel(tmp_path)
    lines = (folder / "carousel" / "carousel.item").read_text().splitlines()
    lines = [
        lines[0],
        "i99\tNobody's horse\tblack",
        *reversed(lines[1:]),
    ]  # an item without events, another order
    (folder / "carousel" / "carousel.item").write_text("\n".join(lines) + "\n")
    given = {"model": "HierLLMRec", "dataset": "carousel", "data_path": str(folder), "show_progress": False}
    given |= {
        "artifact_path": str(tmp_path / "artifacts"),
        "text_fields": ["title"],
        "item_inter_num_interval": "[29,inf)",
    }
    given |= {"text_encoder": "sentence-transformers/all-MiniLM-L6-v2"}
    config = configure("HierLLMRec", given)
    dataset = training_part(config)
    attach_item_texts(config, dataset)
    attach_text_vectors(config, dataset)
    tokens = dataset.field2id_token["item_id"]
    assert 3 < len(tokens) < 18, "some items were filtered out"
    assert dataset.item_texts == ["", *(f"Title: Horse number {token[1:]}." for token in tokens[1:])]
    vectors = dataset.text_vectors["item"].vectors
    from recbole_llm.text.encoder import make_encoder

    encoder = make_encoder(max_tokens=64, compute_dtype="bfloat16")
    expected = encoder.encode(dataset.item_texts[1:])
    assert np.abs(vectors[1:] - expected).max() < 0.02 and not vectors[0].any()


def test_every_film_of_ml_1m_has_its_own_title_whatever_gaps_its_ids_have(shared_data):
    from recbole_llm.data.texts import attach_item_texts
    from recbole_llm.train.build import training_part

    given = {"model": "HierLLMRec", "dataset": "ml-1m", "data_path": str(shared_data / "atomic")}
    config = configure("HierLLMRec", given | {"text_fields": ["title"], "show_progress": False})
    dataset = training_part(config)
    attach_item_texts(config, dataset)
    path = shared_data / "atomic" / "ml-1m" / "ml-1m.item"
    head, *lines = (line.split("\t") for line in path.read_text().splitlines())
    title = [column.partition(":")[0] for column in head].index("movie_title")
    title_of = {cells[0]: cells[title] for cells in lines}
    tokens = dataset.field2id_token["item_id"][1:]
    assert len(tokens) == 3706 and int(max(tokens, key=int)) == 3952
    for token, text in zip(tokens, dataset.item_texts[1:], strict=True):
        title = clean(title_of[token])
        letters = (sorted(filter(str.isalnum, each)) for each in (title, text.removeprefix("Title: ")))
        assert len(set(map(tuple, letters))) == 1, f"{title} became {text}"


def test_an_encoder_that_is_not_at_hand_gives_way_to_the_fallback(folder, tmp_path, caplog):
    given = {"model": "HierLLMRec", "dataset": "carousel", "data_path": str(folder), "show_progress": False}
    given |= {
        "topk": [10],
        "artifact_path": str(tmp_path),
        "text_fields": ["title"],
        "text_encoder": "nobody/has-this-model",
    }
    _, texts, _ = build(configure("HierLLMRec", given))
    assert texts["item"]["made_from"]["encoder"]["name"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert (
        "`nobody/has-this-model` is not on this machine" in caplog.text and "takes its place" in caplog.text
    )


@pytest.mark.parametrize("mode", ["table", "lora"])
def test_a_report_says_which_model_stood_in_for_the_one_that_was_asked_for(folder, tiny, tmp_path, mode):
    keys = known_to("HierLLMRec", "carousel", TINY) | {"data_path": folder, "run_path": tmp_path, "epochs": 1}
    keys |= {"artifact_path": tmp_path, "text_fields": "title", "text_max_tokens": 16}
    keys |= {"text_pooling": "cls"} if mode == "table" else {}
    keys |= {"text_encoder": "nobody/has-this-model", "text_revision": "main", "text_fallback": tiny("bert")}
    keys |= {"item_llm_mode": mode} | ({} if mode == "table" else {"loss": "nce", "n_negatives": 2})
    named = {"model": "HierLLMRec", "dataset": "carousel"} | keys
    run = road.main([f"--{key}={value}" for key, value in named.items()])
    said = (
        f"{Path(tiny('bert')).name} read its texts in place of nobody/has-this-model, which was not at hand."
    )
    assert f"HierLLMRec: {said}" in (run / "report.md").read_text()


def test_a_stand_in_has_a_pooling_and_a_commit_of_its_own(folder, tiny, tmp_path):
    given = {
        "model": "HierLLMRec",
        "dataset": "carousel",
        "data_path": str(folder),
        "artifact_path": str(tmp_path),
    }
    given |= {"text_encoder": "nobody/has-this-model", "text_pooling": "cls", "text_revision": "a" * 40}
    given |= {"text_fallback": tiny("bert"), "text_max_tokens": 16, "trust_remote_code": True}
    _, texts, _ = build(configure("HierLLMRec", known_to("HierLLMRec", "carousel", TINY) | given))
    made_from = texts["item"]["made_from"]["encoder"]
    assert made_from["pooling"] == "mean" and made_from["revision"].startswith("sha256:")


def test_items_that_a_learning_item_llm_reads_can_have_the_texts_of_others(folder, tiny):
    keys = {"item_llm_mode": "lora", "loss": "nce", "text_encoder": tiny("bert")}
    texts = [
        live(folder, **keys, text_control=control)[1][0]._dataset.item_texts for control in ("", "shuffled")
    ]
    assert sorted(texts[0]) == sorted(texts[1]) and texts[1][0] == ""
    assert sum(own == other for own, other in zip(*texts, strict=True)) < 5
    with pytest.raises(
        SettingError, match="text_control: random makes noise of text vectors, but here the texts"
    ):
        live(folder, **keys, text_control="random")
    with pytest.raises(SettingError, match="text_control is 'mixed', expected shuffled or random"):
        live(folder, **keys, text_control="mixed")


def test_texts_that_the_encoder_has_no_words_for_are_warned_of(folder, tmp_path, caplog):
    encoder = write_tiny_llm(tmp_path / "llm", "bert")  # knows nothing of horses
    given = {"model": "HierLLMRec", "dataset": "carousel", "data_path": str(folder), "show_progress": False}
    given |= {
        "topk": [10],
        "artifact_path": str(tmp_path),
        "text_fields": ["title"],
        "text_encoder": str(encoder),
        "text_max_tokens": 32,
    }
    for _ in range(2):  # where the vectors are made, and where they stand
        caplog.clear()
        build(configure("HierLLMRec", given))
        assert "llm has no words for 75% of the tokens of `item`" in caplog.text
        assert "set text_encoder to a model of their language, e.g. google/mt5-small" in caplog.text


@pytest.mark.parametrize("mode", ["frozen", "table"])
def test_a_frozen_item_llm_keeps_the_vectors_of_its_artifact_and_a_table_leaves_them(
    folder, tiny, tmp_path, mode
):
    keys = {"item_llm_mode": mode, "text_encoder": tiny("bert"), "artifact_path": str(tmp_path)}
    config, parts, model = live(folder, text_max_tokens=16, epochs=2, **keys)
    held = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(path.name == "manifest.json" for path in held)
    trainer_for(config, model).fit(parts[0], verbose=False, saved=False)
    assert held == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    _, _, again = live(folder, text_max_tokens=16, **keys)
    assert model.text_fingerprints == again.text_fingerprints
    assert torch.equal(model.item_llm.table_IW, again.item_llm.table_IW) is (mode == "frozen")
    assert ("item_llm.table_IW" in dict(model.named_parameters())) is (mode == "table")


def test_a_table_learns_from_where_the_vectors_are(folder):
    frozen, table = (house(folder, "HierLLMRec", item_llm_mode=mode) for mode in ("frozen", "table"))
    assert torch.equal(frozen.model.item_llm.table_IW, table.model.item_llm.table_IW)
    table.model.calculate_loss(next(iter(table.train))).backward()
    assert table.model.item_llm.table_IW.grad.abs().sum() > 0


@pytest.mark.parametrize("head", ["embed", "tied"])
def test_the_spread_of_a_table_says_nothing_at_the_start(folder, head):
    worlds = [house(folder, "HierLLMRec", table_spread=spread, head=head) for spread in (1.0, 0.02)]
    scores = [world.model.eval().full_sort_predict(a_batch(world))[:, 1:] for world in worlds]
    assert torch.allclose(*scores, atol=1e-3)


def test_an_item_without_text_has_a_learned_vector_and_padding_none(folder):
    model = house(folder, "HierLLMRec", without=("i3",)).model
    vectors, token = model.items(), 1
    missing = int(model.item_llm.missing_I1.nonzero()[0, 0])
    assert torch.equal(vectors[missing], model.item_llm.no_text) and not vectors[0].any()
    assert torch.equal(model.items(torch.tensor([missing, token]))[0], vectors[missing])


# ---------------------------------------------------------------------- language models that learn


@pytest.mark.parametrize(
    ("kind", "pooling"),  # the first token of a causal model has read nothing
    [
        ("t5", "mean"),
        ("t5", "cls"),
        ("t5", "item_token"),
        ("llama", "mean"),
        ("llama", "last"),
        ("llama", "item_token"),
    ],
)
def test_an_item_llm_that_learns_reads_all_items_anew_before_ranking(folder, tiny, kind, pooling):
    keys = {"item_llm_mode": "lora", "loss": "nce", "n_negatives": 4, "pool_item": pooling}
    keys["nce_thres"] = 2.0  # random weights make all texts alike
    _, parts, model = live(folder, text_encoder=tiny(kind), **keys)
    batch, scores = next(iter(parts[2]))[0], []
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.5)
    for _ in range(2):
        scores.append(model.eval().full_sort_predict(batch))
        model.train()
        model.calculate_loss(next(iter(parts[0]))).backward()
        adapters = {name: p for name, p in model.item_llm.llm.named_parameters() if p.requires_grad}
        assert adapters and all("lora" in name for name in adapters)
        assert any(p.grad.abs().sum() > 0 for p in adapters.values())
        optimizer.step()
    assert not torch.allclose(*scores, atol=1e-5), "the items were read anew"


def test_of_a_batch_an_item_llm_that_learns_reads_each_item_once_and_no_other(folder, tiny):
    keys = {"item_llm_mode": "lora", "loss": "nce", "n_negatives": 2, "MAX_ITEM_LIST_LENGTH": 4}
    _, parts, model = live(folder, text_encoder=tiny("t5"), train_batch_size=2, **keys)
    read, whole = [], model.item_llm._read
    model.item_llm._read = lambda item_N: read.append(item_N.tolist()) or whole(item_N)
    batch = next(iter(parts[0]))
    torch.manual_seed(0)
    model.train().calculate_loss(batch)
    named = {0, *batch["item_id_list"].flatten().tolist(), *batch["next_item_list"].flatten().tolist()}
    (items,) = read
    assert named <= set(items) and len(set(items)) == len(items) <= len(named) + 2 < model.n_items
    read.clear()
    model.eval().full_sort_predict(next(iter(parts[2]))[0])
    assert [len(items) for items in read] == [model.n_items], "of 18 items 64 are read at a time"


def test_a_learning_item_llm_reads_each_text_as_alone(folder, tiny):
    _, _, model = live(folder, text_encoder=tiny("bert"), item_llm_mode="full", loss="nce")
    model.eval()
    with torch.no_grad():
        together = model.items()
        for item in (1, 7, 16):
            assert torch.allclose(model.items(torch.tensor([item])), together[item : item + 1], atol=1e-5)
    assert not together[0].any()


@pytest.mark.parametrize("mode", ["full", "lora", "frozen"])
def test_a_pretrained_rec_llm_learns_as_its_mode_says(folder, tiny, mode):
    world = house(folder, "HierLLMRec", rec_llm="decoder", rec_llm_path=tiny("llama"), rec_llm_mode=mode)
    world.model.calculate_loss(next(iter(world.train))).backward()
    learns = [
        name
        for name, p in world.model.rec_llm.named_parameters()
        if p.grad is not None and p.grad.abs().sum() > 0
    ]
    assert bool(learns) is (mode != "frozen")
    assert all(("lora" in name) is (mode == "lora") for name in learns)
    assert world.model.input_map.linear.weight.grad.abs().sum() > 0, "what stands around it always learns"
    groups = world.model.parameter_groups()
    assert [group.get("peak") for group in groups] == ([None] if mode == "frozen" else [None, 1e-4])


@pytest.mark.parametrize("mode", ["lora", "frozen"])
def test_a_checkpoint_holds_what_learns_and_goes_with_its_language_model(folder, tiny, tmp_path, mode):
    keys = {
        "rec_llm": "decoder",
        "rec_llm_path": tiny("llama"),
        "rec_llm_mode": mode,
        "average_decay": "None",
    }
    world = house(folder, "HierLLMRec", epochs=1, **keys)
    trainer, batch = trainer_for(world.config, world.model), a_batch(world)
    trainer.fit(world.train, world.valid, verbose=False, saved=True)
    held = [name for name in world.model.state_dict() if name.startswith("rec_llm.")]
    assert bool(held) is (mode == "lora") and all("lora" in name for name in held)
    trainer.load_best()
    expected = world.model.eval().full_sort_predict(batch)
    again = house(folder, "HierLLMRec", seed=7, **keys)
    trainer_for(again.config, again.model).load_best(trainer.saved_model_file)
    assert torch.equal(again.model.eval().full_sort_predict(batch), expected)
    torch.manual_seed(1)
    write_tiny_llm(tmp_path, "llama", [*WORDS, *TOLD, "other"])
    other = house(folder, "HierLLMRec", **keys | {"rec_llm_path": str(tmp_path)})
    with pytest.raises(ArtifactError, match="trained with sha256:.* as `rec_llm`, found sha256:"):
        trainer_for(other.config, other.model).load_best(trainer.saved_model_file)


def test_of_an_item_llm_with_adapters_a_checkpoint_holds_these_alone(folder, tiny):
    keys = {"item_llm_mode": "lora", "loss": "nce"}
    _, _, model = live(folder, text_encoder=tiny("t5"), **keys)  # its word embeddings have two names
    held = [name.removeprefix("item_llm.") for name in model.state_dict() if name.startswith("item_llm.")]
    assert "no_text" in held and any("lora" in name for name in held)
    assert all("lora" in name for name in held if name.startswith("llm."))
    model.load_state_dict(model.state_dict())


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_weights_of_an_item_llm_that_learns_go_with_the_texts_that_it_read(folder, tiny, mode):
    keys = {"item_llm_mode": mode, "loss": "nce", "text_encoder": tiny("bert")}
    models = [live(folder, **keys, **more)[2] for more in ({}, {}, {"text_fields": ["colour"]})]
    first, same, other = models
    same.load_other_parameter(first.other_parameter())
    with pytest.raises(ArtifactError, match="trained with sha256:.* as `item_texts`, found sha256:"):
        other.load_other_parameter(first.other_parameter())


def test_an_item_llm_that_learns_wants_texts(folder, tiny):
    keys = {"item_llm_mode": "lora", "loss": "nce", "text_encoder": tiny("bert")}
    with pytest.raises(SettingError, match="text_fields names no column and text_generated no folder"):
        live(folder, **keys, text_fields=[])


@pytest.mark.parametrize("part", ["item", "rec"])
def test_language_models_keep_no_cache_of_what_they_read(folder, tiny, part):
    if part == "item":
        _, _, model = live(folder, text_encoder=tiny("llama"), item_llm_mode="full", loss="nce")
    else:
        model = house(folder, "HierLLMRec", rec_llm="decoder", rec_llm_path=tiny("llama")).model
    llm, kept = getattr(model, f"{part}_llm").llm, []
    llm.register_forward_hook(lambda _, given, made: kept.append(made.past_key_values))
    model.eval().full_sort_predict(next(iter(house(folder).test))[0])
    assert kept and not any(kept)


@pytest.mark.parametrize("part", ["item", "rec"])
def test_activations_made_anew_give_the_same_gradients(folder, tiny, part):
    keys = {"loss": "nce", "n_negatives": 4, "dropout": 0.0, "input_dropout": 0.0, "lora_dropout": 0.0}
    if part == "rec":
        keys |= {"rec_llm": "decoder", "rec_llm_path": tiny("llama"), "rec_llm_mode": "lora"}
    else:
        keys |= {"text_encoder": tiny("llama"), "item_llm_mode": "full"}
    gradients, runs = [], []
    for recompute in (False, True):
        if part == "item":
            _, _, model = live(folder, llm_recompute=recompute, **keys)
        else:
            model = house(folder, "HierLLMRec", llm_recompute=recompute, **keys).model
        layer = getattr(model, f"{part}_llm").llm.layers[0]
        calls = []
        layer.self_attn.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        items, length = torch.tensor([[3, 5, 7, 9], [2, 4, 0, 0]]), torch.tensor([4, 2])
        model.train().encode(items, Layout.of(length), Beside()).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        runs.append(len(calls))
    assert runs[1] == 2 * runs[0] > 0
    assert gradients[0] and gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_a_language_model_beside_its_adapters_is_not_averaged_in_a_copy(folder, tiny):
    keys = {"rec_llm": "decoder", "rec_llm_path": tiny("llama"), "rec_llm_mode": "lora", "average_decay": 0.9}
    world = house(folder, "HierLLMRec", epochs=1, **keys)
    trainer = trainer_for(world.config, world.model)
    trainer.fit(world.train, world.valid, verbose=False, saved=False)
    means = dict(trainer.averaged.module.named_parameters())
    for name, own in world.model.named_parameters():
        assert (means[name].data_ptr() == own.data_ptr()) is not own.requires_grad, name


@pytest.mark.parametrize("keys", [{"rec_llm": "t5_encoder"}, {"item_llm_mode": "full", "loss": "nce"}])
def test_a_language_model_may_read_narrower_words_than_it_gives(folder, tiny, keys):
    prefixes = {"train_rows": "prefix", "train_batch_size": 8}
    if "item_llm_mode" in keys:
        _, (train, *_), model = live(
            folder, text_encoder=tiny("electra"), pool_item="item_token", **keys, **prefixes
        )
    else:
        keys = keys | {"rec_llm_path": tiny("electra")}
        world = house(folder, "HierLLMRec", **keys, **prefixes)
        train, model = world.train, world.model
        with pytest.raises(
            SettingError, match="vectors of 8 numbers and gives 16, but HierLLMRec with head: tied"
        ):
            house(folder, "HierLLMRec", **keys, **prefixes, head="tied")
        with pytest.raises(SettingError, match="but RAGLLMRec with head: embed compares the two"):
            house(folder, "RAGLLMRec", **keys, **prefixes)
    loss = model.calculate_loss(next(iter(train)))
    loss.backward()
    assert torch.isfinite(loss)


def test_the_places_that_a_model_keeps_for_padding_are_no_events(folder, tiny):
    keys = {"rec_llm": "t5_encoder", "rec_llm_path": tiny("roberta"), "train_rows": "prefix"}
    house(folder, "HierLLMRec", **keys, MAX_ITEM_LIST_LENGTH=30)
    with pytest.raises(SettingError, match="take 31 places, but the language model reads at most 30"):
        house(folder, "HierLLMRec", **keys, MAX_ITEM_LIST_LENGTH=31)


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_histories_longer_than_a_rec_llm_reads_are_refused(folder, tiny, kind):
    keys = {"rec_llm": "decoder"} if kind == "gpt2" else {"rec_llm": "t5_encoder", "train_rows": "prefix"}
    keys |= {"rec_llm_path": tiny(kind), "MAX_ITEM_LIST_LENGTH": 32}
    house(folder, "HierLLMRec", **keys)
    with pytest.raises(
        SettingError, match="take 33 places, but the language model reads at most 32; set MAX_"
    ):
        house(folder, "HierLLMRec", **keys | {"MAX_ITEM_LIST_LENGTH": 33})
    keys |= {"rag_fusion": "prepend", "rag_query": "last_item", "rag_top_k": 3, "train_rows": "prefix"}
    with pytest.raises(SettingError, match="rag_fusion: prepend, take 35 places"):
        house(folder, "RAGLLMRec", **keys)


@pytest.mark.parametrize(("pooling", "most"), [("mean", 32), ("item_token", 31)])
def test_texts_longer_than_an_item_llm_reads_are_refused(folder, tiny, pooling, most):
    keys = {"item_llm_mode": "lora", "loss": "nce", "text_encoder": tiny("gpt2"), "pool_item": pooling}
    live(folder, text_max_tokens=most, **keys)
    with pytest.raises(
        SettingError, match="take 33 places, but the language model reads at most 32; set text_"
    ):
        live(folder, text_max_tokens=most + 1, **keys)


def test_adapters_stand_where_they_are_asked_for_and_start_from_the_seed(folder, tiny):
    keys = {"item_llm_mode": "lora", "loss": "nce", "text_encoder": tiny("llama")}
    keys |= {"rec_llm": "decoder", "rec_llm_path": tiny("llama"), "rec_llm_mode": "lora"}

    def starts(**more):
        _, _, model = live(folder, **keys | more)
        return [
            {name: p for name, p in part.llm.named_parameters() if "lora_A" in name}
            for part in (model.item_llm, model.rec_llm)
        ]

    item, rec = starts(lora_targets=["q_proj"])
    assert item.keys() == rec.keys() and all("q_proj" in name for name in item) and len(item) == 2
    own, same, other = starts(seed=5), starts(seed=5), starts(seed=6)
    drawn = [own[0], own[1], *other]
    for name in own[0]:
        assert torch.equal(own[0][name], same[0][name]) and torch.equal(own[1][name], same[1][name])
        assert len({each[name][0, 0].item() for each in drawn}) == 4, name
    with pytest.raises(SettingError, match="no_such_layer"):
        starts(lora_targets=["no_such_layer"])


def test_random_weights_differ_from_pretrained_ones(folder, tiny):
    keys = {"rec_llm": "decoder", "rec_llm_path": tiny("llama")}
    both = [
        house(folder, "HierLLMRec", rec_init=init, **keys).model.rec_llm for init in ("pretrained", "random")
    ]
    first, second = (llm.llm.layers[0].self_attn.q_proj.weight for llm in both)
    assert first.shape == second.shape and not torch.allclose(first, second)


def test_of_a_model_that_starts_from_random_weights_the_configuration_is_enough(folder, tiny, tmp_path):
    (tmp_path / "config.json").write_text((Path(tiny("llama")) / "config.json").read_text())
    keys = {"rec_llm": "decoder", "rec_llm_path": str(tmp_path)}
    assert house(folder, "HierLLMRec", rec_init="random", **keys).model.rec_llm.width == 16
    with pytest.raises(BackendError, match="has no .safetensors weights"):
        house(folder, "HierLLMRec", **keys)
    (tmp_path / "config.json").unlink()
    with pytest.raises(BackendError, match="has no config.json"):
        house(folder, "HierLLMRec", rec_init="random", **keys)


def test_language_models_have_a_learning_rate_of_their_own(folder, tiny):
    keys = {"rec_llm": "decoder", "rec_llm_path": tiny("llama"), "warmup_steps": 0}
    world = house(folder, "HierLLMRec", epochs=1, **keys)
    trainer = trainer_for(world.config, world.model)
    trainer.fit(world.train, verbose=False, saved=False)
    assert [group["lr"] for group in trainer.optimizer.param_groups] == [0.01, 1e-4]


def test_a_t5_learns_to_recommend_from_prefix_rows(folder, tiny):
    keys = {
        "rec_llm": "t5_encoder",
        "rec_llm_path": tiny("t5"),
        "train_rows": "prefix",
        "llm_learning_rate": 3e-3,
    }
    world = house(folder, "HierLLMRec", epochs=6, eval_step=6, average_decay="None", **keys)
    trainer = trainer_for(world.config, world.model)
    trainer.fit(world.train, world.valid, verbose=False, saved=True)
    assert trainer.evaluate_both_ways(world.test).unmasked["recall@1"] > 0.9


def test_a_real_language_model_learns_to_recommend(folder, shared_data):
    llama = str(shared_data.parent / "models" / "stories260K")
    keys = {"rec_llm": "decoder", "rec_llm_path": llama, "rec_llm_mode": "lora", "llm_learning_rate": 3e-3}
    world = house(folder, "HierLLMRec", epochs=12, average_decay="None", **keys)
    trainer = trainer_for(world.config, world.model)
    trainer.fit(world.train, world.valid, verbose=False, saved=True)
    assert trainer.evaluate_both_ways(world.test).unmasked["recall@1"] > 0.9


# ---------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"hidden_size": 15}, "hidden_size 15 must be a multiple of n_heads 2"),
        ({"rec_llm": "decoder"}, "rec_llm: decoder needs rec_llm_path"),
        (
            {"rec_llm_path": "/a/model"},
            "rec_llm_path names a language model, but rec_llm: transformer is none",
        ),
        (
            {"rec_llm_mode": "lora"},
            "rec_llm_mode: lora is for a pretrained model, but rec_llm is transformer",
        ),
        ({"pool_item": "item_token"}, "item_token is learned, but item_llm_mode is table"),
        (
            {"pool_item": "cls", "item_llm_mode": "frozen"},
            "are made ahead of training; set text_pooling: cls",
        ),
        ({"loss": "nce", "score": "dot"}, "loss: nce compares cosines"),
        ({"item_llm_mode": "lora"}, "would read every item's text at every step for loss: ce; set loss: nce"),
        ({"negatives": "batch", "loss": "nce"}, "negatives: batch needs the log Q correction"),
        ({"temperature": 0.0}, "config key `temperature` is 0.0, expected from 0.01 to 1"),
        ({"temperature": 2.0}, "config key `temperature` is 2.0, expected from 0.01 to 1"),
        (
            {"llm_recompute": True},
            "llm_recompute: True has nothing to make anew, for no language model learns here",
        ),
        (
            {"llm_recompute": True, "rec_llm": "decoder", "rec_llm_path": "a", "rec_llm_mode": "frozen"},
            "(item_llm_mode: table, rec_llm: decoder, rec_llm_mode: frozen); set it to False",
        ),
        ({"head": "classifier"}, "head: classifier scores by a product and a bias, of which a cosine"),
        ({"head": "softmax"}, "config key `head` is 'softmax', expected one of embed, classifier, tied"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_in_a_sentence(folder, keys, message):
    with pytest.raises(SettingError) as refusal:
        house(folder, "HierLLMRec", **keys)
    assert message in str(refusal.value)
