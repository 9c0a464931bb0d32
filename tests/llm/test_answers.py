"""Whatever a model writes is read or refused; nothing else happens."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_llm.errors import AnswerError
from recbole_llm.llm.answers import Choice, Passage, Verdict, read, written

FORMS = [Passage, Choice, Verdict]
GOOD = {
    Passage: '{"text": "Likes crime."}',
    Choice: '{"item": "Heat", "why": "It is last."}',
    Verdict: '{"answer": "no"}',
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "around",
    [
        "%s",
        "Sure, here it is:\n```json\n%s\n```\nAnything else?",
        '<think>{"answer": "yes", "text": "no", "item": "no"}</think> %s',
        "{not json} [1, {}] %s",
        '{"unknown": 1} %s',
    ],
)
def test_the_object_is_found_in_what_stands_around_it(form, around):
    assert read(around % GOOD[form], form) == form.model_validate_json(GOOD[form])


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("", Passage),
        ("Likes crime.", Passage),
        ('{"text": ""}', Passage),
        ('{"text": "  "}', Passage),
        ('{"text": "\u200b\u202e"}', Passage),
        ('{"text": 7}', Passage),
        ('{"text": ["a"]}', Passage),
        ('{"text": "a", "more": 1}', Passage),
        ('{"text": "a', Passage),
        ('{"text": "' + "a" * 4001 + '"}', Passage),
        ('{"answer": "maybe"}', Verdict),
        ('{"answer": true}', Verdict),
        ("yes", Verdict),
        ('{"why": "because"}', Choice),
        ('{"a":' * 100_000, Choice),
        ("[" * 100_000, Passage),
    ],
)
def test_what_is_not_of_the_form_is_refused(text, form):
    with pytest.raises(AnswerError, match="expected a JSON object with"):
        read(text, form)


def test_the_error_shows_the_beginning_of_the_answer_in_plain_letters():
    with pytest.raises(AnswerError, match=r"with answer, found 'I\\u2028 think not"):
        read("I\u2028 think not", Verdict)


def test_what_an_answer_comes_down_to_is_one_visible_line():
    assert read('{"text": "a\\n\\u202eb <b>c</b>"}', Passage).said() == "a b c"
    assert read('{"item": "Heat"}', Choice).said() == "Heat"


@given(st.text() | st.text(alphabet='{}[]":,\\ntexawysi ', max_size=60))
def test_any_text_is_read_or_refused(text):
    for form in FORMS:
        try:
            assert read(text, form).said()
        except AnswerError:
            pass


def mutated(rng, text):
    """``text`` with some of its pieces cut, doubled, turned or replaced."""
    marks = [
        '{"',
        '"}',
        ":",
        "\\",
        "\ud800",
        "\x00",
        "null",
        "1e999",
        "}" * 30,
        "[" * 30,
        "</think>",
        "é",
        '"text":',
    ]
    for _ in range(rng.randint(1, 4)):
        a, b = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
        text = rng.choice(
            [
                text[:a] + text[b:],
                text[:b] + text[a:],
                text[:a] + rng.choice(marks) + text[a:],
                text[a:b][::-1] + text,
            ]
        )
    return text


def read_mutants(count):
    rng, refused = random.Random(7), 0
    for number in range(count):
        form = FORMS[number % len(FORMS)]
        try:
            read(mutated(rng, GOOD[form]), form)
        except AnswerError:
            refused += 1
    return refused


def test_mutated_answers_raise_nothing_else():
    assert 0.3 < read_mutants(3_000) / 3_000 < 0.95  # some are still right, some are not


@pytest.mark.slow
def test_a_hundred_thousand_mutated_answers_raise_nothing_else():
    assert read_mutants(100_000) > 30_000


def test_recorded_words_are_put_into_the_form_and_forms_are_left():
    schema = Choice.schema_text()
    assert json.loads(written("Heat", schema)) == {"item": "Heat"}
    assert written('{"item": "Heat", "why": "x"}', schema) == '{"item": "Heat", "why": "x"}'
    assert json.loads(written('{"text": "x"}', schema)) == {"item": '{"text": "x"}'}
    assert written("as it is", None) == "as it is"
