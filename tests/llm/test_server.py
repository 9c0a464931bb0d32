"""A chat server that fails as real ones do: each question is answered once, paid once, and no key is told."""

import copy
import importlib.util
import json
import logging
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_llm.errors import BackendError, SettingError
from recbole_llm.llm.backend import Answer, Request
from recbole_llm.llm.cache import Cache
from recbole_llm.llm.server import ATTEMPTS, ServerBackend, _read

sys.path.insert(0, str(Path(__file__).parent))  # tests are no package
from faulty_server import FAULTS, FaultyServer  # noqa: E402

pytest.importorskip("openai", reason="the server extra is not installed: pip install 'recbole-llm[server]'")

KEY = "sk-very-secret"
SCHEMA = '{"type": "object", "properties": {"genre": {"type": "string"}}, "required": ["genre"]}'


@pytest.fixture
def server():
    with FaultyServer() as faulty:
        yield faulty


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    """The environment of whoever runs the tests has no say in them."""
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    return KEY


def backend_of(server, **options):
    """A backend and the waits that it would have made."""
    waits = []
    options = {
        "api_key_env": "MY_KEY",
        "concurrency": 4,
        "timeout_seconds": 10,
        "sleep": waits.append,
    } | options
    return ServerBackend(server.url, "m", "r1", **options), waits


def questions(count):
    return [Request(f"what is film {number}") for number in range(count)]


def asked(backend, requests):
    """The answers by number; each number came once."""
    pairs = list(backend.complete(requests))
    found = dict(pairs)
    assert sorted(found) == sorted(number for number, _ in pairs) == list(range(len(requests)))
    return [found[number] for number in range(len(requests))]


def played(body):
    return (200, {}, body if isinstance(body, str) else json.dumps(body))


def said(content, finish="stop", **more):
    return played({"choices": [{"message": {"content": content}, "finish_reason": finish}], **more})


# -- what is sent, what comes back


def test_every_field_of_a_request_is_sent(server, key):
    backend, _ = backend_of(server)
    whole = Request(
        "who", "be brief", 9, temperature=0.7, top_p=0.9, seed=3, stop=("\n", "END"), schema=SCHEMA
    )
    asked(backend, [whole])
    headers, body = server.asked[0]
    assert headers["authorization"] == f"Bearer {key}"
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "who"}],
        "max_tokens": 9,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 3,
        "stop": ["\n", "END"],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": json.loads(SCHEMA), "strict": True},
        },
    }
    asked(backend, [Request("who", about="B000X", facts={"title": "Heat"})])
    assert server.asked[1][1] == {
        "model": "m",
        "messages": [{"role": "user", "content": "who"}],
        "max_tokens": 256,
        "temperature": 0.0,
        "top_p": 1.0,
    }


def test_each_request_gets_its_answer_and_no_more_are_under_way_than_allowed(server):
    server.plan = ["silent"] * 6
    backend, _ = backend_of(server)
    answers = asked(backend, questions(40))
    assert answers == [Answer(f"WHAT IS FILM {n}", 4, 4, "stop") for n in range(40)]
    assert server.most_at_once == 4
    assert (backend.sent, backend.retries, backend.tokens_in, backend.tokens_out) == (40, 0, 160, 160)


def test_answers_come_as_they_are_ready(server):
    server.plan = ["silent"]
    backend, _ = backend_of(server, concurrency=2)
    numbers = [number for number, _ in backend.complete(questions(6))]
    assert sorted(numbers) == list(range(6)) and numbers[-1] in (0, 1)


def test_nothing_asked_needs_neither_package_nor_server(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    backend = ServerBackend("http://127.0.0.1:9/v1", "m")
    assert list(backend.complete([])) == []
    with pytest.raises(
        BackendError, match=r"need the package openai; run: pip install 'recbole-llm\[server\]'"
    ):
        asked(backend, questions(1))


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (said("one two\nthree"), Answer("one two", 0, 0, "stop")),
        (said("one two\nthree", "length"), Answer("one two", 0, 0, "stop")),
        (said("one two", "length"), Answer("one two", 0, 0, "length")),
        (said("one", None, usage={"prompt_tokens": 5, "completion_tokens": 2}), Answer("one", 5, 2, "stop")),
        (said("one", usage=None), Answer("one", 0, 0, "stop")),
        (said("a bad w", "content_filter"), Answer("", 0, 0, "refused")),
        (said(None), Answer("", 0, 0, "refused")),
        (said(None, "length", usage={"completion_tokens": 9}), Answer("", 0, 9, "length")),
        (played({"choices": []}), Answer("", 0, 0, "refused")),
    ],
)
def test_an_answer_is_read_as_it_ended(server, reply, expected):
    server.plan = [reply]
    backend, _ = backend_of(server)
    assert asked(backend, [Request("x", stop=("\n",))]) == [expected]
    assert backend.retries == 0 and backend.tokens_out == expected.answer_tokens


NAMES = st.sampled_from(["choices", "message", "content", "finish_reason", "usage", "completion_tokens"])
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["stop", "length"])
)
BODIES = st.recursive(
    LEAVES, lambda part: st.lists(part, max_size=2) | st.dictionaries(NAMES, part), max_leaves=9
)


@given(BODIES)
def test_whatever_a_body_says_it_is_an_answer_or_unreadable(body):
    try:
        answer = _read(json.dumps(body).encode(), ())
    except (ValueError, TypeError, AttributeError):
        return
    assert isinstance(answer.text, str) and answer.finish in ("stop", "length", "refused")
    assert isinstance(answer.prompt_tokens, int) and isinstance(answer.answer_tokens, int)


# -- asking again


@pytest.mark.parametrize("fault", [*FAULTS, (408, {}, ""), (409, {}, "")])
def test_after_each_fault_the_same_is_asked_again(server, fault):
    server.plan = [fault]
    backend, waits = backend_of(server, timeout_seconds=0.3 if fault == "silent" else 10)
    assert asked(backend, questions(1))[0].text == "WHAT IS FILM 0"
    more = 0 if fault == "twice" else 1
    assert backend.sent == len(server.asked) == 1 + more and backend.retries == len(waits) == more


@pytest.mark.parametrize(
    "reply",
    [
        said("half a sen", "abort"),
        played({"error": {"message": "upstream", "code": 502}}),
        played("<html>"),
        played("[1]"),
        played('{"choices": [7]}'),
        played('{"choices": [{"message": {"content": ["a"]}}]}'),
        played("[" * 100_000),
        (200, {}, "\ud83d".encode("utf-8", "surrogatepass").decode("latin-1")),
    ],
)
def test_what_is_no_whole_answer_is_asked_again(server, reply):
    server.plan = [reply]
    backend, _ = backend_of(server)
    assert asked(backend, questions(1))[0].text == "WHAT IS FILM 0" and backend.retries == 1
    server.plan = [reply] * ATTEMPTS
    with pytest.raises(BackendError, match=r"after 6 attempts \(last: an answer that cannot be read, "):
        asked(backend, questions(1))


def test_a_busy_server_is_asked_again_after_the_time_it_names(server):
    server.plan = [
        "busy",
        "busy until",
        (429, {"Retry-After": "86400"}, ""),
        (503, {"Retry-After": "-1"}, ""),
    ]
    backend, waits = backend_of(server)
    asked(backend, questions(1))
    assert waits[0] == 7 and 27 < waits[1] <= 30 and waits[2:] == [60, 0]


def test_without_such_a_time_the_waits_double_and_differ(server):
    odd = [(503, {"Retry-After": header}, "") for header in ("soon", "nan", "")]
    seen = []
    for _ in range(3):
        server.plan = ["broken", *odd, "closed"]
        backend, waits = backend_of(server)
        asked(backend, questions(1))
        assert all(2**n / 2 <= wait <= 2**n for n, wait in enumerate(waits)) and len(waits) == 5
        seen += waits
    assert len(set(seen)) == 15


def test_a_server_that_stays_away_is_given_up_after_six_attempts(server):
    server.plan = ["away"] * 6
    backend, waits = backend_of(server)
    with pytest.raises(BackendError) as error:
        asked(backend, questions(1))
    assert str(error.value) == (
        f"{server.url} did not answer after 6 attempts "
        '(last: HTTP 503: {"error": {"message": "no worker"}}). '
        "Run the same command again later: the answers so far are kept"
    )
    assert len(server.asked) == backend.sent == 6 and backend.retries == len(waits) == 5
    nobody = ServerBackend("http://127.0.0.1:9/v1", "m", sleep=waits.append)
    with pytest.raises(
        BackendError, match=r"http://127.0.0.1:9/v1 did not .* \(last: ConnectError: .*refused\)"
    ):
        asked(nobody, questions(1))


def test_an_answer_that_is_sent_twice_is_not_given_to_the_next_question(server):
    server.plan = ["twice", None, "twice", "twice"]
    backend, _ = backend_of(server, concurrency=1)
    assert [answer.text for answer in asked(backend, questions(8))] == [f"WHAT IS FILM {n}" for n in range(8)]


def test_one_failure_lets_the_others_under_way_finish_first(server):
    server.plan = [(404, {}, "no such model"), "silent", "silent", "silent"]
    backend, _ = backend_of(server)
    answers = []
    with pytest.raises(BackendError, match="answered HTTP 404: no such model"):
        answers.extend(backend.complete(questions(20)))
    assert len(answers) == 3 == len({number for number, _ in answers}) and len(server.asked) == 4


def test_closing_early_begins_nothing_more(server):
    backend, _ = backend_of(server, concurrency=2)
    answers = backend.complete(questions(50))
    for _ in range(3):
        next(answers)
    answers.close()
    sent = len(server.asked)
    assert 3 <= sent == backend.sent <= 3 + 2
    time.sleep(0.05)
    assert len(server.asked) == sent


def test_closing_early_ends_the_waits(server):
    server.plan = [None] + [(503, {"Retry-After": "60"}, "")] * 9
    backend, _ = backend_of(server, concurrency=2, sleep=None)
    answers = backend.complete(questions(9))
    next(answers)
    started = time.monotonic()
    while backend.retries < 2 and time.monotonic() - started < 5:
        time.sleep(0.01)
    started = time.monotonic()  # both wait a minute now
    answers.close()
    assert time.monotonic() - started < 5 and backend.sent == 3 and backend.retries == 2


def test_no_more_are_sent_in_a_minute_than_allowed(server):
    server.plan = ["broken"]
    backend, waits = backend_of(server, concurrency=1, requests_per_minute=60)
    started = time.monotonic()
    asked(backend, questions(2))
    asked(backend, questions(1))
    passed = time.monotonic() - started
    turns = [wait for wait in waits if wait != waits[0]]  # the first is the pause after the fault
    assert len(turns) == 3
    assert all(n - passed <= turn <= n for n, turn in enumerate(turns, 1))


def test_eleven_requests_at_1200_a_minute_take_half_a_second(server):
    backend, _ = backend_of(server, requests_per_minute=1200, sleep=None)
    started = time.monotonic()
    asked(backend, questions(11))
    assert 0.5 <= time.monotonic() - started < 5


# -- schemas


def test_a_server_without_schemas_is_asked_without_and_that_is_remembered(server):
    server.takes_schema = False
    backend, waits = backend_of(server, concurrency=1)
    requests = [Request(f"genre of {n}", schema=SCHEMA) for n in range(5)]
    assert [answer.text for answer in asked(backend, requests)] == [f"GENRE OF {n}" for n in range(5)]
    assert ["response_format" in body for _, body in server.asked] == [True] + [False] * 5
    assert backend.schema_refused and backend.sent == 6 and backend.retries == 0 and waits == []


def test_a_server_without_schemas_is_still_asked_without_after_other_faults(server):
    server.takes_schema = False
    server.plan = ["away"] * (ATTEMPTS - 1)
    backend, _ = backend_of(server)
    assert asked(backend, [Request("x", schema=SCHEMA)])[0].text == "X" and backend.sent == ATTEMPTS + 1


def test_a_refusal_for_another_reason_is_told_and_not_remembered(server):
    backend, _ = backend_of(server)
    server.plan = [(400, {}, "too long")] * 2
    with pytest.raises(BackendError, match="answered HTTP 400: too long .asked about B000X.; .* is `m`"):
        asked(backend, [Request("x", schema=SCHEMA, about="B000X")])
    assert len(server.asked) == 2 and not backend.schema_refused
    asked(backend, [Request("x", schema=SCHEMA)])
    assert "response_format" in server.asked[2][1]


def test_a_schema_that_is_no_json_is_refused_before_it_is_sent(server):
    with pytest.raises(SettingError, match="the schema of a request is no JSON .*: {genre"):
        asked(backend_of(server)[0], [Request("x", schema="{genre")])
    assert server.asked == []


# -- limits


def test_spending_ends_at_the_limit_and_a_higher_one_goes_on(server, tmp_path):
    requests = questions(10)  # eight tokens each
    with Cache(tmp_path / "llm.sqlite") as cache:
        backend, _ = backend_of(server, concurrency=1, most_tokens=30, price_in=2.0, price_out=3.0)
        with pytest.raises(BackendError) as error:
            list(cache.complete(requests, backend, "t@1"))
        assert str(error.value) == (
            "most_tokens = 30 is reached: 16 tokens of prompts and 16 of answers were spent, "
            "a cost of 8e-05, for 4 of 10 requests; raise the limit and run the same command again to go on, "
            "the answers so far are kept"
        )
        assert backend.cost == pytest.approx(8e-5) and len(server.asked) == len(cache) == 4
        with pytest.raises(BackendError, match="for 0 of 6 requests"):
            list(cache.complete(requests, backend, "t@1"))
        assert len(server.asked) == 4
        raised, _ = backend_of(server, concurrency=1, most_tokens=48)  # the last answer reaches it: no error
        assert len(list(cache.complete(requests, raised, "t@1"))) == 10
    assert max(server.answered.values()) == 1 and raised.cost is None


def test_those_under_way_at_the_limit_are_given_too(server):
    server.plan = ["silent"] * 3
    backend, _ = backend_of(server, concurrency=3, most_tokens=1)
    answers = []
    with pytest.raises(BackendError, match="12 tokens of prompts and 12 of answers were spent, for 3 of 10"):
        answers.extend(backend.complete(questions(10)))
    assert len(answers) == len(server.asked) == 3


def test_a_limit_may_be_money(server):
    backend, _ = backend_of(server, concurrency=1, most_cost=0.05, price_in=1000, price_out=4000)
    with pytest.raises(BackendError, match=r"most_cost = 0.05 is reached: .* a cost of 0.06, for 3 of 10"):
        list(backend.complete(questions(10)))
    assert backend.cost == pytest.approx(3 * (4 * 0.001 + 4 * 0.004))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"url": "localhost:8000"},
            "url is `localhost:...`, expected a URL such as http://localhost:8000/v1",
        ),
        (
            {"url": "https://me:pw@host/v1"},
            "may be secrets. Put the key into the environment variable OPENAI_API_KEY",
        ),
        ({"url": "https://host/v1?key=pw"}, "url holds a user, password or query"),
        ({"concurrency": 0}, "concurrency is 0, expected more than 0"),
        ({"timeout_seconds": -1.0}, "timeout_seconds is -1.0"),
        ({"requests_per_minute": 0}, "requests_per_minute is 0"),
        ({"most_tokens": 0}, "most_tokens is 0"),
        (
            {"most_cost": 1.0, "price_in": 2.0},
            "most_cost is 1.0, but a price is missing; set price_in and price_out",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(options, message):
    with pytest.raises(SettingError, match=re.escape(message)) as error:
        ServerBackend(**{"url": "http://localhost:8000/v1", "name": "m"} | options)
    assert "pw" not in str(error.value)


# -- secrets


def test_the_key_is_sent_and_stands_nowhere_else(server, key, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    server.plan = ["busy", "torn"]
    backend, _ = backend_of(server)
    path = tmp_path / "llm.sqlite"
    with Cache(path) as cache:
        running = cache.complete(questions(9), backend, "t@1")
        next(running)
        held = [repr(backend), repr(vars(backend)), str(pickle.dumps(backend)), repr(copy.deepcopy(backend))]
        list(running)
        held += [repr(vars(backend)), str(pickle.dumps(backend)), caplog.text]
        held += [str(record.args) for record in caplog.records]
        held += [file.read_bytes().decode("latin-1") for file in tmp_path.iterdir()]
    assert {headers["authorization"] for headers, _ in server.asked} == {f"Bearer {key}"}
    assert caplog.records and path.exists()
    assert not [text for text in held if key in text]


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 413, 422])
def test_a_refusal_is_told_at_once_and_without_the_key(server, key, status):
    server.plan = [(status, {"Location": f"/x?{key}"}, f"no model for {key} of Bearer {key}")]
    backend, waits = backend_of(server)
    with pytest.raises(BackendError, match=f"{server.url} answered HTTP {status}") as error:
        asked(backend, questions(1))
    told = str(error.value)
    assert key not in told and key not in str(pickle.dumps(error.value)) and waits == []
    assert error.value.__context__ is error.value.__cause__ is None  # the package's errors hold the request
    assert len(server.asked) == 1 and backend.retries == 0
    assert ("MY_KEY" in told) == (status in (401, 403)) and ("redirect" in told) == (status < 400)
    assert ("no model for *** of Bearer ***" in told) == (status in (400, 404, 413, 422))


def test_the_last_error_of_a_server_that_echoes_the_key_is_without_it(server, key):
    server.plan = [(500, {}, f"cannot bill {key}")] * 6
    with pytest.raises(BackendError, match=r"HTTP 500: cannot bill \*\*\*") as error:
        asked(backend_of(server)[0], questions(1))
    assert key not in str(error.value) and error.value.__context__ is None


def test_the_key_does_not_follow_a_redirect(server, key):
    with FaultyServer() as elsewhere:
        for status in (301, 302, 303, 307, 308):
            server.plan = [(status, {"Location": f"{elsewhere.url}/chat/completions"}, "")]
            with pytest.raises(BackendError, match=f"HTTP {status}; no redirect is followed"):
                asked(backend_of(server)[0], questions(1))
        assert elsewhere.asked == [] and len(server.asked) == 5


def test_a_server_that_needs_no_key_gets_none_of_the_environment(server, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"Authorization: Bearer {KEY}")
    asked(backend_of(server)[0], questions(1))
    assert "authorization" not in server.asked[0][0] and KEY not in str(server.asked)


def test_the_key_is_read_at_each_request(server, monkeypatch):
    backend, _ = backend_of(server)
    for secret in ("sk-one", " sk-two\n"):
        monkeypatch.setenv("MY_KEY", secret)
        asked(backend, questions(1))
    assert [headers["authorization"] for headers, _ in server.asked] == ["Bearer sk-one", "Bearer sk-two"]


def test_a_key_with_a_line_break_is_refused_unseen(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-se\ncret")
    with pytest.raises(SettingError, match="the key in MY_KEY has characters that no key has") as error:
        asked(backend_of(server)[0], questions(1))
    assert "sk-se" not in str(error.value) and server.asked == []


def test_a_backend_that_was_sent_to_another_process_answers(server):
    backend, _ = backend_of(server, sleep=None)
    asked(backend, questions(2))
    twin = pickle.loads(pickle.dumps(backend))
    assert asked(twin, questions(3)) == asked(backend, questions(3)) and twin.sent == backend.sent == 5


# -- many at once, and the cache


def test_a_thousand_answers_of_a_faulty_server_cost_at_most_five_percent_more(tmp_path):
    requests = questions(1000)
    with (
        FaultyServer(rate=0.045, seed=1, silence_seconds=2) as server,
        Cache(tmp_path / "c.sqlite") as cache,
    ):
        backend, waits = backend_of(server, concurrency=8, timeout_seconds=1)
        found = dict(cache.complete(requests, backend, "t@1"))
        right = sum(found[n].text == f"WHAT IS FILM {n}" for n in range(1000) if n in found)
        faults = sum(server.met[fault] for fault in FAULTS if fault != "twice")
        assert set(server.met) == set(FAULTS) and faults >= 35  # else the bound below would say little
        assert right >= 999 and len(cache) == right
        assert backend.sent == len(server.asked) <= 1050
        assert backend.retries == len(waits) == len(server.asked) - 1000

        again, _ = backend_of(server)
        assert dict(cache.complete(requests, again, "t@1")) == found
        assert again.sent == 0 and len(server.asked) == backend.sent
        charged_twice = {prompt for prompt, times in server.answered.items() if times > 1}
        assert len(charged_twice) <= server.met["silent"]  # it thought on after the client had hung up


def test_after_a_failure_only_the_rest_is_asked_for(server, tmp_path):
    requests = questions(30)
    with Cache(tmp_path / "llm.sqlite") as cache:
        server.plan = [None] * 12 + [(403, {}, "")]
        with pytest.raises(BackendError, match="HTTP 403; check the key in the environment: MY_KEY"):
            list(cache.complete(requests, backend_of(server)[0], "t@1"))
        kept = len(cache)
        assert 12 <= kept == server.answered.total() < 30
        again, _ = backend_of(server)
        assert len(list(cache.complete(requests, again, "t@1"))) == 30
    assert again.sent == 30 - kept and server.answered == {request.prompt: 1 for request in requests}


# -- a real server


@pytest.fixture(scope="module")
def real(shared_data, tmp_path_factory):
    """The folder of a small model, and the URL of ``transformers serve`` that runs it."""
    missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"transformers serve needs {' and '.join(missing)}: pip install 'transformers[serving]'")
    stories = shared_data.parent / "models" / "stories260K"
    if not stories.is_dir():
        pytest.skip(f"no model at {stories}")
    folder = shutil.copytree(stories, tmp_path_factory.mktemp("served") / "stories")
    folder.chmod(0o755)
    # A server of chats needs a template; this one adds nothing but the token that a text begins with.
    template = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder.parent / "log"
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with log.open("w") as lines:
        process = subprocess.Popen(
            command, stdout=lines, stderr=lines, env=os.environ | {"HF_HUB_OFFLINE": "1"}
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield folder, f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(url, process, log):
    for _ in range(600):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.2)
    pytest.fail(f"transformers serve did not start:\n{log.read_text()[-2000:]}")


STORIES = ["Once upon a time", "The cat", "Lily and Ben went to the park. They saw a big dog and", "Tom"]


@pytest.mark.slow
def test_a_real_server_says_what_the_model_says_here(real):
    from recbole_llm.llm.local import LocalBackend

    folder, url = real
    requests = [Request(prompt, max_tokens=30) for prompt in STORIES]
    requests += [
        Request(STORIES[0], max_tokens=60, stop=(".",)),
        Request("a time", "Once upon", max_tokens=10),
    ]
    served = ServerBackend(url, str(folder), concurrency=2)
    here = asked(LocalBackend(str(folder)), requests)
    assert asked(served, requests) == here
    assert len({answer.text for answer in here[:4]}) == 4 and here[4].finish == "stop" != here[0].finish
    assert served.sent == 6 and served.retries == 0
    assert served.tokens_in == sum(answer.prompt_tokens for answer in here)


@pytest.mark.slow
def test_a_real_server_tells_of_a_model_that_it_does_not_have(real):
    with pytest.raises(BackendError, match="answered HTTP 400: .*Server is pinned to .* is `another`"):
        asked(ServerBackend(real[1], "another", sleep=lambda _: None), questions(1))
