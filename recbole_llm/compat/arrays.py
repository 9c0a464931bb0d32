"""What NumPy 2 took away, and what PyTorch 2.4 began to warn about."""

from functools import partial

import numpy as np
import torch
from recbole.config import Config
from recbole.trainer import trainer

from .patching import stand_in, wrap

# What RecBole's `Config.compatibility_settings` sets, by the types that those names stood for.
NUMPY_ALIASES = {
    "bool": np.bool_,
    "int": np.int_,
    "float": np.float64,
    "complex": np.complex128,
    "object": np.object_,
    "str": np.str_,
    "long": np.int_,
    "unicode": np.str_,
}


def set_numpy_aliases():
    """``np.float``, ``np.int`` ... where NumPy lacks them; metrics and datasets read them (#1604, #2215)."""
    for name, scalar_type in NUMPY_ALIASES.items():
        if name not in vars(np):  # hasattr would trip NumPy's own warning about the old name
            setattr(np, name, scalar_type)


def keep_numpy_aliases_missing_only():
    """Stop `Config` from reading ``np.float_`` and ``np.unicode_``, gone in NumPy 2 (#2203, #2215)."""
    wrap(Config, "compatibility_settings", lambda original: lambda self: set_numpy_aliases())


def use_current_amp():
    """``torch.amp`` instead of ``torch.cuda.amp``, which warns in every epoch since PyTorch 2.4."""
    stand_in(
        trainer,
        "amp",
        GradScaler=partial(torch.amp.GradScaler, "cuda"),
        autocast=partial(torch.amp.autocast, "cuda"),
    )
