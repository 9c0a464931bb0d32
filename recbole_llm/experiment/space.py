"""What a search may vary; ``properties/sweep/<name>.yaml`` holds it, a key a line.

dropout: [0.1, 0.2, 0.3, 0.5]           one of these
learning_rate: {log: [1.0e-3, 1.0e-2]}  any number between, each power of ten as likely as the next
kappa: {uniform: [0, 10]}               any number between
n_experts: {int: [1, 8]}                any whole number from the first to the last
"""

import math
from dataclasses import dataclass, field

import numpy as np
import yaml

from ..config import PROPERTIES
from ..errors import SettingError
from ..train.keys import IDLE, MEASURED

RANGES = ("log", "uniform", "int")
KEYS = ("model", "keys", "like", "space", "over")  # of a file
TRIES = 50  # to draw settings that were not drawn before


@dataclass(frozen=True)
class Entry:
    """What a table of results has a line for.

    Attributes
    ----------
    name : str
        The name in the table.
    model : str
        The model that is trained.
    keys : dict
        Settings that all its trainings have.
    like : str or None
        A model whose data, size, optimiser and stopping it takes over, as a ``baseline`` does.
    space : dict
        What its search may vary; empty: it is not searched.
    over : str or None
        The entry that it wraps, and whose data, size, rows, optimiser and stopping it takes over.
    """

    name: str
    model: str
    keys: dict = field(default_factory=dict)
    like: str | None = None
    space: dict = field(default_factory=dict)
    over: str | None = None


def entry(name):
    """The ``Entry`` of ``properties/sweep/<name>.yaml``; where there is no such file the model itself, not searched.

    ``LLM4SBR-SRGNN`` is SRGNN with its keys and its space, wrapped as ``LLM4SBR.yaml`` says; ``over`` of that file is
    the key that names what is wrapped. Both are then searched with the same draws.

    Raises
    ------
    SettingError
        If the file has another key than ``KEYS``, or a space that is none.
    """
    found, words = _read(name), name.split("-")
    for place in range(len(words) - 1, 0, -1) if not found else ():
        wrapper, wrapped = ("-".join(part) for part in (words[:place], words[place:]))
        outer = _read(wrapper)
        if "over" in outer:
            inner = entry(wrapped)
            keys = inner.keys | outer.get("keys", {}) | {outer["over"]: inner.model}
            space = inner.space | outer.get("space", {})
            return Entry(name, outer.get("model", wrapper), keys, None, space, wrapped)
    return Entry(
        name, found.get("model", name), found.get("keys", {}), found.get("like"), found.get("space", {})
    )


def _read(name):
    """What ``properties/sweep`` says of a name; nothing where it has no file."""
    file = PROPERTIES / "sweep" / f"{name}.yaml"
    found = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    unknown = set(found) - set(KEYS)
    if unknown:
        raise SettingError(f"{file.name} has {', '.join(sorted(unknown))}; expected {', '.join(KEYS)}")
    check(found.get("space", {}))
    return found


def check(space):
    """Refuse what is neither a list of values nor a range, and keys in which the trials of a search must be alike."""
    fixed = [key for key in space if key in MEASURED | IDLE]
    if fixed:
        raise SettingError(
            f"the space has {', '.join(fixed)}, in which trials must be alike to be compared; give it as a key "
            "of the search"
        )
    for key, values in space.items():
        is_list = isinstance(values, list) and values
        is_range = isinstance(values, dict) and len(values) == 1 and next(iter(values)) in RANGES
        if is_range:
            kind, ends = next(iter(values.items()))
            numbers = isinstance(ends, list) and len(ends) == 2 and all(map(_is_number, ends))
            is_range = numbers and ends[0] <= ends[1] and (kind != "log" or ends[0] > 0)
            is_range = is_range and (kind != "int" or all(isinstance(end, int) for end in ends))
        if not is_list and not is_range:
            raise SettingError(
                f"the space of `{key}` is {values!r}, expected a list of values, or one of "
                "{log: [low, high]}, {uniform: [low, high]}, {int: [low, high]}, the last with whole ends"
            )


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def inside(space, point):
    """Whether ``point`` has a value of the space for each of its keys."""
    return all(key in point and _holds(values, point[key]) for key, values in space.items())


def _holds(values, value):
    if isinstance(values, list):
        return value in values
    ((_, (low, high)),) = values.items()
    return _is_number(value) and low <= value <= high


def draws(space, count, seed):
    """``count`` settings of a random search (James Bergstra and Yoshua Bengio, JMLR 2012), the first of them ``{}``.

    The first are the defaults, so that a search is never worse than they are. None stands there twice; a small space
    may give fewer than ``count``.
    """
    rng, found = np.random.default_rng(seed), [{}]
    for _ in range(TRIES * count):
        if len(found) >= count:
            break
        drawn = {key: _one_of(values, rng) for key, values in space.items()}
        if drawn not in found:
            found.append(drawn)
    return found if space else [{}]


def _one_of(values, rng):
    if isinstance(values, list):
        return values[int(rng.integers(len(values)))]
    ((kind, (low, high)),) = values.items()
    if kind == "int":
        return int(rng.integers(low, high + 1))
    if kind == "log":
        return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.3g}")
    return float(f"{rng.uniform(low, high):.3g}")
