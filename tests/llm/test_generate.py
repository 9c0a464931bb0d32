"""Every question is answered, replaced or counted; what was answered once is never asked for again."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from recbole_llm.errors import ArtifactError, BackendError, SettingError
from recbole_llm.llm.backend import ABSENT, LENGTH, REFUSED, Answer
from recbole_llm.llm.cache import Cache
from recbole_llm.llm.fake import FakeBackend
from recbole_llm.llm.generate import Given, Tally, generate
from recbole_llm.llm.summaries import summarise
from recbole_llm.llm.texts import Origin, Texts, publish
from recbole_llm.llm.wording import BLOCK_SUMMARY, DOMAINS, ITEM_DESCRIPTION, MERGE_SUMMARIES, UPDATE_SUMMARY

THING = {"thing": "movie", "things": "movies"}


def request(fact, about=None):
    return ITEM_DESCRIPTION.request({"facts": [fact], **THING}, about or fact)


def fact_of(prompt):
    return re.search(r"<data>\n- (.*)\n</data>", prompt)[1]


class Moody(FakeBackend):
    """Says what its dict says of a fact: a text, or a finish without one."""

    def __init__(self, said):
        super().__init__(None)
        self.said = said

    def complete(self, requests):
        for number, one in enumerate(requests):
            self.asked.append(one)
            text = self.said.get(fact_of(one.prompt), '{"text": "good"}')
            text = text(one) if callable(text) else text
            if text in (REFUSED, ABSENT):
                yield number, Answer("", 5, 0, text)
            else:
                yield number, Answer(text, 5, 2, LENGTH if text.endswith("...") else "stop")


@pytest.fixture
def cache(tmp_path):
    with Cache(tmp_path / "answers.sqlite") as cache:
        yield cache


def test_nothing_is_left_out_and_all_is_counted(cache):
    said = {"b": REFUSED, "c": "I will not say", "d": '{"text": "cut...', "e": ABSENT}
    requests = [request(fact) for fact in "abcde"] + [request("a", "a2")]
    given, tally = generate(requests, ITEM_DESCRIPTION, Moody(said), cache, tries=1)
    assert [(one.about, one.text, one.source) for one in given] == [
        ("a", "good", "backend"),
        *((fact, "", "nothing") for fact in "bcde"),
        ("a2", "good", "backend"),
    ]
    assert [one.fault.partition(":")[0] for one in given[1:5]] == [REFUSED, "unreadable", "cut", ABSENT]
    assert tally == Tally(6, 5, 0, 2, 0, 4, 1, 1, 1, 1, prompt_tokens=25, answer_tokens=6)
    assert tally.answered + tally.fallback + tally.nothing == tally.questions
    assert any("1 (16.7%) refused" in line for line in tally.lines())


def test_what_cannot_be_used_is_answered_by_the_fallback(cache):
    fallback = FakeBackend(lambda prompt: json.dumps({"text": f"instead of {fact_of(prompt)}"}))
    given, tally = generate(
        [request("a"), request("b")], ITEM_DESCRIPTION, Moody({"b": "no"}), cache, fallback=fallback
    )
    assert [(one.text, one.source) for one in given] == [("good", "backend"), ("instead of b", "fallback")]
    assert given[1].fault.startswith("unreadable: expected a JSON object with text, found 'no'")
    assert (tally.answered, tally.fallback, tally.unreadable) == (1, 1, 1)
    assert len(fallback.asked) == 1 and len(cache) == 3  # the fallback's words are not kept


def test_where_the_fallback_cannot_be_read_either_there_is_nothing(cache):
    fallback = FakeBackend(lambda prompt: json.dumps({"text": "x" * 5000}))  # longer than a passage may be
    given, tally = generate(
        [request("a"), request("b")], ITEM_DESCRIPTION, Moody({"b": "no"}), cache, fallback=fallback
    )
    assert [(one.text, one.source) for one in given] == [("good", "backend"), ("", "nothing")]
    assert (tally.answered, tally.fallback, tally.nothing) == (1, 0, 1)


def test_an_unreadable_answer_is_asked_for_again_warmer_and_only_that(cache):
    moody = Moody({"b": lambda one: '{"text": "at last"}' if one.temperature else "hm"})
    given, tally = generate([request("a"), request("b")], ITEM_DESCRIPTION, moody, cache, tries=3)
    assert [one.text for one in given] == ["good", "at last"] and tally.unreadable == 0
    assert [(fact_of(one.prompt), one.temperature, one.seed) for one in moody.asked] == [
        ("a", 0.0, None),
        ("b", 0.0, None),
        ("b", 0.7, 1),
    ]


def test_a_second_run_asks_nothing_and_gives_the_same(cache):
    requests = [request(fact) for fact in "abc"]
    first, _ = generate(requests, ITEM_DESCRIPTION, Moody({}), cache)
    moody = Moody({})
    again, tally = generate(requests, ITEM_DESCRIPTION, moody, cache)
    assert again == first and not moody.asked and tally.known == 3


def test_a_refusal_is_not_kept_so_that_it_may_be_asked_again(cache):
    generate([request("a")], ITEM_DESCRIPTION, Moody({"a": REFUSED}), cache)
    given, _ = generate([request("a")], ITEM_DESCRIPTION, Moody({}), cache)
    assert given[0].text == "good"


def test_a_backend_that_breaks_off_leaves_its_answers(cache):
    def broken(one):
        raise BackendError("the server is gone")

    requests = [request(fact) for fact in "abc"]
    with pytest.raises(BackendError, match="the server is gone"):
        generate(requests, ITEM_DESCRIPTION, Moody({"c": broken}), cache)
    moody = Moody({})
    generate(requests, ITEM_DESCRIPTION, moody, cache)
    assert [fact_of(one.prompt) for one in moody.asked] == ["c"]


# ------------------------------------------------------------------ artifacts


def origin(**changes):
    whole = {
        "kind": "items",
        "templates": ("t@1",),
        "settings": {"max_tokens": 9},
        "told": "0" * 64,
        "backend": "fake",
        "revision": "1",
        "is_llm": True,
        "fallback": "",
        "cuts": {},
    }
    return Origin(**whole | changes)


GIVEN = [Given("1", "a\u2028b", "backend", {"text": "a\u2028b"}), Given("2", "", "nothing", {}, "refused")]


def test_an_artifact_comes_back_as_it_was_and_is_the_same_file_each_time(tmp_path):
    first = publish(tmp_path / "one", origin(), GIVEN, Tally(2, 2))
    again = publish(tmp_path / "two", origin(), GIVEN, Tally(2, 2, known=2))
    assert list(first.given) == GIVEN and first.by_token() == {"1": ("a\u2028b",), "2": ()}
    for name in ("texts.jsonl", "manifest.json"):
        assert (first.directory / name).read_bytes() == (again.directory / name).read_bytes()
    assert sorted(path.name for path in first.directory.parent.iterdir()) == [first.directory.name]


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "users"},
        {"templates": ("t@2",)},
        {"settings": {"max_tokens": 8}},
        {"told": "1" * 64},
        {"backend": "other"},
        {"revision": "2"},
        {"fallback": "extractive"},
        {"cuts": {"u": (3, "i")}},
    ],
)
def test_anything_else_it_was_made_from_is_another_artifact(change):
    assert origin(**change).key != origin().key


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("texts.jsonl", lambda text: text.replace("a", "b"), "differs from its manifest: sha256"),
        ("texts.jsonl", lambda text: text[:-9], "differs|cannot be read"),
        ("manifest.json", lambda text: text.replace('"fake"', '"fate"'), "differs from its manifest: key"),
        ("manifest.json", lambda text: text[:40], "cannot be read"),
        ("manifest.json", None, "no manifest.json"),
        ("texts.jsonl", None, "no texts.jsonl"),
    ],
)
def test_a_damaged_artifact_is_refused(tmp_path, name, spoil, words):
    place = publish(tmp_path, origin(), GIVEN, Tally(2)).directory
    if spoil:
        (place / name).write_text(spoil((place / name).read_text()))
    else:
        (place / name).unlink()
    with pytest.raises(ArtifactError, match=words):
        Texts.load(place)


# ------------------------------------------------------------------ summaries


def recorder(say):
    """``ask`` of ``summarise``: answers by ``say(template, values)`` and keeps what was asked."""
    asked = []

    def ask(template, several):
        asked.append((template.name, [values for _, values in several]))
        texts = [say(template, values) for _, values in several]
        given = [Given(token, text, "backend") for (token, _), text in zip(several, texts, strict=True)]
        return given, Tally(len(given))

    return ask, asked


def gist(template, values):
    if template is MERGE_SUMMARIES:
        return "+".join(values["summaries"])
    return values.get("summary", "") + "".join(values["history"])


HISTORIES = [("u", list("abcde")), ("v", list("xy")), ("w", [])]


def test_merging_summarises_every_block_and_then_the_summaries():
    ask, asked = recorder(gist)
    given, tally = summarise(HISTORIES, 2, "merge", ask)
    assert [(one.about, one.text) for one in given] == [("u", "ab+cd+e"), ("v", "xy"), ("w", "")]
    assert [name for name, _ in asked] == [BLOCK_SUMMARY.name, MERGE_SUMMARIES.name]
    assert len(asked[1][1]) == 1 and tally.questions == 6  # one block has nothing to merge


def test_updating_reads_one_block_after_the_other():
    ask, asked = recorder(gist)
    given, _ = summarise(HISTORIES, 2, "update", ask)
    assert [one.text for one in given] == ["abcde", "xy", ""]
    assert [name for name, _ in asked] == [BLOCK_SUMMARY.name, UPDATE_SUMMARY.name, UPDATE_SUMMARY.name]
    assert asked[1][1] == [{"summary": "ab", "history": ["c", "d"]}]


def test_a_block_that_failed_leaves_what_is_known():
    for join in ("merge", "update"):
        ask, _ = recorder(
            lambda template, values: "" if "c" in values.get("history", ()) else gist(template, values)
        )
        given, _ = summarise([("u", list("abcde"))], 2, join, ask)
        assert given[0].text == {"merge": "ab+e", "update": "abe"}[join]


def test_an_unknown_join_is_refused():
    with pytest.raises(SettingError, match="join is `sum`, expected one of merge, update"):
        summarise(HISTORIES, 2, "sum", None)


def test_every_domain_fills_every_template():
    for domain in DOMAINS.values():
        assert set(domain.words()) == {"thing", "things", "done"} and all(domain.words().values())


# ------------------------------------------------------------------ kill -9

SLOWLY = """
import json, os, sys, time
from recbole_llm.llm.cache import Cache
from recbole_llm.llm.fake import FakeBackend
from recbole_llm.llm.generate import generate
from recbole_llm.llm.wording import ITEM_DESCRIPTION

BATCH = 8

class Slow(FakeBackend):
    def complete(self, requests):
        for first in range(0, len(requests), BATCH):
            with open(sys.argv[2], "a") as log:
                log.write("".join(one.about + "\\n" for one in requests[first : first + BATCH]))
            time.sleep(0.004)
            for number, answer in super().complete(requests[first : first + BATCH]):
                yield first + number, answer

words = {"thing": "movie", "things": "movies"}
requests = [ITEM_DESCRIPTION.request({"facts": [f"film {n}"], **words}, str(n)) for n in range(400)]

def run():
    backend = Slow(lambda prompt: json.dumps({"text": prompt[-60:-40] or "x"}))
    with Cache(sys.argv[1]) as cache:
        given, tally = generate(requests, ITEM_DESCRIPTION, backend, cache, tries=1)
        assert all(one.text for one in given) and cache.damaged is None

for line in sys.stdin:  # each line begins a run in a process of its own; says which, and how it ended
    child = os.fork()
    if not child:
        run()
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def killed_at_random(folder, kills):
    """Start, kill at random, start again: how often each question was asked, the kills, the path of the cache."""
    cache, log, rng, hit = folder / "answers.sqlite", folder / "asked.txt", random.Random(3), 0
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", SLOWLY, str(cache), str(log)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as nursery:
        while True:
            nursery.stdin.write("go\n")
            nursery.stdin.flush()
            child = int(nursery.stdout.readline())
            if hit < kills:
                time.sleep(rng.random() * 0.08)
                with suppress(ProcessLookupError):  # it has come to its end already
                    os.kill(child, signal.SIGKILL)
            ended = int(nursery.stdout.readline())
            if ended == 0:
                break
            assert ended == signal.SIGKILL
            hit += 1
    asked = log.read_text().split("\n")[:-1]
    return [asked.count(str(n)) for n in range(400)], hit, cache


def test_a_run_that_is_killed_loses_no_answer_and_asks_at_most_one_batch_again(tmp_path):
    counts, hit, place = killed_at_random(tmp_path, 3)
    assert hit and min(counts) == 1 and sum(counts) <= 400 + 8 * hit
    with Cache(place) as cache:
        assert len(cache) == 400


@pytest.mark.slow
def test_two_hundred_kills_lose_nothing(tmp_path):
    hits, again = 0, 0
    while hits < 200:
        folder = tmp_path / str(hits)
        folder.mkdir()
        counts, hit, place = killed_at_random(folder, 200 - hits)
        hits += hit
        again += sum(counts) - 400
        assert hit and min(counts) == 1 and sum(counts) <= 400 + 8 * hit
        with Cache(place) as cache:
            assert len(cache) == 400 and cache.damaged is None
    print(f"{hits} kills, {again} questions asked again")
