"""Film titles as one says them: GroupLens writes ``Matrix, The (1999)``, people say ``The Matrix``."""

import re

ARTICLES = "|".join(
    "The A An La Le Les L' El Los Las Lo Il I Gli Der Die Das Det De Den Het Een Ein Eine En Ett Un Une Una "
    "Uno O Os As".split()
)
_YEAR = re.compile(r"\s*\((\d{4})(?:[-–]\d{0,4})?\)(?:\s*\([A-Z]+\))?\s*$")
_TRAILING = re.compile(rf"(a\.k\.a\.\s+)?(\S.*), ({ARTICLES})", re.IGNORECASE)


def split_year(title):
    """Title without its year, and the year (empty where there is none).

    >>> split_year("Associate, The (L'Associe)(1982)")
    ("Associate, The (L'Associe)", '1982')
    """
    found = _YEAR.search(title)
    return (title[: found.start()], found[1]) if found else (title.strip(), "")


def in_order(title):
    """Title with the trailing article in front, inside parentheses too.

    >>> in_order("Star Maker, The (Uomo delle stelle, L')")
    "The Star Maker (L'Uomo delle stelle)"
    """
    parts = re.split(r"([()])", title)
    for place in range(0, len(parts), 2):
        text = parts[place]
        if found := _TRAILING.fullmatch(text.strip()):
            also, rest, article = found.groups()
            body = f"{also or ''}{article}{'' if article.endswith(chr(39)) else ' '}{rest}"
            parts[place] = body + (" " if text.endswith(" ") else "")
    return re.sub(r"\(\s+|\s+\)", lambda found: found[0].strip(), "".join(parts)).strip()
