"""Encoders: texts to vectors, by a local model or an embedding server.

`make_encoder` chooses by name. An encoder says of itself all that its vectors depend on (`describe`), which
enters the content key of every artifact it makes. Encoders load their model at the first text, so that asking
for an artifact that is already there costs nothing.
"""

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from recbole_llm.errors import SettingError
from recbole_llm.text.endpoint import EndpointEncoder
from recbole_llm.text.huggingface import SentenceTransformerEncoder, TransformersEncoder, read_recipe
from recbole_llm.text.location import DEFAULT_MODEL, locate

__all__ = [
    "DEFAULT_MODEL",
    "Encoder",
    "EndpointEncoder",
    "SentenceTransformerEncoder",
    "TransformersEncoder",
    "make_encoder",
]

POOLINGS = ("mean", "cls", "last")
COMPUTE_DTYPES = ("float32", "bfloat16", "float16")


class Encoder(Protocol):
    """What artifacts need of an encoder."""

    name: str
    batch_size: int  # texts that are lost at most when a run is killed

    @property
    def revision(self) -> str | None:
        """Commit or content hash of the weights; None where a server does not tell."""

    @property
    def pooling(self) -> str | None:
        """How token vectors become one: mean, cls or last; None where the model or server decides."""

    @property
    def dimension(self) -> int:
        """D, the width of a vector."""

    def describe(self) -> dict:
        """All that the vectors depend on, as plain JSON values."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(n, D) float32, row by row with ``texts``."""


def make_encoder(
    name: str = DEFAULT_MODEL,
    *,
    pooling: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    device: str = "cpu",
    batch_size: int = 64,
    max_tokens: int | None = None,
    endpoint: str | None = None,
    api_key_env: str = "OPENAI_API_KEY",
    compute_dtype: str = "float32",
) -> Encoder:
    """An encoder by the name of its model; nothing is loaded yet.

    Parameters
    ----------
    name : str
        A folder, a Hugging Face id, or the model name that ``endpoint`` knows.
    pooling : {None, "mean", "cls", "last"}
        None takes what a sentence-transformers model says of itself, and the mean for any other.
    revision : str, optional
        Commit or branch of a Hugging Face id. A folder is known by the hash of its files instead.
    trust_remote_code : bool
        Run code that comes with the model; only together with a revision of 40 hexadecimal digits.
    max_tokens : int, optional
        Longer texts are cut; by default what the model says, at most 512 where it says nothing of sentences.
    endpoint : str, optional
        Base URL of an OpenAI-compatible server, e.g. ``http://localhost:8000/v1``.
    api_key_env : str
        The environment variable that holds the key of ``endpoint``; the key itself is never a setting.
    compute_dtype : {"float32", "bfloat16", "float16"}
        Number format in which a local model computes.

    Raises
    ------
    SettingError
        If a value cannot be used, or remote code is asked for without a fixed revision.
    BackendError
        If the model cannot be found; says what to install.
    """
    _check_choice("pooling", pooling, (None, *POOLINGS))
    _check_choice("compute_dtype", compute_dtype, COMPUTE_DTYPES)
    if batch_size < 1 or (max_tokens is not None and max_tokens < 1):
        raise SettingError(f"batch_size is {batch_size} and max_tokens {max_tokens}, expected 1 or more")
    if trust_remote_code and not re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        raise SettingError(
            f"trust_remote_code is on and revision is `{revision}`, expected a commit of 40 hexadecimal "
            "digits: code that can change overnight is not run. Set revision, or switch trust_remote_code off"
        )
    if endpoint is not None:
        if pooling is not None or max_tokens is not None:
            raise SettingError(
                f"pooling is {pooling} and max_tokens is {max_tokens}, but the server at `endpoint` decides "
                "both; leave them out"
            )
        return EndpointEncoder(
            endpoint, name, revision=revision, api_key_env=api_key_env, batch_size=batch_size
        )
    location = locate(name, revision, trust_remote_code)
    recipe = read_recipe(location.folder)
    options = {
        "device": device,
        "batch_size": batch_size,
        "max_tokens": max_tokens,
        "compute_dtype": compute_dtype,
    }
    if pooling is None and not recipe.is_plain:
        return SentenceTransformerEncoder(location, **options)
    return TransformersEncoder(
        location, pooling=pooling or recipe.pooling, normalise=recipe.normalise, **options
    )


def _check_choice(key, value, choices):
    if value not in choices:
        raise SettingError(f"{key} is `{value}`, expected one of {', '.join(map(str, choices))}")
