"""RecBole's Config made strict, and the door at which it stops: ``settings_from`` fills a plain dataclass.

RecBole answers ``None`` for a misspelt key and ``eval``s what the command line says; here an unknown key is refused
with the nearest known one, and a value is a literal or a plain word.
"""

import ast
import dataclasses
import difflib
import os
import sys
import types
import typing
from pathlib import Path

import yaml
from recbole.config import Config as RecBoleConfig
from recbole.evaluator import metric_types
from recbole.utils import (
    ModelType,
    dataset_arguments,
    evaluation_arguments,
    general_arguments,
    training_arguments,
)

from .errors import SettingError, meant

PACKAGE = Path(__file__).resolve().parent
# A wheel carries them inside the package; in a checkout they stand beside it.
PROPERTIES = next(
    folder / "properties" for folder in (PACKAGE, PACKAGE.parent) if (folder / "properties").is_dir()
)
SHORT = {"-m": "--model", "-d": "--dataset"}  # RecBole's own short flags
VISIBLE = "CUDA_VISIBLE_DEVICES"
UNSET = "???"  # in a YAML: the user must set this key
# Keys that RecBole reads though none of its own lists or files names them.
UNLISTED = (
    *(
        "model",
        "dataset",
        "config_files",
        "nproc",
        "ip",
        "port",
        "world_size",
        "group_offset",
        "allow_pickle",
    ),
    *("reg_weight", "neg_sampling", "training_neg_sample_num", "item_attribute", "local_rank", "offset"),
)


class Config(RecBoleConfig):
    """RecBole's configuration with our ``properties/`` beneath it, strict keys and literal values.

    Raises
    ------
    SettingError
        If a key of the command line, of a file or of ``config_dict`` is known to nobody; names the nearest known one.
    """

    taken_up = False  # whether the weights will come from a checkpoint of this very run
    of_baselines = types.MappingProxyType({})  # what the data set's file says of models beside another one

    def __init__(self, model=None, dataset=None, config_file_list=None, config_dict=None):
        read_files(config_file_list or ())  # before RecBole, whose error is a traceback
        try:
            super().__init__(model, dataset, config_file_list, config_dict)
        except (
            NotImplementedError,
            TypeError,
            ValueError,
        ) as error:  # what RecBole says of topk, metrics, eval_args
            raise SettingError(f"RecBole refuses a config key: {error}") from error
        _refuse_unknown(self.external_config_dict, self._known_keys())
        self._load_what_is_needed()

    def _load_what_is_needed(self):
        """Load the times where events are put in order, which RecBole's own defaults leave out and then miss.

        Also the column that says which part an event belongs to.
        """
        columns = (self["load_col"] or {}).get("inter")
        in_order = self["MODEL_TYPE"] == ModelType.SEQUENTIAL or self["eval_args"].get("order") == "TO"
        if in_order and columns and self["benchmark_filename"] is None:
            needed = [self["TIME_FIELD"], *([self["split_column"]] if self["split_column"] else [])]
            more = [column for column in needed if column not in columns]
            self["load_col"] = self["load_col"] | {"inter": [*columns, *more]}

    def _known_keys(self):
        lists = (general_arguments, training_arguments, evaluation_arguments, dataset_arguments, UNLISTED)
        return set().union(*lists, self.internal_config_dict)

    def _load_cmd_line(self):
        return self._convert_config_dict(read_arguments(sys.argv[1:]))

    def _convert_config_dict(self, config_dict):
        return {key: literal(value) for key, value in config_dict.items()}

    def _load_internal_config_dict(self, model, model_class, dataset):
        own = defaults_of(model)
        # a model that wraps another one has that one's keys beneath its own
        inner = self.external_config_dict.get("backbone", own.get("backbone")) or model
        # a model of RecBole's that one of ours is called like has its own defaults, not those of ours
        super()._load_internal_config_dict(inner.removeprefix("RecBole-"), model_class, dataset)
        ours = read_yaml(PROPERTIES / "overall.yaml")
        ours |= defaults_of(inner) | own
        of_dataset = read_yaml(PROPERTIES / "dataset" / f"{dataset}.yaml")
        self.of_baselines = of_dataset.pop("baselines", {})
        # what was tuned for this model on this data set
        of_model = of_dataset.pop("models", {}).get(model, {})
        self.internal_config_dict.update(ours | of_dataset | of_model)

    def _set_default_parameters(self):
        metrics = self.final_config_dict["metrics"]
        check_metrics([metrics] if isinstance(metrics, str) else metrics)
        super()._set_default_parameters()

    def _init_device(self):
        """RecBole's, with ``gpu_id`` counted among the GPUs that Ray or the user made visible, where they chose any.

        CUDA reads the variable once, at its first call, and in a training of one process that is RecBole's own, within.
        What is put back afterwards is for the next ``Config`` and for new processes. Processes that train together
        have called CUDA before, each to take a GPU of its own.
        """
        visible, gpu_id = os.environ.get(VISIBLE), self.final_config_dict["gpu_id"]
        gpu_id = ",".join(map(str, gpu_id)) if isinstance(gpu_id, tuple) else str(gpu_id)
        self.final_config_dict["gpu_id"] = chosen_among(visible, gpu_id)
        super()._init_device()
        self.final_config_dict["gpu_id"] = gpu_id
        if visible is None:
            os.environ.pop(VISIBLE, None)
        else:
            os.environ[VISIBLE] = visible


def chosen_among(visible, gpu_id):
    """What CUDA is to see: the GPUs with the numbers ``gpu_id`` among those that are ``visible``, None if all are.

    Where it has none of these numbers, as when Ray gave GPU 1 of a node, what is visible stays.

    >>> chosen_among(None, "1"), chosen_among("2,3", "1"), chosen_among("1", "1"), chosen_among("2,3", "-1")
    ('1', '3', '1', '-1')
    """
    numbers = gpu_id.split(",")
    if visible is None or not all(number.isdigit() for number in numbers):  # RecBole takes "" and -1 for none
        return gpu_id
    names = visible.split(",")
    return ",".join(names[int(number)] for number in numbers if int(number) < len(names)) or visible


def settings_from(config, settings_class):
    """Fill the dataclass ``settings_class`` from ``config``.

    Raises
    ------
    SettingError
        If a field has no value (the message names the key and the class) or one of another type (the message names the
        value and what was expected).
    """
    hints = typing.get_type_hints(settings_class)
    values = {}
    for field in dataclasses.fields(settings_class):
        value = config[field.name]
        if value is None or value == UNSET:
            if field.default is not dataclasses.MISSING:
                continue
            if type(None) not in typing.get_args(hints[field.name]):
                raise SettingError(
                    f"config key `{field.name}` is not set, and {settings_class.__name__} has no default"
                )
            value = None
        values[field.name] = _checked(field.name, value, hints[field.name])
    return settings_class(**values)


def _checked(key, value, hint):
    """``value`` as ``hint`` wants it: an int may stand for a float, nothing else is bent."""
    if typing.get_origin(hint) is typing.Literal:
        allowed = typing.get_args(hint)
        if value not in allowed:
            raise SettingError(
                f"config key `{key}` is {value!r}, expected one of {', '.join(map(str, allowed))}"
            )
        return value
    wanted = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    plain = tuple(typing.get_origin(kind) or kind for kind in wanted)
    if float in plain and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, plain) or (isinstance(value, bool) and bool not in plain):
        names = " or ".join(kind.__name__ for kind in plain)
        raise SettingError(f"config key `{key}` is {value!r} ({type(value).__name__}), expected {names}")
    return value


def read_arguments(arguments):
    """The command line as a dict of strings: ``--key=value``, ``--key value``, or ``--key`` alone for True.

    ``-m`` and ``-d`` stand for ``--model`` and ``--dataset``.

    Raises
    ------
    SettingError
        If a word belongs to no key, or a key stands there twice with two values.
    """
    found, rest = {}, list(arguments)
    while rest:
        word = rest.pop(0)
        word = SHORT.get(word, word)
        if not word.startswith("--"):
            raise SettingError(f"`{word}` belongs to no key; write --key=value")
        key, has_value, value = word[2:].partition("=")
        if not has_value:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "True"
        if found.setdefault(key, value) != value:
            raise SettingError(f"--{key} is given twice, as {found[key]} and as {value}; give it once")
    return found


def check_metrics(names):
    """Refuse a metric that RecBole has not, with the nearest one that it has."""
    for name in names:
        if name.lower() not in metric_types:
            all_of_them = f"there are {', '.join(sorted(metric_types))}"
            raise SettingError(
                f"no metric is called {name}; {meant(name.lower(), metric_types, all_of_them)}"
            )


def read_files(paths):
    """The keys of YAML files, those of later files before those of earlier ones.

    Raises
    ------
    SettingError
        If there is no such file, or it holds no keys.
    """
    found = {}
    for path in map(Path, paths):
        if not path.is_file():
            raise SettingError(f"config_files: no file {path}; give paths of YAML files, with blanks between")
        found |= read_yaml(path)
    return found


def literal(value):
    """A string as the literal that it spells (number, list, dict, True, None); any other value as it is."""
    if not isinstance(value, str):
        return value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _refuse_unknown(given, known):
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean `{near[0]}`?" if near else "see properties/ for the keys there are"
            raise SettingError(f"unknown config key `{key}`; {hint}")


def defaults_of(model):
    """What ``properties/model/<model>.yaml`` says, over the file that it ``extends``; {} without one."""
    own = read_yaml(PROPERTIES / "model" / f"{model}.yaml")
    parent = own.pop("extends", None)
    return (defaults_of(parent) if parent else {}) | own


def read_yaml(path):
    """The keys of a YAML file; none where there is no such file.

    Raises
    ------
    SettingError
        If it is no YAML, or holds something else than keys with values.
    """
    if not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict | None):
        raise SettingError(
            f"{path} holds a {type(found).__name__}, expected lines such as `dropout: ...`, a key each"
        )
    return found or {}
