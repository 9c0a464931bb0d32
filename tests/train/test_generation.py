"""The command ahead of training, from a small shop to an artifact that a model trains with."""

import json
import re

import pytest
from carousel import write_carousel

from recbole_llm import cli
from recbole_llm.data.subjects import user_texts
from recbole_llm.errors import ArtifactError, DataError, SettingError
from recbole_llm.evaluation import leaks
from recbole_llm.evaluation.manifest import write_json
from recbole_llm.llm.fake import FakeBackend
from recbole_llm.llm.texts import Texts
from recbole_llm.train import generation
from recbole_llm.train.build import configured, training_part
from recbole_llm.train.generation import run


@pytest.fixture
def shop(tmp_path):
    write_carousel(tmp_path)
    (tmp_path / "carousel" / "carousel.user").write_text(
        "user_id:token\tage:token\tzip:token\nu0\t31\t10115\n"
    )
    return {
        "dataset": "carousel",
        "data_path": str(tmp_path),
        "artifact_path": str(tmp_path / "artifacts"),
        "cache": str(tmp_path / "answers.sqlite"),
        "vectors": "False",
        "MAX_ITEM_LIST_LENGTH": "8",
        "topk": "[3]",
        "valid_metric": "NDCG@3",
    }


@pytest.fixture
def asked(monkeypatch):
    """Every question goes to this backend, which answers with what it was told."""

    def say(prompt):
        lines = re.search(r"<data>\n(.*)\n</data>", prompt, re.DOTALL)[1]
        return json.dumps({"item" if '"item"' in prompt else "text": " ".join(lines.split())[:200]})

    backend = FakeBackend(say)
    monkeypatch.setattr(generation, "backend_of", lambda s, corpus: backend)
    return backend


LLM = {"backend": "transformers", "llm": "any"}


@pytest.mark.parametrize("kind", ["items", "users", "sessions", "blocks"])
def test_each_kind_becomes_an_artifact_and_asks_nothing_twice(shop, asked, kind, capsys):
    more = {"block": "3", "history": "8"} if kind == "blocks" else {"parts": "['valid', 'test']"}
    place = run(kind, shop | LLM | more)
    texts, count = Texts.load(place), len(asked.asked)
    assert count and texts.given and all(one.text and one.source == "backend" for one in texts.given)
    assert texts.manifest["made_from"]["kind"] == kind and texts.manifest["made_from"]["is_llm"]
    assert bool(texts.cuts) == (kind != "items")
    out = capsys.readouterr().out
    assert f"{texts.manifest['coverage']['questions']:,} questions" in out and "(100.0%) answered" in out
    assert run(kind, shop | LLM | more) == place and len(asked.asked) == count
    (place / "manifest.json").unlink()  # a copy without manifest is made anew, from the cache
    assert run(kind, shop | LLM | more) == place and len(asked.asked) == count


def test_a_session_is_numbered_and_says_of_how_much_it_is_the_end(shop, asked):
    run("sessions", shop | LLM | {"history": "2", "parts": "['test']"})
    told = asked.asked[0].prompt
    lines = told[told.index("<data>") :].split("\n")
    assert ", the last 2 of " in told and len(lines) == 5, "two events between the marks, and how to answer"
    assert lines[1].startswith("1. ") and lines[2].startswith("2. ") and " Id: " in lines[2]


def test_who_is_asked_about_is_told_nothing_of_a_person_unless_named(shop, asked):
    run("users", shop | LLM)
    assert not any("10115" in one.prompt or "31" in one.prompt for one in asked.asked)
    run("users", shop | LLM | {"user_fields": "['age']"})
    assert any("Age: 31." in one.prompt for one in asked.asked)
    assert not any("10115" in one.prompt for one in asked.asked)


def test_a_dry_run_shows_three_prompts_and_asks_nothing(shop, asked, capsys):
    assert run("items", shop | LLM | {"dry_run": "True"}) is None
    out = capsys.readouterr().out
    assert (
        out.count("--- ") == 3 and "first questions (item_description@1)" in out and "tokens to read" in out
    )
    assert not asked.asked


def test_without_a_model_the_report_says_so(shop, capsys):
    place = run("users", shop)
    texts = Texts.load(place)
    assert not texts.manifest["made_from"]["is_llm"]
    assert "no language model was asked: extractive (no LLM)" in capsys.readouterr().out
    assert texts.given[0].text.endswith(".")


def test_other_settings_are_another_artifact(shop):
    places = {
        run("users", shop | more) for more in ({}, {"history": "3"}, {"max_tokens": "9"}, {"domain": "book"})
    }
    assert len(places) == 4


def test_the_texts_have_vectors_and_a_model_trains_with_them(shop, tmp_path):
    place = run("items", shop | {"vectors": "True"})
    assert list(place.parent.glob("items-texts@*/manifest.json"))
    generated = str({"description": str(place)})
    keys = {k: v for k, v in shop.items() if k not in ("cache", "vectors")}
    arguments = [f"--{key}={value}" for key, value in keys.items()]
    cli.train(
        [
            "--model=LLMSeqRec",
            *arguments,
            f"--text_generated={generated}",
            "--text_fields=[]",
            "--whiten_dim=8",
            "--epochs=1",
            "--eval_step=1",
            "--hidden_size=8",
            f"--run_path={tmp_path / 'runs'}",
            "--run_name=one",
        ]
    )
    report = (tmp_path / "runs" / "one" / "report.md").read_text()
    manifest = json.loads((tmp_path / "runs" / "one" / "manifest.json").read_text())
    assert manifest["texts"]["LLMSeqRec"]["description"]["asked"] == Texts.load(place).asked
    assert (
        "text field `description` was made from | the item file alone, picked out by rule: no LLM" in report
    )


def test_what_a_model_wrote_is_called_so(shop, asked):
    texts = Texts.load(run("items", shop | LLM))
    assert texts.template.name == "generated"
    counted = texts.manifest["coverage"]
    assert texts.asked["is_llm"] and texts.asked["read"] == counted["prompt_tokens"] > 0
    assert texts.asked["written"] == counted["answer_tokens"] > 0
    assert leaks.READ["generated"].startswith("what a language model wrote")


def test_texts_of_users_are_no_texts_of_items(shop, tmp_path, capsys):
    place = run("users", shop)
    generated = str({"description": str(place)})
    keys = {k: v for k, v in shop.items() if k not in ("cache", "vectors")} | {"run_path": tmp_path / "runs"}
    with pytest.raises(SystemExit):
        cli.train(
            ["--model=LLMSeqRec", *(f"--{k}={v}" for k, v in keys.items()), f"--text_generated={generated}"]
        )
    assert "speaks of users, expected items" in capsys.readouterr().err


def test_texts_of_users_are_checked_against_the_split_before_they_are_used(shop):
    place = run("users", shop)
    keys = {k: v for k, v in shop.items() if k not in ("cache", "vectors")}
    training = training_part(configured({"model": "SASRec"} | keys))
    assert set(user_texts(place, training)) == {one.about for one in Texts.load(place).given}
    longer = "{'split': {'LS': 'test_only'}, 'order': 'TO', 'group_by': 'user', 'mode': 'full'}"
    later = run("users", shop | {"eval_args": longer})
    with pytest.raises(ArtifactError, match="has read events that are not of this training part"):
        user_texts(later, training)
    with pytest.raises(ArtifactError, match="speaks of items, expected users or blocks"):
        user_texts(run("items", shop), training)


def test_recorded_answers_are_used(shop, tmp_path):
    write_json(tmp_path / "said.json", {"i1": "The first.", "i2": "The second."})
    place = run(
        "items", shop | {"backend": "recorded", "llm_file": str(tmp_path / "said.json"), "fallback": "none"}
    )
    texts = Texts.load(place)
    assert {one.about: one.text for one in texts.given if one.text} == {
        "i1": "The first.",
        "i2": "The second.",
    }
    assert (
        texts.manifest["coverage"]["absent"] == len(texts.given) - 2 == texts.manifest["coverage"]["nothing"]
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"view": "long"}, "what this person wants over the whole session? Name"),
        ({"view": "normal"}, "what this person wants? Name"),
        ({"view": "gift", "qualifier": "to give away"}, "what this person wants to give away? Name"),
    ],
)
def test_a_session_is_asked_about_in_the_words_of_the_view(shop, asked, more, words):
    place = run("sessions", shop | LLM | {"parts": "['test']"} | more)
    assert all(words in request.prompt for request in asked.asked)
    settings = Texts.load(place).manifest["made_from"]["settings"]
    assert {key: settings[key] for key in ("view", "qualifier") if key in settings} == more


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        ("movies", {}, "generate takes items, users, sessions, blocks, found `movies`"),
        ("items", {"backend": "gpt"}, "config key `backend` is 'gpt', expected one of transformers"),
        ("items", {"backend": "openai"}, "backend: openai needs --llm_url"),
        ("items", {"backend": "recorded"}, "backend: recorded needs --llm_file"),
        ("items", {"domain": "films"}, "domain is `films`, expected one of item, movie"),
        ("items", {"told": "['titel']"}, "no column `titel`"),
        ("users", {"history": "0"}, "history is 0, expected 1 or more"),
        ("sessions", {"view": "wide"}, "view is `wide`, expected one of long, short"),
        ("sessions", {"parts": "['dev']"}, r"parts is \['dev'\], expected some of train, valid, test"),
        ("items", {"temperature": "0.5"}, "temperature is 0.5 without a seed"),
        ("items", {"bakend": "x"}, "unknown config key `bakend`"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_sentence(shop, kind, more, words):
    with pytest.raises(SettingError, match=words):
        run(kind, shop | more)


def test_a_data_set_without_items_file_is_refused(shop, tmp_path):
    (tmp_path / "carousel" / "carousel.item").unlink()
    with pytest.raises(DataError, match=r"no .*carousel\.item: there is nothing to tell"):
        run("items", shop)


def test_a_folder_that_is_no_artifact_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="is no artifact of texts"):
        Texts.load(tmp_path)


def test_every_key_of_the_yaml_is_a_setting():
    from dataclasses import fields

    from recbole_llm.config import PROPERTIES, read_yaml

    assert set(read_yaml(PROPERTIES / "llm.yaml")) == {field.name for field in fields(generation.Settings)}
