"""What every language model is to this house: requests in, answers out, as they come."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

from recbole_llm.errors import SettingError

STOP, LENGTH = "stop", "length"  # the model ended by itself or at a stop text; it was cut at max_tokens
REFUSED, ABSENT = "refused", "absent"  # no text: the model or a filter declined; nothing here can answer this


@dataclass(frozen=True)
class Request:
    """One question with all that its answer depends on.

    Attributes
    ----------
    prompt : str
        What a chat model is asked, or what another model goes on writing.
    system : str or None
        What a chat model is told beforehand; a model without such a role reads it before the prompt.
    max_tokens : int
        The answer is cut there.
    temperature : float
        0: the most likely token each time.
    top_p : float
        Sampling is from the most likely tokens that have this share together.
    seed : int or None
        Of the sampling; a request with a temperature needs one, so that it has one answer.
    stop : tuple of str
        The answer ends before the first of these.
    schema : str or None
        A JSON schema as text, which a server that can do so holds the answer to.
    about : str
        The token of the item or user that is asked about; no part of the question.
    facts : mapping of str to str
        What filled the prompt, by blank: for backends that read no prompts; no part of the question either.

    Raises
    ------
    SettingError
        If a number is out of range, or an answer would be left to chance.
    """

    prompt: str
    system: str | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: str | None = None
    about: str = field(default="", compare=False)
    facts: Mapping[str, str] = field(default_factory=dict, compare=False)

    def question(self) -> dict:
        """All that the answer of a language model depends on, for a cache's key."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.compare}

    @classmethod
    def of(cls, found: Mapping) -> "Request":
        """The request that ``asdict`` or ``question`` gave, as it comes back from JSON."""
        return cls(**found | {"stop": tuple(found["stop"])})

    def __post_init__(self):
        if self.max_tokens < 1:
            raise SettingError(f"max_tokens is {self.max_tokens}, expected 1 or more")
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise SettingError(
                f"temperature is {self.temperature} and top_p {self.top_p}, expected 0 or more, and up to 1"
            )
        if self.temperature and self.seed is None:
            raise SettingError(
                f"temperature is {self.temperature} without a seed: the answer would be another each time; set seed"
            )
        if "" in self.stop:
            raise SettingError("stop has an empty text, at which every answer would end; leave it out")


@dataclass(frozen=True)
class Answer:
    """What a model said: the text without its stop text, the tokens on both sides, and why it ended (see above)."""

    text: str
    prompt_tokens: int
    answer_tokens: int
    finish: str


class Backend(Protocol):
    """A language model.

    Attributes
    ----------
    name, revision : str
        What the answers come from; both stand beside every answer that is kept.
    is_llm : bool
        Whether the answers are a language model's; if not, reports say so.
    by_prompt : bool
        Whether an answer depends on what ``Request.question`` gives alone: then it is kept and never asked for again.
        What answers by ``about`` or ``facts`` costs nothing.
    """

    name: str
    revision: str
    is_llm: bool
    by_prompt: bool

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Yield ``(number of the request, its answer)`` as answers come, in any order; each number once.

        Raises
        ------
        BackendError
            If the model cannot answer; what was yielded before stays valid.
        """


def cut(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    r"""``text`` up to the first of the ``stop`` texts in it, and whether there was one.

    >>> cut("a title\nanother", ["\n", "an"])
    ('a title', True)
    """
    places = [place for place in (text.find(end) for end in stop) if place >= 0]
    return (text[: min(places)], True) if places else (text, False)
