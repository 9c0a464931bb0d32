"""Answers of any OpenAI-compatible chat server (vLLM, SGLang, Ollama, hosted ones), many at a time.

The ``openai`` package speaks to it; when to ask again is decided here, so that every request is counted.

The key is read from the environment for each request and given to that request alone: neither this object nor
the client of the package holds it. It is never sent on to where a redirect points, and no error carries it.
"""

import json
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from recbole_llm.errors import BackendError, SettingError
from recbole_llm.llm.backend import LENGTH, REFUSED, STOP, Answer, Request, cut
from recbole_llm.text.remote import LONGEST_WAIT_SECONDS, checked_url, retry_after

ATTEMPTS = 6
CONNECT_SECONDS = 10.0  # a server that is there opens the door soon, however long it then thinks
ASK_AGAIN = (408, 409, 429)  # and every 5xx
BROKEN_OFF = ("abort", "error")  # how SGLang, vLLM and OpenRouter call an answer that the server itself lost


class ServerBackend:
    """Answers of a chat server.

    A server that does not say how many tokens it used is taken to have used none: no limit binds it then. Nor
    is it known what an answer cost that never came: one given up after a timeout may still be charged.

    Parameters
    ----------
    url : str
        Base URL, e.g. ``http://localhost:8000/v1``; without user, password or query.
    name : str
        The model as the server calls it.
    revision : str
        What is known of the weights behind the name, e.g. a commit and a quantisation. A client cannot find
        that out; with ``"unknown"``, cached answers are kept when the server changes its weights.
    api_key_env : str
        Environment variable with the key; local servers need none.
    concurrency : int
        Requests under way at once.
    timeout_seconds : float
        Of silence, after which a request is given up and asked again.
    requests_per_minute : float, optional
        No more than that are sent, those that are asked again included.
    most_tokens : int, optional
        Of prompts and answers, over the life of this object. No request is begun once they are spent; those
        that are under way then, fewer than ``concurrency``, still come and are counted.
    most_cost : float, optional
        The same in money; needs both prices.
    price_in, price_out : float, optional
        Per million tokens of prompts and of answers.
    sleep : function of seconds, optional
        Waits between attempts; tests pass their own. Without one, they end when no answer is wanted any more.

    Attributes
    ----------
    sent, retries : int
        Requests so far, and how many of them asked again after a failure.
    tokens_in, tokens_out : int
        Of the answers so far, as the server counts.
    schema_refused : bool
        Whether the server answered only when no schema was sent; none is sent any more then, and the prompt
        alone says what an answer must look like.

    Raises
    ------
    SettingError
        If the URL may hold a secret, or a number is out of range.
    """

    is_llm = by_prompt = True

    def __init__(
        self,
        url: str,
        name: str,
        revision: str = "unknown",
        *,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 8,
        timeout_seconds: float = 120.0,
        requests_per_minute: float | None = None,
        most_tokens: int | None = None,
        most_cost: float | None = None,
        price_in: float | None = None,
        price_out: float | None = None,
        sleep: Callable[[float], object] | None = None,
    ):
        self.url, self.name, self.revision = checked_url(url, "url", api_key_env), name, revision
        self.api_key_env = api_key_env
        self.concurrency, self.timeout_seconds = concurrency, timeout_seconds
        self.requests_per_minute = requests_per_minute
        self.most_tokens, self.most_cost = most_tokens, most_cost
        self.price_in, self.price_out = price_in, price_out
        for key in ("concurrency", "timeout_seconds", "requests_per_minute", "most_tokens", "most_cost"):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise SettingError(f"{key} is {value}, expected more than 0")
        if most_cost is not None and (price_in is None or price_out is None):
            raise SettingError(
                f"most_cost is {most_cost}, but a price is missing; set price_in and price_out"
            )
        self.sent = self.retries = self.tokens_in = self.tokens_out = 0
        self.schema_refused = False
        self._sleep = sleep
        self._random = random.Random()  # of its own: draws from the common one would alter a seeded training
        self._lock, self._next_start = threading.Lock(), 0.0

    def __getstate__(self):
        """All but what belongs to this process: the lock, and a time of its clock."""
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_next_start")}

    def __setstate__(self, state):
        vars(self).update(state)
        self._lock, self._next_start = threading.Lock(), 0.0

    @property
    def cost(self) -> float | None:
        """Money spent so far, or None where a price is not known."""
        if self.price_in is None or self.price_out is None:
            return None
        return (self.tokens_in * self.price_in + self.tokens_out * self.price_out) / 1e6

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answers as they come; when one fails or a limit is reached, those under way come before the error.

        Closing the iterator early begins nothing more; what is under way is waited for and lost.

        Raises
        ------
        BackendError
            If the server refuses, stays away after all attempts, or a limit is reached.
        """
        if not requests:
            return
        left, closed = deque(range(len(requests))), threading.Event()
        running: dict[Future, int] = {}
        failures: list[BaseException] = []
        with self._client() as client, ThreadPoolExecutor(self.concurrency) as pool:
            create = client.chat.completions.with_raw_response.create

            def fill():
                while left and not failures and len(running) < self.concurrency and not self._limit():
                    number = left.popleft()
                    running[pool.submit(self._ask, create, requests[number], closed)] = number

            try:
                fill()
                while running:
                    done = wait(running, return_when=FIRST_COMPLETED).done
                    failures += [failure for future in done if (failure := future.exception())]
                    for future in done:
                        number = running.pop(future)
                        if not future.exception():
                            fill()
                            yield number, future.result()
            finally:
                closed.set()
        if failures:
            raise failures[0]
        if left:
            raise BackendError(self._limit_said(len(requests) - len(left), len(requests)))

    def _client(self) -> Any:
        """A client of the package without a key, without retries, and which follows no redirect."""
        try:
            import openai
        except ImportError as error:
            raise BackendError(
                f"answers of {self.url} need the package openai; run: pip install 'recbole-llm[server]'"
            ) from error
        return openai.OpenAI(
            base_url=self.url,
            api_key="in the headers of each request",
            max_retries=0,
            timeout=openai.Timeout(self.timeout_seconds, connect=min(self.timeout_seconds, CONNECT_SECONDS)),
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )

    def _ask(self, create, request, closed):
        """The answer to one request, asked again where that can help; None when nobody wants it any more."""
        rest, body = self._sleep or closed.wait, self._body(request)
        for attempt in range(1, ATTEMPTS + 1):
            self._keep_pace(rest)
            if closed.is_set():
                return None
            status, headers, content = self._send(create, body)
            if status in (400, 422) and body.pop("response_format", None):
                self._keep_pace(rest)
                status, headers, content = self._send(create, body)
            pause = min(2.0 ** (attempt - 1), LONGEST_WAIT_SECONDS) * self._random.uniform(0.5, 1.0)
            if 200 <= status < 300:
                try:
                    answer = _read(content, request.stop)
                except (ValueError, TypeError, AttributeError, RecursionError) as error:
                    trouble = f"an answer that cannot be read, {error}"
                else:
                    self._count(answer, refused=bool(request.schema) and "response_format" not in body)
                    return answer
            elif not status or status in ASK_AGAIN or status >= 500:
                trouble = self._without_key(content) if not status else self._status_said(status, content)
                pause = retry_after(headers.get("retry-after"), pause)
            else:
                raise BackendError(self._refused(status, content, request))
            if attempt < ATTEMPTS:
                with self._lock:
                    self.retries += 1
                rest(pause)
        raise BackendError(
            f"{self.url} did not answer after {ATTEMPTS} attempts (last: {trouble}). "
            "Run the same command again later: the answers so far are kept"
        )

    def _body(self, request):
        """All that is asked, as the API names it."""
        messages = [{"role": "system", "content": request.system}] if request.system else []
        body = {
            "model": self.name,
            "messages": [*messages, {"role": "user", "content": request.prompt}],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
        }
        if request.seed is not None:
            body["seed"] = request.seed
        if request.stop:
            body["stop"] = list(request.stop)
        if request.schema and not self.schema_refused:
            try:
                schema = json.loads(request.schema)
            except ValueError as error:
                raise SettingError(
                    f"the schema of a request is no JSON ({error}): {request.schema[:80]}"
                ) from error
            named = {"name": "answer", "schema": schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        return body

    def _send(self, create, body) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of what came back; status 0 and the reason where nothing whole did."""
        import openai

        with self._lock:
            self.sent += 1
        try:
            response = create(**body, extra_headers=self._headers(openai.Omit())).http_response
        except openai.APIStatusError as error:
            response = error.response
        except openai.APIConnectionError as error:  # timeouts and bodies cut short are of this kind
            cause = error.__cause__ or error
            return 0, {}, f"{type(cause).__name__}: {cause}".encode()
        return response.status_code, response.headers, response.content

    def _headers(self, nothing):
        """The key, or explicitly ``nothing``, lest the package look for keys of its own in the environment.

        A connection serves one request: a server or proxy that answers twice would give the second copy to
        the next question, and the cache would keep it.
        """
        key = os.environ.get(self.api_key_env, "").strip()
        if not (key.isascii() and key.isprintable()):  # the HTTP library would print it in its error
            raise SettingError(f"the key in {self.api_key_env} has characters that no key has; set it again")
        return {"Authorization": f"Bearer {key}" if key else nothing, "Connection": "close"}

    def _keep_pace(self, rest):
        """Wait for this request's turn where a number a minute is set."""
        if self.requests_per_minute is None:
            return
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next_start)
            self._next_start = start + 60.0 / self.requests_per_minute
        if start > now:
            rest(start - now)

    def _count(self, answer, refused):
        with self._lock:
            self.tokens_in += answer.prompt_tokens
            self.tokens_out += answer.answer_tokens
            self.schema_refused |= refused

    def _limit(self) -> str | None:
        """The limit that is reached, as it was set."""
        if self.most_tokens is not None and self.tokens_in + self.tokens_out >= self.most_tokens:
            return f"most_tokens = {self.most_tokens:,}"
        if self.most_cost is not None and self.cost is not None and self.cost >= self.most_cost:
            return f"most_cost = {self.most_cost:g}"
        return None

    def _limit_said(self, answered, asked):
        cost = "" if self.cost is None else f", a cost of {self.cost:.6g}"
        return (
            f"{self._limit()} is reached: {self.tokens_in:,} tokens of prompts and {self.tokens_out:,} of "
            f"answers were spent{cost}, for {answered:,} of {asked:,} requests; raise the limit and run the "
            "same command again to go on, the answers so far are kept"
        )

    def _refused(self, status, content, request):
        """What to say of an answer that no repetition mends."""
        about = f" (asked about {request.about})" if request.about else ""
        said = f"{self.url} answered {self._status_said(status, content)}{about}"
        if status in (401, 403):
            return f"{said}; check the key in the environment: {self.api_key_env}"
        if status < 400:
            return f"{said}; no redirect is followed, for the key would travel: give the URL it leads to"
        return f"{said}; the model asked for is `{self.name}`"

    def _status_said(self, status, content):
        """Status and what was said with it; 401 and 403 may echo a part of the key."""
        text = "" if status < 400 or status in (401, 403) else self._without_key(content)
        return f"HTTP {status}: {text}" if text else f"HTTP {status}"

    def _without_key(self, content):
        text = " ".join(content.decode("utf-8", "replace").split())
        key = os.environ.get(self.api_key_env, "").strip()
        return (text.replace(key, "***") if key else text)[:200]


def _read(content, stop):
    """The answer in the body of one; where it is none, one of the errors that such a reading can raise."""
    found = json.loads(content)
    choices = found.get("choices")
    if not isinstance(choices, list):
        raise ValueError("it has no choices")
    choice = choices[0] if choices else {}
    text, finish = (choice.get("message") or {}).get("content"), choice.get("finish_reason")
    if finish in BROKEN_OFF:
        raise ValueError(f"it ended by `{finish}`")
    if not isinstance(text, str | None):
        raise ValueError(f"its content is a {type(text).__name__}, expected a text")
    usage = found.get("usage") or {}
    used = [usage.get(side) for side in ("prompt_tokens", "completion_tokens")]
    counts = [count if isinstance(count, int) else 0 for count in used]
    if finish == "content_filter" or (text is None and finish != LENGTH):
        return Answer("", *counts, REFUSED)
    text, stopped = cut(text or "", stop)  # no text, but cut: all tokens went into thinking aloud
    return Answer(text, *counts, LENGTH if finish == LENGTH and not stopped else STOP)
