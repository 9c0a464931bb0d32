"""Questions with blanks: a name and a version that stand beside every answer, and what must be filled in.

Change a word of a template and raise its version: answers to the old words are then not taken for answers to the new.
"""

import string
from dataclasses import dataclass

from recbole_llm.errors import SettingError


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
    """

    name: str
    version: int
    text: str
    system: str | None = None

    @property
    def label(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    def fill(self, **values: str) -> str:
        """The text with every blank filled.

        Raises
        ------
        SettingError
            If a blank has no value, or a value no blank; names all of them.
        """
        blanks = set(string.Template(self.text).get_identifiers())
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
        return string.Template(self.text).substitute(values)


TITLE_OF_ID = Template(
    "title_of_id",
    1,
    "Lines of the catalogue of the data set $dataset, each an id and a title. "
    "Complete the last line; write nothing else.\n$examples\n$id |",
)
REST_OF_TITLE = Template(
    "rest_of_title",
    1,
    "Titles of the data set $dataset, each cut in two by //. "
    "Complete the last line; write nothing else.\n$examples\n$begin //",
)
NEXT_OF_HISTORY = Template(
    "next_of_history",
    1,
    "Histories of users of the data set $dataset, titles in order of time, a user a line. "
    "Write the next title of the last line and nothing else.\n$examples\n$history |",
)
