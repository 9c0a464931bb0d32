"""The errors of the house: each message says what was found, what was expected and what to do."""

import difflib


class SettingError(KeyError):
    """A configuration key is unknown, missing or has a value that cannot be used."""

    def __str__(self):
        """The message itself: KeyError would show it in quotes, with line breaks escaped."""
        return str(self.args[0]) if self.args else ""


class DataError(ValueError):
    """A data set, or a file of one, is not what it should be."""


class ArtifactError(ValueError):
    """An artifact (vectors with tokens and manifest) is damaged, incomplete or of another data set."""


class AnswerError(ValueError):
    """An answer of a language model cannot be read."""


class BackendError(RuntimeError):
    """A backend (local model or server) cannot do what was asked of it."""


def meant(name, known, otherwise=None):
    """Which of the names ``known`` comes near ``name``; where none does ``otherwise``, or what they are."""
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else otherwise or f"expected one of {', '.join(known)}"
