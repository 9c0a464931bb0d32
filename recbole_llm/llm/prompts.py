"""Questions with blanks: a name and a version that stand beside every answer, what must be filled in, how to read back.

Change a word of a template and raise its version: answers to the old words are then not taken for answers to the new.
Whatever fills a blank is data that strangers wrote and is made harmless (``safety.py``) on its way into the prompt.
"""

import functools
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recbole_llm.errors import SettingError
from recbole_llm.llm import safety
from recbole_llm.llm.answers import Form, read
from recbole_llm.llm.backend import Request

NOTHING = "(none)"  # what a blank without text says: a gap would read as a mistake

harmless = functools.lru_cache(2**16)(safety.harmless)  # a title stands in many histories

Value = str | Sequence[str]  # one line, or a list of lines


@dataclass(frozen=True)
class Template:
    """A question.

    Attributes
    ----------
    name : str
    version : int
    text : str
        With a ``$word`` for every blank; ``$$`` is a dollar sign.
    system : str or None
        What a chat model is told beforehand; it has no blanks.
    form : type of Form, or None
        What the answer must be; None where any text will do.
    bullet : str
        What stands before each line of a list; ``{n}`` in it is the line's number, from 1.
    limit : int
        Characters of a line, at most.
    """

    name: str
    version: int
    text: str
    system: str | None = None
    form: type[Form] | None = None
    bullet: str = "- "
    limit: int = 400

    @property
    def label(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    @property
    def blanks(self) -> set[str]:
        """The names of what must be filled in."""
        return set(string.Template(self.text).get_identifiers())

    def fill(self, **values: Value) -> str:
        """The text with every blank filled, each value harmless: a string as one line, a list as a line for each.

        Raises
        ------
        SettingError
            If a blank has no value, or a value no blank; names all of them.
        """
        blanks = self.blanks
        missing, unknown = sorted(blanks - set(values)), sorted(set(values) - blanks)
        if missing or unknown:
            raise SettingError(
                f"prompt {self.label} needs {', '.join(sorted(blanks))}; "
                + "; ".join(
                    f"{what} {', '.join(names)}"
                    for what, names in (("missing:", missing), ("unknown:", unknown))
                    if names
                )
            )
        return string.Template(self.text).substitute(
            {blank: self._written(value) for blank, value in values.items()}
        )

    def _written(self, value):
        if isinstance(value, str):
            return harmless(value, self.limit) or NOTHING
        lines = filter(None, (harmless(line, self.limit) for line in value))
        return "\n".join(self.bullet.format(n=n) + line for n, line in enumerate(lines, 1)) or NOTHING

    def request(self, values: Mapping[str, Value], about: str = "", **options) -> Request:
        """The question filled in; ``options`` are those of a ``Request``, such as ``max_tokens``."""
        return Request(
            self.fill(**values),
            system=self.system,
            schema=self.form.schema_text() if self.form else None,
            about=about,
            facts=dict(values),
            **options,
        )

    def read(self, text: str) -> Form:
        """What an answer says.

        Raises
        ------
        AnswerError
            If it is not of this template's form.
        """
        return read(text, self.form)
