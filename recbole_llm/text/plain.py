"""Plain text out of what strangers wrote: what a reader cannot see must not reach an encoder or a prompt."""

import html
import re
import unicodedata

MAX_CHARACTERS = 8000  # of one text; the longest encoders read about 8,000 tokens, the usual ones 256 or 512
_ROUNDS = 5  # of unescaping: entities escaped more than five times are left
_RAW_LIMIT = 2 * MAX_CHARACTERS  # cut before the patterns run, so that a hostile cell costs little
# Like a browser, a block without its end takes the rest: then no search can fail, and time stays linear.
_HIDDEN_BLOCK = re.compile(
    r"<(script|style)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)", re.IGNORECASE | re.DOTALL
)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
# Variation selectors, Hangul fillers and the grapheme joiner are letters or marks, yet draw nothing.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]")


def clean(text: str, limit: int = MAX_CHARACTERS) -> str:
    """Plain visible text on one line: no entities, tags, control, bidi or zero-width characters."""
    text = text[:_RAW_LIMIT]
    for _ in range(_ROUNDS):  # an entity may hide a tag, and a zero-width character may hide an entity
        before, text = text, html.unescape(_visible(text))
        text = _TAG.sub(" ", _HIDDEN_BLOCK.sub(" ", text))
        if text == before:
            break
    return " ".join(_visible(text).split())[:limit].rstrip()


def _visible(text):
    """``text`` in composed form, control characters as spaces, invisible ones left out."""
    text = _INVISIBLE.sub("", unicodedata.normalize("NFC", text))
    if text.isprintable():
        return text
    kinds = ((unicodedata.category(character), character) for character in text)
    return "".join(
        " " if kind == "Cc" else character for kind, character in kinds if kind not in ("Cf", "Cs")
    )
