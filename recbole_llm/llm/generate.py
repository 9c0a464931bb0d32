"""Questions in, texts out: each asked once, every answer kept as it comes, what cannot be used replaced and counted.

A run that was killed goes on where it was: what was answered stands in the cache. Nothing is left out silently; at the
end the ``Tally`` says what became of every question.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from recbole_llm.errors import AnswerError
from recbole_llm.llm.backend import ABSENT, LENGTH, REFUSED, Backend, Request
from recbole_llm.llm.cache import Cache
from recbole_llm.llm.prompts import Template

# the temperature at which an unreadable answer is asked for again: at 0 it would come back as it was
WARMER = 0.7


@dataclass(frozen=True)
class Given:
    """What became of one question.

    Attributes
    ----------
    about : str
    text : str
        Empty where there is no answer.
    source : {"backend", "fallback", "nothing"}
    answer : dict
        The whole answer in its form, of which ``text`` is the gist.
    fault : str
        Why the model's own answer could not be used.
    """

    about: str
    text: str
    source: str
    answer: dict = field(default_factory=dict)
    fault: str = ""


@dataclass
class Tally:
    """What became of all questions, and what they cost.

    Attributes
    ----------
    questions : int
        As many as were given; ``distinct`` of them differ, ``known`` of these were in the cache.
    answered, fallback, nothing : int
        Questions with a usable answer of the model, with one of the fallback, without any.
    refused, absent, unreadable, cut : int
        Why a model's answer was not used; ``cut`` are unreadable because they reached ``max_tokens``.
    prompt_tokens, answer_tokens : int
        Of the distinct questions, known ones included.
    """

    questions: int = 0
    distinct: int = 0
    known: int = 0
    answered: int = 0
    fallback: int = 0
    nothing: int = 0
    refused: int = 0
    absent: int = 0
    unreadable: int = 0
    cut: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0

    def __add__(self, other):
        return Tally(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def lines(self) -> list[str]:
        """The coverage report, a line for each figure that is not 0, with its share of the questions."""
        named = {
            "answered": "answered",
            "fallback": "answered by the fallback",
            "nothing": "without any answer",
            "refused": "refused",
            "absent": "not in what was recorded",
            "unreadable": "unreadable",
            "cut": "cut at max_tokens and unreadable",
        }
        counts = [(words, getattr(self, name)) for name, words in named.items() if getattr(self, name)]
        return [
            f"{self.questions:,} questions, {self.distinct:,} of them distinct, {self.known:,} known before",
            *(f"{count:,} ({count / self.questions:.1%}) {words}" for words, count in counts),
            f"{self.prompt_tokens:,} tokens read, {self.answer_tokens:,} written",
        ]


def generate(
    requests: Sequence[Request],
    template: Template,
    backend: Backend,
    cache: Cache,
    *,
    fallback: Backend | None = None,
    tries: int = 2,
    progress: "Asking | None" = None,
) -> tuple[list[Given], Tally]:
    """What each request was given, in their order, and the tally.

    Parameters
    ----------
    requests : sequence of Request
        What ``template.request`` gives.
    fallback : Backend, optional
        Answers what the backend could not; it is not cached.
    tries : int
        How often an unreadable answer is asked for, each time warmer than at first and with another seed.

    Raises
    ------
    BackendError
        If the backend cannot go on; all answers so far are kept.
    """
    tally = Tally(len(requests), len(set(map(_identity, requests))))
    found, faults, waiting = {}, {}, list(range(len(requests)))
    progress = progress or Asking(None)
    with progress.over(template.label, len(requests)):
        for attempt in range(tries if backend.by_prompt else 1):
            asked = [_again(requests[number], attempt) for number in waiting]
            if backend.by_prompt:
                tally.known += cache.known(asked, backend, template.label)
            unreadable, counted = [], set()
            for place, answer in cache.complete(asked, backend, template.label):
                number = waiting[place]
                identity = _identity(asked[place])
                if identity not in counted:
                    counted.add(identity)
                    tally.prompt_tokens += answer.prompt_tokens
                    tally.answer_tokens += answer.answer_tokens
                if answer.finish in (REFUSED, ABSENT):
                    faults[number] = (answer.finish, "")
                    continue
                try:
                    found[number] = template.read(answer.text)
                    progress.advance(tally, getattr(backend, "cost", None))
                except AnswerError as error:
                    faults[number] = ("cut" if answer.finish == LENGTH else "unreadable", str(error))
                    unreadable.append(number)
            waiting = sorted(unreadable)
            if not waiting:
                break
    given = _settled(requests, template, found, faults, fallback)
    kinds = Counter(faults[number][0] for number in faults if number not in found)
    sources = Counter(one.source for one in given)
    tally.answered, tally.fallback, tally.nothing = (
        sources[kind] for kind in ("backend", "fallback", "nothing")
    )
    tally.refused, tally.absent = kinds[REFUSED], kinds[ABSENT]
    tally.unreadable, tally.cut = kinds["unreadable"], kinds["cut"]
    return given, tally


def _settled(requests, template, found, faults, fallback):
    """A ``Given`` for every request: the model's answer, else the fallback's, else nothing."""
    left = [number for number in range(len(requests)) if number not in found]
    instead = {}
    if fallback is not None and left:
        for place, answer in fallback.complete([requests[number] for number in left]):
            with suppress(AnswerError):  # then there is nothing
                instead[left[place]] = template.read(answer.text)
    given = []
    for number, request in enumerate(requests):
        kind, words = faults.get(number, ("", ""))
        fault = "" if number in found else ": ".join(filter(None, (kind, words)))
        answer = found.get(number) or instead.get(number)
        source = "backend" if number in found else "fallback" if answer else "nothing"
        said, whole = (answer.said(), answer.model_dump()) if answer else ("", {})
        given.append(Given(request.about, said, source, whole, fault))
    return given


def _again(request, attempt):
    """The request of a later attempt: warmer, and with a seed of its own."""
    if not attempt:
        return request
    return replace(request, temperature=max(request.temperature, WARMER), seed=(request.seed or 0) + attempt)


def _identity(request):
    """A request without what it is about: equal ones have one answer."""
    return (*request.question().values(),)


class Asking:
    """Shows how far the questions are; None as console shows nothing."""

    def __init__(self, console: Console | None):
        self.console, self.bar = console, None

    def over(self, name, total):
        """A progress bar over so many questions, as a context."""
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=self.console is None,
        )
        self.task = self.bar.add_task(name, total=total, said="")
        return self.bar

    def advance(self, tally, cost):
        """One more is answered; ``tally`` holds the tokens so far, ``cost`` the money spent where prices are known."""
        speed = self.bar.tasks[0].speed or 0.0
        said = f"{speed:.1f}/s, {tally.prompt_tokens + tally.answer_tokens:,} tokens"
        said += "" if cost is None else f", cost {cost:.4g}"
        self.bar.update(self.task, advance=1, said=said)
