"""The forms of an answer: one JSON object each, read from whatever a model wrote around it, or refused.

Whatever the text, reading it raises ``AnswerError`` or nothing.
"""

import json
import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from recbole_llm.errors import AnswerError
from recbole_llm.text.plain import clean

LONGEST = 100_000  # characters of an answer that are read
TRIES = 50  # opening braces from which an object is looked for
THOUGHT = "</think>"  # a reasoning model thinks aloud before it
_NUMBER = re.compile(r"^\d+\. ")  # of a line of a list


class Form(BaseModel):
    """What an answer must be: no field more, no field less."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @classmethod
    def schema_text(cls) -> str:
        """The JSON schema, as one line that is always the same."""
        return json.dumps(cls.model_json_schema(), sort_keys=True)

    def said(self) -> str:
        """The one text that the answer comes down to, visible characters on one line."""
        return clean(str(getattr(self, next(iter(type(self).model_fields)))))


def _words(longest):
    return Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=longest)]


class Passage(Form):
    """A text: a description, a profile, a summary."""

    text: _words(4000)


class Choice(Form):
    """One item named, and why."""

    item: _words(300)
    why: Annotated[str, StringConstraints(max_length=2000)] = ""

    def said(self) -> str:
        """The title, also where a whole line of the list was copied.

        >>> Choice(item='2. "Heat" | Genre: Crime. Id: 6.').said()
        'Heat'
        """
        return _NUMBER.sub("", super().said()).partition(" | ")[0].strip("\"' ")


class Verdict(Form):
    """Yes or no."""

    answer: Literal["yes", "no"]


def read(text: str, form: type[Form]) -> Form:
    """The first JSON object in ``text`` that is of the form, after what a reasoning model thought.

    Raises
    ------
    AnswerError
        If there is none.

    >>> read('Sure! {"answer": "yes"}', Verdict).answer
    'yes'
    """
    text = text.rpartition(THOUGHT)[2][:LONGEST]
    place, decoder = -1, json.JSONDecoder()
    for _ in range(TRIES):
        place = text.find("{", place + 1)
        if place < 0:
            break
        try:
            found, _ = decoder.raw_decode(text, place)
            answer = form.model_validate(found)
        except (ValidationError, ValueError, RecursionError):
            continue
        if answer.said():
            return answer
    asked = ", ".join(form.model_fields)
    raise AnswerError(
        f"expected a JSON object with {asked}, found {ascii(text[:80])}{'...' if len(text) > 80 else ''}"
    )


def written(text: str, form_schema: str | None) -> str:
    """``text`` in the form of a schema, as a model would have answered: its first required field says it.

    What is of that form already is left as it is.
    """
    if form_schema is None:
        return text
    required = json.loads(form_schema)["required"][0]
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and required in found:
        return text
    return json.dumps({required: text}, ensure_ascii=False)
