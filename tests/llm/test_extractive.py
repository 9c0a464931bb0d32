"""What is picked out without a model stands in the data, and is the same every time."""

import json

from recbole_llm.llm.backend import ABSENT
from recbole_llm.llm.extractive import ExtractiveBackend
from recbole_llm.llm.wording import (
    DOMAINS,
    ITEM_DESCRIPTION,
    MERGE_SUMMARIES,
    SESSION_INTENT,
    UNQUALIFIED_INTENT,
    UPDATE_SUMMARY,
    USER_PROFILE,
    VIEWS,
    YES_OR_NO,
)

WORDS = DOMAINS["movie"].words()
HISTORY = [
    "Night Train | Genre: Crime, Drama. Year: 1995.",
    "Train Robbery | Genre: Crime. Year: 1996.",
    "Roses | Genre: Romance. Year: 1996.",
    "Robbery of a Night Train | Genre: Crime. Year: 1999.",
    "Daisy Fields | Genre: Romance, Drama. Year: 2000.",
]
TOLD = {"history": HISTORY, "shown": "all 5"}
BACKEND = ExtractiveBackend([*HISTORY, "Fields | Genre: Drama."])


def said(template, values, backend=BACKEND):
    words = {word: text for word, text in WORDS.items() if word in template.blanks}
    ((_, answer),) = backend.complete([template.request(values | words, "u1")])
    return template.read(answer.text).said() if answer.text else answer.finish


def test_a_history_is_counted_and_its_end_named():
    assert said(USER_PROFILE, {"history": HISTORY, "person": ""}) == (
        "5 in all. Genre: Crime (3), Drama (2), Romance (2). Year: 1996 (2), 1995 (1), 1999 (1), 2000 (1). "
        "Words: train, night, robbery, roses, daisy. "
        "Most recent: Daisy Fields; Robbery of a Night Train; Roses; Train Robbery; Night Train."
    )


def test_the_long_view_is_the_item_most_like_the_others_and_the_short_one_the_last():
    assert said(SESSION_INTENT, TOLD | {"view": VIEWS["long"]}) == "Robbery of a Night Train"
    assert said(SESSION_INTENT, TOLD | {"view": VIEWS["short"]}) == "Daisy Fields"
    assert said(UNQUALIFIED_INTENT, TOLD) == "Daisy Fields"


def test_facts_summaries_and_updates_are_put_together():
    assert said(ITEM_DESCRIPTION, {"facts": ["Title: Heat", "Genre: Crime."]}) == "Title: Heat Genre: Crime."
    merged = said(MERGE_SUMMARIES, {"summaries": ["Night train.", "Roses and a train."]})
    assert merged == "Words: train, roses, night. Latest: Roses and a train."
    updated = said(UPDATE_SUMMARY, {"summary": "Likes crime.", "history": HISTORY[4:]})
    assert updated.startswith("1 in all.") and updated.endswith("Before: Likes crime.")


def test_yes_or_no_is_not_said():
    assert said(YES_OR_NO, {"summary": "x", "history": HISTORY, "candidate": "Heat"}) == ABSENT


def test_nothing_is_said_of_nothing_and_a_catalogue_without_words_is_no_fault():
    assert said(USER_PROFILE, {"history": [], "person": ""}) == ABSENT
    wordless = ExtractiveBackend(["1", "2"])
    assert (
        said(SESSION_INTENT, {"history": ["7", "8"], "shown": "all 2", "view": VIEWS["long"]}, wordless)
        == "8"
    )
    assert said(USER_PROFILE, {"history": ["7"], "person": ""}, wordless) == "1 in all. Most recent: 7."


def test_it_is_called_no_llm_and_answers_the_same_again():
    assert "no LLM" in BACKEND.name and not BACKEND.is_llm
    again = ExtractiveBackend([*HISTORY, "Fields | Genre: Drama."])
    values = {"history": HISTORY, "person": ""}
    assert json.dumps(said(USER_PROFILE, values)) == json.dumps(said(USER_PROFILE, values, again))
