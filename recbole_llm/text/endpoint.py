"""Vectors from an OpenAI-compatible ``/embeddings`` server, by the standard library alone.

The key is read from the environment at the call. It stands in no setting, manifest, log or error; it is never
sent on to where a redirect points.
"""

import functools
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence

import numpy as np

from recbole_llm.errors import BackendError, SettingError
from recbole_llm.text.remote import LONGEST_WAIT_SECONDS, checked_url, retry_after

ATTEMPTS = 6


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are errors: urllib would repeat the Authorization header to any host."""

    def redirect_request(self, *_):
        return None


class EndpointEncoder:
    """An embedding model behind a server.

    Parameters
    ----------
    url : str
        Base URL, e.g. ``https://api.openai.com/v1``; without user, password or query.
    name : str
        The model as the server calls it.
    api_key_env : str
        Environment variable with the key; local servers need none.
    timeout_seconds : float
        Of one request.
    sleep : function of seconds
        Waits between attempts; tests pass their own.
    """

    pooling = None
    max_tokens = None

    def __init__(
        self,
        url: str,
        name: str,
        *,
        revision: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        batch_size: int = 64,
        timeout_seconds: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.url = checked_url(url, "endpoint", api_key_env)
        self.name = name
        self.revision = revision
        self.api_key_env = api_key_env
        self.batch_size = batch_size
        self.timeout_seconds = timeout_seconds
        self.retries = 0  # made so far, over all requests
        self._sleep = sleep

    @functools.cached_property
    def dimension(self) -> int:
        """D, the width of a vector; asks the server once."""
        return self.encode(["width"]).shape[1]

    def describe(self) -> dict:
        """All that the vectors depend on, as far as a client can know."""
        return {
            "name": self.name,
            "revision": self.revision,
            "pooling": None,
            "max_tokens": None,
            "endpoint": self.url,
        }

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(n, D) float32, row by row with ``texts``; asked in batches, each again where that can help.

        Raises
        ------
        BackendError
            If the server refuses, stays away after all attempts, or answers with something else than vectors.
        """
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        batches = [texts[first : first + self.batch_size] for first in range(0, len(texts), self.batch_size)]
        return np.concatenate([self._read(self._ask(list(batch)), len(batch)) for batch in batches])

    def _ask(self, texts):
        """The body of the server's answer; 429, 5xx, timeouts and broken connections are tried again."""
        opener = urllib.request.build_opener(_NoRedirect)
        for attempt in range(1, ATTEMPTS + 1):
            wait = min(2.0 ** (attempt - 1), LONGEST_WAIT_SECONDS)
            try:
                with opener.open(self._request(texts), timeout=self.timeout_seconds) as answer:
                    return answer.read()
            except urllib.error.HTTPError as error:
                trouble = f"HTTP {error.code}"
                with error:  # it holds the connection
                    if error.code != 429 and error.code < 500:
                        raise BackendError(self._refused(error)) from None
                    wait = retry_after(error.headers.get("Retry-After"), wait)
            except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
                trouble = f"{type(error).__name__}: {getattr(error, 'reason', error)}"
            if attempt < ATTEMPTS:
                self.retries += 1
                self._sleep(wait)
        raise BackendError(
            f"{self.url} did not answer after {ATTEMPTS} attempts (last: {trouble}). "
            "Run the same command again later: finished batches are kept"
        )

    def _request(self, texts):
        headers = {"Content-Type": "application/json"}
        key = os.environ.get(self.api_key_env, "").strip()
        if key:
            if not (key.isascii() and key.isprintable()):  # http.client would print it in its error
                raise SettingError(
                    f"the key in {self.api_key_env} has characters that no key has; set it again"
                )
            headers["Authorization"] = f"Bearer {key}"
        body = json.dumps({"model": self.name, "input": texts, "encoding_format": "float"}).encode()
        return urllib.request.Request(f"{self.url}/embeddings", body, headers, method="POST")

    def _refused(self, error):
        """What to say of an answer that no repetition mends; bodies of 401 and 403 may echo the key."""
        if error.code in (401, 403):
            return (
                f"{self.url} answered HTTP {error.code}; check the key in the environment: {self.api_key_env}"
            )
        text = " ".join(error.read(2000).decode("utf-8", "replace").split())
        key = os.environ.get(self.api_key_env, "").strip()
        text = (text.replace(key, "***") if key else text)[:200]
        return f"{self.url} answered HTTP {error.code} for model `{self.name}`: {text}"

    def _read(self, body, number):
        """(n, D) from the JSON of an answer, in the order of the question."""
        try:
            data = sorted(json.loads(body)["data"], key=lambda row: row["index"])
            vectors = np.array([row["embedding"] for row in data], dtype=np.float32)
            indices = [row["index"] for row in data]
        except (ValueError, KeyError, TypeError) as error:
            raise BackendError(
                f"{self.url} answered without vectors ({type(error).__name__}: {error})"
            ) from error
        if vectors.ndim != 2 or indices != list(range(number)):
            raise BackendError(f"{self.url} answered with shape {vectors.shape} for {number} texts")
        return vectors
