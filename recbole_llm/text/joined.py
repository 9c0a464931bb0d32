"""All that is known of an item as one text, each part with its label: ``Title: The Matrix. Genre: Action, Drama.``.

What an item language model reads that makes one vector of an item; a vector for each field is in ``templates.py``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from recbole_llm.text.templates import ATTRIBUTES, TITLE_COLUMNS, Template, label

VERSION = 1
# MovieLens writes `Matrix, The (1999)`: a language model knows the film by the name that people say
_ARTICLE_BEHIND = re.compile(r"^(.*), (The|A|An|La|Le|Les|L'|Il|El|Los|Las|Das|Der|Die)(?= \(|$)(.*)$")


@dataclass(frozen=True)
class Joined:
    """Fields side by side; kept with an artifact, it writes the text of a new item in the very same way.

    Attributes
    ----------
    parts : tuple of Template
        In the order in which they are written.
    """

    parts: tuple[Template, ...]
    name: str = "joined"
    version: int = VERSION

    @classmethod
    def of(cls, parts: Sequence[Template]):
        """The fields of these templates as one."""
        return cls(tuple(parts))

    def texts(self, table: pd.DataFrame) -> dict[str, tuple[str, ...]]:
        """Token to its one text; ``()`` for an item of which nothing is known."""
        written = [(part, part.texts(table)) for part in self.parts]
        joined = {
            token: " ".join(filter(None, (_labelled(part, texts[token]) for part, texts in written)))
            for token in map(str, table.index)
        }
        return {token: (text,) if text else () for token, text in joined.items()}


def article_first(title: str) -> str:
    """``Matrix, The (1999)`` as ``The Matrix (1999)``; any other title as it is."""
    return _ARTICLE_BEHIND.sub(r"\2 \1\3", title).replace("L' ", "L'")


def _labelled(part, texts):
    text = " ".join(texts)
    if not text or part.name == ATTRIBUTES:  # whose columns have their labels
        return text
    (column,) = part.columns
    if column in TITLE_COLUMNS:
        return f"Title: {article_first(text)}."
    return f"{label(column)}: {text.rstrip('.')}."
