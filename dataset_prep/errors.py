"""The one error of data preparation."""


class PrepError(ValueError):
    """Input that cannot be prepared; the message names the file, the line and the cure."""
