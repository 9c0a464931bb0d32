"""Answers from files, whatever their form; nothing is taken for another's."""

import json

import pytest

from recbole_llm.errors import BackendError
from recbole_llm.llm.backend import ABSENT, Request
from recbole_llm.llm.recorded import RecordedBackend
from recbole_llm.llm.wording import ITEM_DESCRIPTION, SESSION_INTENT

SCHEMA = ITEM_DESCRIPTION.form.schema_text()


def said(backend, *about):
    requests = [Request("x", schema=SCHEMA, about=token) for token in about]
    answers = dict(backend.complete(requests))
    return [json.loads(answers[n].text)["text"] if answers[n].text else None for n in range(len(about))]


@pytest.mark.parametrize(
    ("name", "content", "keys"),
    [
        ("a.json", '{"1": "one", "2": ["a", "b"], "3": null}', {}),
        ("a.json", '[{"id": 1, "text": "one"}, {"id": 2, "text": "a, b"}]', {}),
        (
            "a.jsonl",
            '{"n": 0, "id": "1", "said": "one"}\n\n{"n": 1, "id": "2", "said": ["a", "b"]}\n',
            {"key": "id"},
        ),
        ("a.csv", 'id,said,note\n1,one,x\n2,"a, b",y\n', {"answer": "said"}),
    ],
)
def test_maps_lists_lines_and_tables_are_read(tmp_path, name, content, keys):
    (tmp_path / name).write_text(content)
    assert said(RecordedBackend(tmp_path / name, **keys), "2", "1", "3") == ["a, b", "one", None]


def test_what_is_not_recorded_is_absent(tmp_path):
    (tmp_path / "a.json").write_text('{"1": " "}')
    answers = dict(RecordedBackend(tmp_path / "a.json").complete([Request("x", about="1"), Request("x")]))
    assert [answers[n].finish for n in range(2)] == [ABSENT, ABSENT]


def test_an_answer_in_the_right_form_is_left_as_it_is(tmp_path):
    whole = {"item": "Heat", "why": "last"}
    (tmp_path / "a.json").write_text(json.dumps({"u1": json.dumps(whole), "u2": "Heat"}))
    requests = [Request("x", schema=SESSION_INTENT.form.schema_text(), about=u) for u in ("u1", "u2")]
    answers = [json.loads(a.text) for _, a in RecordedBackend(tmp_path / "a.json").complete(requests)]
    assert answers == [whole, {"item": "Heat"}]


def test_another_file_is_another_revision(tmp_path):
    revisions = set()
    for text in ("one", "two"):
        (tmp_path / "a.json").write_text(json.dumps({"1": text}))
        backend = RecordedBackend(tmp_path / "a.json", said_by="m")
        revisions.add(backend.revision)
    assert len(revisions) == 2 and backend.name == "m, recorded in a.json"


@pytest.mark.parametrize(
    ("name", "content", "keys", "words"),
    [
        ("a.txt", "x", {}, "ends in `.txt`, expected .json"),
        ("a.json", "{", {}, "cannot be read"),
        ("a.json", "[" * 99_999, {}, "cannot be read"),
        ("a.json", "[1]", {}, "row 1 is no object"),
        ("a.jsonl", '{"a": 1, "b": 2}', {"key": "id"}, "row 1 has no column id; there are a, b"),
        ("a.csv", "id,said\n1,x\n1,y\n", {}, "two answers for `1`"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, name, content, keys, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(BackendError, match=words):
        RecordedBackend(tmp_path / name, **keys)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BackendError, match=r"no file .*a\.json; give the recorded answers"):
        RecordedBackend(tmp_path / "a.json")


def test_published_answers_are_read(shared_data):
    replies = shared_data / "llm_replies"
    backend = RecordedBackend(replies / "colakg_ml1m" / "item_descriptions.json")
    assert len(backend.answers) == 3883 and "Toy Story" in backend.answers["1"]
    users = RecordedBackend(replies / "agent4rec_ml1m" / "persona_replies_like.jsonl", key="ml1m_user_id")
    assert len(users.answers) == 700 and users.answers["1"].startswith("LIKE:")
    assert len(RecordedBackend(replies / "agent4rec_ml1m" / "movie_summaries.csv").answers) == 3883
    profiles = RecordedBackend(replies / "once_goodreads" / "user_profiles.jsonl").answers
    assert profiles["0"] == "ballet, love, disabilities, family, animals"
