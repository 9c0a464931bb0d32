"""A backend that answers from a function: for tests, and for answers that another program has."""

from collections.abc import Callable, Iterator, Sequence

from recbole_llm.llm.backend import LENGTH, STOP, Answer, Request, cut


class FakeBackend:
    """Answers by ``say(prompt)``; a word counts as a token.

    Attributes
    ----------
    asked : list of Request
        Every request so far.
    """

    is_llm = by_prompt = True

    def __init__(self, say: Callable[[str], str], name: str = "fake", revision: str = "1"):
        self.say, self.name, self.revision = say, name, revision
        self.asked: list[Request] = []

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answers in the order of the requests."""
        for number, request in enumerate(requests):
            self.asked.append(request)
            words = self.say(request.prompt).split(" ")
            text, stopped = cut(" ".join(words[: request.max_tokens]), request.stop)
            whole = stopped or len(words) <= request.max_tokens
            counts = len(request.prompt.split()), len(text.split())
            yield number, Answer(text, *counts, STOP if whole else LENGTH)
