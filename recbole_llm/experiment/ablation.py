"""What each part of a model is worth: the full model without it, the plain one with it alone, and controls.

    recbole-llm ablate --model=LLMSeqRec --datasets=ml-100k --seeds=2020,2021,2022 [--switches=text,controls]

``properties/ablation/<Model>.yaml`` has the switches. All are trained with the full model's settings, those of the
command line among them, but for the keys that a switch sets; the page is a benchmark's, with the full model's
difference from each.
"""

from dataclasses import replace

import yaml

from ..config import PROPERTIES
from ..errors import SettingError, meant
from ..model import get_model
from ..text.location import is_here
from ..train.build import configure
from . import plan as plans
from .plan import words
from .space import Entry

OF_BENCHMARK = ("models", "trials", "strong", "ours")
KINDS = ("parts", "variants", "controls", "text_encoders")
BETWEEN = "between"  # in a file: pairs of switches that are compared with each other
OF_ENCODER = ("text_revision", "text_pooling", "text_endpoint")  # made for the full model's, and for no other


def plan_from(given):
    """The ``plan.Plan`` that a command line asks for.

    ``switches`` names some of the model's, or kinds of them (parts, alone, variants, controls, text_encoders, fields);
    without it all are taken but those that the full model has already, by the data sets' files or by the command line.
    Text encoders that are not on this machine are taken only by name.

    Raises
    ------
    SettingError
        If the model has no switches, none of that name, or has what one asked for by name sets; if a key is a
        benchmark's alone.
    """
    given = dict(given)
    for key in OF_BENCHMARK:
        if key in given:
            raise SettingError(f"{key} is a benchmark's; an ablation takes one --model, and searches nothing")
    model = given.pop("model", "LLMSeqRec")
    file = PROPERTIES / "ablation" / f"{model}.yaml"
    if not file.is_file():
        get_model(model)  # which says what comes near
        known = ", ".join(sorted(path.stem for path in file.parent.glob("*.yaml")))
        raise SettingError(f"{model} has no switches in properties/ablation; those of {known} are known")
    wanted = given.pop("switches", None)
    switches = yaml.safe_load(file.read_text(encoding="utf-8"))
    plan = plans.plan_from(given | {"models": model, "trials": "1", "strong": "False"})
    full = [configure(model, plan.shared | {"model": model, "dataset": dataset}) for dataset in plan.datasets]
    entries = entries_of(model, switches) | {"fields": _of_fields(model, full)}
    asked = words(wanted, "switches") if wanted is not None else ()
    at_hand = [one for one in _chosen(entries, asked) if one.name in asked or _at_hand(one, full)]
    chosen = (Entry(model, model), *_that_change(at_hand, full, asked))
    if asked and len(chosen) == 1:
        raise SettingError(
            f"switches is {wanted}, of which nothing is left: the full model has it, or it is no text encoder of this "
            "machine; name one"
        )
    trials = {one.name: 1 for one in chosen}
    between = tuple(pair for pair in map(tuple, switches.get(BETWEEN, ())) if {*pair} <= {*trials})
    return replace(plan, entries=chosen, trials=trials, switches=True, between=between)


def _at_hand(one, full):
    """Whether the text encoder that a switch names, if any, is on this machine and needs no keys of its own."""
    name = one.keys.get("text_encoder")
    return name is None or (is_here(name) and not any(config[key] for config in full for key in OF_ENCODER))


def _that_change(entries, full, asked):
    """Those that set another value than the full model's in one of its configurations, a data set each."""
    kept = [
        one for one in entries if any(config[key] != one.keys[key] for config in full for key in one.keys)
    ]
    left_out = [one.name for one in entries if one not in kept]
    if named := sorted(set(left_out) & set(asked)):
        raise SettingError(f"{', '.join(named)}: the full model has that already; leave it out of switches")
    return kept


def _of_fields(model, full):
    """Each text field alone, and all but each, where the data sets have the same fields and more than one."""
    fields = [config["text_fields"] for config in full]
    if len(fields[0] or ()) < 2 or any(other != fields[0] for other in fields):
        return []
    alone = [Entry(f"{field} alone", model, {"text_fields": [field]}) for field in fields[0]]
    rest = [
        Entry(f"without {field}", model, {"text_fields": [other for other in fields[0] if other != field]})
        for field in fields[0]
    ]
    if len(fields[0]) > 2:
        return alone + rest
    # to leave one of two out is to have the other alone
    return [
        left if left.name == "without reviews" else one
        for one, left in zip(alone, reversed(rest), strict=True)
    ]


def entries_of(model, switches):
    """The ``Entry`` of each switch, by kind; ``alone`` has the plain model and what is put back on it."""
    unknown = set(switches) - {*KINDS, BETWEEN}
    if unknown:
        raise SettingError(
            f"switches of {model} are of the kinds {', '.join(KINDS)}, found {', '.join(unknown)}"
        )
    parts = switches.get("parts", {})
    plain = {key: value for keys in parts.values() for key, value in keys.items()}
    found = {
        "parts": [Entry(f"without {name}", model, keys) for name, keys in parts.items()],
        "alone": [],
    }
    if len(parts) > 1:  # of a single part they would be the model without it, and the full one
        found["alone"].append(Entry("plain", model, plain))
        for name, keys in parts.items():
            rest = {key: value for key, value in plain.items() if key not in keys}
            found["alone"].append(Entry(f"{name} alone", model, rest))
    for kind in KINDS[1:]:
        found[kind] = [Entry(name, model, keys) for name, keys in switches.get(kind, {}).items()]
    return found


def _chosen(entries, asked):
    """Those that are asked for, by kind or by name, in the order of the file; all where none is."""
    everything = [one for of_kind in entries.values() for one in of_kind]
    if not asked:
        return everything
    unknown = set(asked) - set(entries) - {one.name for one in everything}
    if unknown:
        wrong, names = min(unknown), [*entries, *(one.name for one in everything)]
        raise SettingError(f"no switch is called {wrong}; {meant(wrong, names)}")
    return [one for kind, of_kind in entries.items() for one in of_kind if {kind, one.name} & set(asked)]
