"""What every client of a server minds: an address without secrets, and how long the server asks to be left alone."""

import email.utils
import math
import time
import urllib.parse

from recbole_llm.errors import SettingError

LONGEST_WAIT_SECONDS = 60.0


def checked_url(url: str, key: str, api_key_env: str) -> str:
    """``url`` without a slash at its end, if it is one and holds no secret.

    Parameters
    ----------
    key : str
        What the setting is called, for the message.
    api_key_env : str
        The environment variable that holds the secret.

    Raises
    ------
    SettingError
        If it is no URL, or holds a user, a password or a query.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingError(f"{key} is `{parts.scheme}:...`, expected a URL such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.query:
        raise SettingError(
            f"{key} holds a user, password or query; these may be secrets. "
            f"Put the key into the environment variable {api_key_env}"
        )
    return url.rstrip("/")


def retry_after(header: str | None, otherwise: float) -> float:
    """Seconds that a server asks to wait, as a number or a date; at most a minute.

    >>> retry_after("3", 1.0), retry_after(None, 1.0), retry_after("soon", 1.0)
    (3.0, 1.0, 1.0)
    """
    if not header:
        return otherwise
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except ValueError:
            return otherwise
    return otherwise if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_WAIT_SECONDS)
