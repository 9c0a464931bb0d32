"""No answer is lost, asked for twice or taken for another's; a damaged file is moved aside and said."""

import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llm.errors import ArtifactError
from recbole_llm.llm.backend import Request
from recbole_llm.llm.cache import Cache, key_of
from recbole_llm.llm.fake import FakeBackend


def answers(cache, requests, backend, template="t@1"):
    found = dict(cache.complete(requests, backend, template))
    return [found[n].text for n in range(len(requests))]


def test_a_question_is_asked_once(tmp_path):
    backend = FakeBackend(str.upper)
    requests = [Request("a"), Request("b"), Request("a")]
    with Cache(tmp_path / "llm.sqlite") as cache:
        assert answers(cache, requests, backend) == ["A", "B", "A"]
    with Cache(tmp_path / "llm.sqlite") as cache:
        assert answers(cache, [*requests, Request("c")], backend) == ["A", "B", "A", "C"]
        assert len(cache) == 3
    assert [request.prompt for request in backend.asked] == ["a", "b", "c"]


def test_another_model_revision_or_template_is_another_question(tmp_path):
    with Cache(tmp_path / "llm.sqlite") as cache:
        for name, revision, template in (
            ("m", "1", "t@1"),
            ("n", "1", "t@1"),
            ("m", "2", "t@1"),
            ("m", "1", "t@2"),
        ):
            backend = FakeBackend(str.upper, name, revision)
            answers(cache, [Request("a")], backend, template)
            assert len(backend.asked) == 1
        assert len(cache) == 4


VALUES = {
    "prompt": st.text(),
    "system": st.none() | st.text(),
    "max_tokens": st.integers(1, 9999),
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0.01, 1),
    "seed": st.integers(0, 2**40),
    "stop": st.lists(st.text(min_size=1), max_size=3).map(tuple),
    "schema": st.none() | st.text(),
}
assert set(VALUES) == {field.name for field in fields(Request)} - {"about", "facts"}


@given(request=st.builds(Request, **VALUES), data=st.data(), name=st.sampled_from(sorted(VALUES)))
def test_any_other_field_gives_another_key(request, data, name):
    changed = replace(request, **{name: data.draw(VALUES[name])})
    same = key_of("m", "1", "t@1", request) == key_of("m", "1", "t@1", changed)
    assert same == (request == changed)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(request=st.builds(Request, **VALUES), data=st.data(), name=st.sampled_from(sorted(VALUES)))
def test_any_other_field_gives_another_key_ten_thousand_times(request, data, name):
    changed = replace(request, **{name: data.draw(VALUES[name])})
    same = key_of("m", "1", "t@1", request) == key_of("m", "1", "t@1", changed)
    assert same == (request == changed)


def test_what_a_question_is_about_is_no_part_of_it():
    one = Request("x", about="u1", facts={"history": "a"})
    assert key_of("m", "1", "t@1", one) == key_of("m", "1", "t@1", Request("x"))


def test_an_answer_is_kept_before_it_is_passed_on(tmp_path):
    def broken(prompt):
        if prompt == "b":
            raise OSError("the line is dead")
        return prompt

    with Cache(tmp_path / "llm.sqlite") as cache:
        with pytest.raises(OSError, match="the line is dead"):
            answers(cache, [Request("a"), Request("b")], FakeBackend(broken))
        backend = FakeBackend(str)
        assert answers(cache, [Request("a"), Request("b")], backend) == ["a", "b"]
    assert [request.prompt for request in backend.asked] == ["b"]


def fill(path, first):
    with Cache(path) as cache:
        answers(cache, [Request(f"{first + n}") for n in range(200)], FakeBackend(str))


def test_many_processes_write_at_once_and_nothing_is_lost(tmp_path):
    path = tmp_path / "llm.sqlite"
    workers = [
        multiprocessing.get_context("spawn").Process(target=fill, args=(path, 150 * n)) for n in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    with Cache(path) as cache:
        assert len(cache) == 150 * 3 + 200
        backend = FakeBackend(str)
        assert answers(cache, [Request(f"{n}") for n in range(650)], backend) == [f"{n}" for n in range(650)]
        assert not backend.asked


SLOW = """
import sys, time
from recbole_llm.llm.backend import Request
from recbole_llm.llm.cache import Cache
from recbole_llm.llm.fake import FakeBackend
def say(prompt):
    time.sleep(0.002)
    print(prompt, flush=True)
    return prompt
for _ in Cache(sys.argv[1]).complete([Request(str(n)) for n in range(5000)], FakeBackend(say), "t@1"): pass
"""


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.5])
def test_a_killed_process_leaves_all_answers_but_the_last(tmp_path, seconds):
    path = tmp_path / "llm.sqlite"
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        said = [process.stdout.readline()]
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
        said += process.stdout.readlines()
    with Cache(path) as cache:
        assert cache.damaged is None and len(cache) >= len(said) - 1 > 0


def test_a_damaged_file_is_moved_aside(tmp_path):
    path = tmp_path / "llm.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with Cache(path) as cache:
        assert cache.damaged.read_bytes().startswith(b"this is no database")
        assert answers(cache, [Request("a")], FakeBackend(str.upper)) == ["A"]


def test_a_file_that_cannot_be_opened_is_left_alone(tmp_path):
    (tmp_path / "llm.sqlite").mkdir()
    with pytest.raises(ArtifactError, match=r"the cache .*llm.sqlite cannot be opened .*; give another path"):
        Cache(tmp_path / "llm.sqlite")


def test_the_file_is_its_owners_alone(tmp_path):
    Cache(tmp_path / "mine" / "llm.sqlite").close()
    modes = [stat.S_IMODE((tmp_path / "mine" / name).stat().st_mode) for name in (".", "llm.sqlite")]
    assert modes == [0o700, 0o600]
