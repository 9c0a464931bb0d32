"""A chat server on this machine that fails as real ones do, by a plan, and counts all that it is asked."""

import json
import random
import socket
import threading
import time
from collections import Counter
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Each of these costs the client one more request, except the last.
FAULTS = ("busy", "busy until", "broken", "away", "silent", "cut", "torn", "closed", "twice")


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # with the usual 5, callers who come together wait a second at the door

    def handle_error(self, *_):
        """Clients hang up: they are here to do so."""


class FaultyServer:
    """Answers each prompt by ``say(prompt)`` where the plan has no fault; a word counts as a token.

    Parameters
    ----------
    rate : float
        Share of the requests that meet a fault.
    seed : int
        The fault of a request depends on this, its prompt and how often that was asked, not on who is first.
    silence_seconds : float
        How long a silent server thinks before it answers all the same.
    takes_schema : bool
        Whether ``response_format`` is accepted; if not, HTTP 400.

    Attributes
    ----------
    plan : list
        Of the next requests: a fault, None, or (status, headers, text); then chance decides.
    asked : list of (headers, body)
        Every request; names of headers in small letters.
    answered : Counter
        How often each prompt was answered to the end: what a hosted server would charge.
    met : Counter
        How often each fault has happened.
    most_at_once : int
        Requests that waited for their answers at the same time.
    """

    def __init__(self, rate=0.0, seed=0, silence_seconds=0.5, takes_schema=True, say=str.upper):
        self.rate, self.seed, self.say = rate, seed, say
        self.silence_seconds, self.takes_schema = silence_seconds, takes_schema
        self.plan, self.asked = [], []
        self.answered, self.met, self._times = Counter(), Counter(), Counter()
        self._lock, self._open, self.most_at_once = threading.Lock(), 0, 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # a client may keep the connection, and meet what is left in it
            disable_nagle_algorithm = True

            def do_POST(self):
                outer._serve(self)

            def log_message(self, *_):
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _serve(self, handler):
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        with self._lock:
            self.asked.append(({name.lower(): value for name, value in handler.headers.items()}, body))
            self._open += 1
            self.most_at_once = max(self.most_at_once, self._open)
            fault = self.plan.pop(0) if self.plan else self._fault(prompt)
            if isinstance(fault, str):
                self.met[fault] += 1
        if fault == "silent":
            time.sleep(self.silence_seconds)
        with self._lock:
            self._open -= 1  # before the answer: whoever has it may ask at once
        self._answer(handler, body, prompt, fault)

    def _fault(self, prompt):
        self._times[prompt] += 1
        chance = random.Random(f"{self.seed} {self._times[prompt]} {prompt}")
        return chance.choice(FAULTS) if chance.random() < self.rate else None

    def _answer(self, handler, body, prompt, fault):
        text = json.dumps(self.completion(body, prompt))
        if not isinstance(fault, str | None):
            self._write(handler, *fault)
        elif fault == "busy":
            self._write(handler, 429, {"Retry-After": "7"}, "")
        elif fault == "busy until":
            self._write(handler, 429, {"Retry-After": formatdate(time.time() + 30, usegmt=True)}, "")
        elif fault == "broken":
            self._write(handler, 500, {}, "<html>oops</html>")
        elif fault == "away":
            self._write(handler, 503, {}, '{"error": {"message": "no worker"}}')
        elif fault == "cut":  # whole for HTTP, not for JSON
            self._write(handler, 200, {}, text[: len(text) // 2])
        elif fault == "torn":  # less than was promised
            self._write(handler, 200, {"Content-Length": str(len(text))}, text[: len(text) // 2])
            self._hang_up(handler)
        elif fault == "closed":
            self._hang_up(handler)
        elif "response_format" in body and not self.takes_schema:
            self._write(handler, 400, {}, '{"error": {"message": "response_format is not supported"}}')
        else:
            with self._lock:
                self.answered[prompt] += 1
            self._write(handler, 200, {}, text, copies=2 if fault == "twice" else 1)

    def completion(self, body, prompt):
        words = self.say(prompt).split(" ")
        finish = "stop" if len(words) <= body["max_tokens"] else "length"
        text = " ".join(words[: body["max_tokens"]])
        return {
            "object": "chat.completion",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
            ],
            "usage": {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())},
        }

    @staticmethod
    def _write(handler, status, headers, text, copies=1):
        lines = {"Content-Type": "application/json", "Content-Length": str(len(text.encode()))} | headers
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        handler.wfile.write(f"HTTP/1.1 {status} So\r\n{head}\r\n{text}".encode() * copies)

    @staticmethod
    def _hang_up(handler):
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)
