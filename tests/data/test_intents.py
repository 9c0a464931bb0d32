"""Answers about sessions, made ahead: which rows may read them, and with which weights they go."""

import json

import pytest
import torch
from carousel import write_carousel

from recbole_llm.data.intents import Intents, attach_session_intents
from recbole_llm.data.parts import ROW_END
from recbole_llm.data.subjects import history_hash, history_hashes
from recbole_llm.data.texts import attach_text_vectors
from recbole_llm.errors import ArtifactError, SettingError
from recbole_llm.llm.generate import Given, Tally
from recbole_llm.llm.texts import Origin, publish
from recbole_llm.model.base import Beside
from recbole_llm.model.layout import Layout
from recbole_llm.train.build import build, configure


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("intents"))


def answers(root, dataset, text, *, user="u3", read=None):
    """An artifact of one answer about the history before the last event of a user, and the place of that event."""
    tokens = dataset.field2id_token
    user_id = dataset.field2token_id["user_id"][user]
    places = torch.nonzero(dataset.events["user_id"] == user_id).squeeze(1)
    count = len(places) - 1
    last = tokens["item_id"][dataset.events["item_id"][places[len(places) - 2]]]
    about = f"{user}@{count}"
    read = [history_hashes(dataset)[places[-1]]] if read is None else read
    origin = Origin(
        kind="sessions", templates=("session_intent@1",), settings={}, told="x", backend="fake", revision="1",
        is_llm=True, fallback="", cuts={about: (count, str(last), *read)},
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
    intents, hashes = dataset.session_intents["long"], history_hashes(dataset)
    same = [other for other, found in enumerate(hashes) if found == hashes[place]]
    assert torch.nonzero(intents.row_N).squeeze(1).tolist() == same and (intents.row_N[same] == 1).all()
    assert not intents.vector_AD[0].any() and intents.vector_AD[1].any() and "intents-long" in manifests
    config["views"] = {"long": "global"}
    world = config.model_class(config, dataset).eval()
    (remark,) = world.remarks()
    assert remark.startswith("of its 1 long answers 0.0% name no item"), "Horse number 5 is one"
    items, length = torch.tensor([[3, 5, 7], [2, 4, 0]]), torch.tensor([3, 2])
    layout = Layout.of(length, only_last=True)
    _, known = world.texts(world.answers(items, layout, torch.tensor([place, place - 1])))["long"]
    assert known.tolist() == [True, False]
    assert torch.isfinite(world.encode(items, layout, Beside(end_B=torch.tensor([place, place - 1])))).all()
    _, known = world.texts(world.answers(items, layout, None))["long"]
    assert known.tolist() == [False, False], "new sessions, of which nobody was asked"
    assert torch.isfinite(world(items, length)).all()
    begin = int(dataset.user_start[place])
    asked = dataset.events["item_id"][begin:place][None]
    layout = Layout.of(torch.tensor([place - begin]), only_last=True)
    text, known = world.texts(world.answers(asked, layout, None))["long"]
    assert known.all(), "somebody new with the same history has its answer"
    assert torch.equal(text, world.texts(world.answers(asked, layout, torch.tensor([place])))["long"][0])


def test_a_new_session_is_looked_up_by_as_many_of_its_last_events_as_were_told():
    row_of = {history_hash(["b", "c"]): 1}
    known = Intents(*[None] * 5, row_of, ["[PAD]", "a", "b", "c"], 2, {})
    assert [known.row_about(items) for items in ([1, 2, 3], [2, 3], [3, 2], [3])] == [1, 1, 0, 0]


def test_weights_go_with_the_answers_that_they_were_trained_with_alone(built, tmp_path):
    config, dataset = built
    made = []
    for text in ("Horse number 5", "Horse number 6"):
        texts, _ = answers(tmp_path / text, dataset, text)
        config["views"], config["session_intents"] = {"long": "global"}, {"long": str(texts.directory)}
        attach_session_intents(config, dataset)
        made.append(config.model_class(config, dataset))
    first, second = made
    first.load_other_parameter({"text_fingerprints": first.text_fingerprints})
    with pytest.raises(ArtifactError, match="the weights were trained with .* as `intents-long`"):
        second.load_other_parameter({"text_fingerprints": first.text_fingerprints})


def test_ablations_read_those_answers_alone_whose_views_are_left(built, tmp_path):
    config, dataset = built
    texts, _ = answers(tmp_path / "a", dataset, "Horse number 5")
    config["session_intents"] = dict.fromkeys(("long", "short"), str(texts.directory))
    for views in ({"long": "global"}, {}):
        config["views"] = views
        assert set(attach_session_intents(config, dataset)) == {f"intents-{view}" for view in views}
        assert config.model_class(config, dataset).settings.views == views


@pytest.mark.parametrize(
    ("key", "value"), [("cold_share", 0.1), ("shorten_histories", [2]), ("disturb_histories", [0.5])]
)
def test_protocols_that_change_the_histories_that_answers_speak_of_are_refused(built, tmp_path, key, value):
    config, dataset = built
    config["session_intents"], config[key] = {"long": str(tmp_path)}, value
    with pytest.raises(SettingError, match=f"the answers speak of whole histories, which {key} changes"):
        attach_session_intents(config, dataset)


@pytest.mark.parametrize(
    ("read", "said"), [(["0123456789ab"], "has read a history of"), ([], "older version")]
)
def test_answers_that_have_read_no_history_of_the_data_set_are_refused(built, tmp_path, read, said):
    config, dataset = built
    texts, _ = answers(tmp_path / "a", dataset, "Horse number 5", read=read)
    config["session_intents"] = {"long": str(texts.directory)}
    with pytest.raises(ArtifactError, match=said):
        attach_session_intents(config, dataset)


def test_an_answer_that_is_a_title_is_worded_and_so_placed_as_its_item_is(built, tmp_path):
    config, dataset = built
    texts, _ = answers(tmp_path / "a", dataset, "Horse number 5")
    config["session_intents"] = {"long": str(texts.directory)}
    for joined in (True, False):
        config["text_join"] = joined
        attach_text_vectors(config, dataset)
        attach_session_intents(config, dataset)
        (names,) = dataset.text_vectors.values()
        item = dataset.field2token_id["item_id"]["i5"]
        named = torch.as_tensor(names.vectors[item])
        answer = dataset.session_intents["long"].vector_AD[1]
        assert torch.cosine_similarity(answer, named, 0) > 0.999


def test_what_share_of_the_rows_has_an_answer_is_known(built, tmp_path):
    config, dataset = built
    texts, place = answers(tmp_path / "a", dataset, "Horse number 5")
    config["session_intents"] = {"long": str(texts.directory)}
    attach_session_intents(config, dataset, parts={"training": dataset})
    hashes = history_hashes(dataset)
    same = [hashes[end] == hashes[place] for end in dataset.inter_feat[ROW_END].tolist()]
    assert dataset.session_intents["long"].answered == {"training": pytest.approx(sum(same) / len(same))}


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
