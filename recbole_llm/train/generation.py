"""The stage ahead of training: from a data set to what a language model says of its items, users or sessions.

    recbole-llm generate items --dataset=ml-1m --backend=openai --llm=... --llm_url=http://localhost:8000/v1

Users are told by their training events alone, rows without their targets; the artifact says which event each text has
read last (``data/subjects.py``).
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from rich.console import Console

from ..config import PROPERTIES, literal, read_yaml, settings_from
from ..data.texts import ENCODER, encoder_of
from ..errors import DataError, SettingError
from ..llm import wording
from ..llm.extractive import ExtractiveBackend
from ..llm.generate import Tally
from ..llm.on_ray import Pool, RayBackend, RayEncoder
from ..text.artifact import build_artifact
from ..text.templates import read_columns
from .build import configured
from .questions import KINDS, Questions


@dataclass(frozen=True)
class Settings:
    """The keys of ``properties/llm.yaml``, where each has its meaning and its default."""

    backend: Literal["transformers", "openai", "recorded", "extractive"]
    llm: str | None
    llm_revision: str | None
    llm_url: str | None
    llm_file: str | None
    llm_file_key: str | None
    llm_file_answer: str | None
    fallback: Literal["extractive", "none"]
    cache: str
    max_tokens: int
    temperature: float
    top_p: float
    answer_seed: int | None
    tries: int
    llm_device: str
    llm_dtype: Literal["float32", "bfloat16", "float16", "8bit", "4bit"]
    batch_tokens: int
    concurrency: int
    timeout_seconds: float
    requests_per_minute: float | None
    most_tokens: int | None
    price_in: float | None
    price_out: float | None
    most_cost: float | None
    actors: int | None
    actor_cpus: float
    actor_gpus: float
    domain: str | None
    told: list
    title: str | None
    history: int
    parts: list
    view: str
    qualifier: str | None
    block: int
    join: Literal["merge", "update"]
    user_fields: list
    limit: int | None
    dry_run: bool
    vectors: bool


def run(kind, given):
    """Generate what a command line asks for; returns the artifact's folder, or None after a dry run."""
    if kind not in KINDS:
        raise SettingError(f"generate takes {', '.join(KINDS)}, found `{kind}`")
    defaults = read_yaml(PROPERTIES / "llm.yaml")
    own = defaults | {key: literal(value) for key, value in given.items() if key in defaults}
    s = settings_from(own, Settings)
    _check(s)
    config = configured({"model": "SASRec"} | {k: v for k, v in given.items() if k not in defaults})
    console = Console(highlight=False, soft_wrap=True)
    table = _items_of(config)
    asked = Questions(kind, s, config, table)
    fallback = ExtractiveBackend(asked.corpus) if s.fallback == "extractive" else None
    backend = fallback if s.backend == "extractive" and fallback else backend_of(s, asked.corpus)
    pool = Pool(s.actors, config["ray_address"], s.actor_cpus, s.actor_gpus) if s.actors else None
    if pool and backend.by_prompt:
        backend = RayBackend(backend, partial(backend_of, s, ()), pool)
    if s.dry_run:
        asked.preview(console)
        return None
    root = Path(config["artifact_path"]) / config["dataset"]
    texts = asked.answered(root, backend, fallback, console)
    if s.vectors:
        encoder = encoder_of(config, config["device"])
        if pool:
            encoder = RayEncoder(encoder, partial(encoder_of, _told_of(config), config["device"]), pool)
        vectors_of(texts, encoder, config, root)
    _say(console, texts, kind)
    return texts.directory


def backend_of(s, corpus):
    """What answers, by ``backend``; heavy libraries are loaded by the one that needs them."""
    if s.backend == "extractive":
        return ExtractiveBackend(corpus)
    if s.backend == "recorded":
        from ..llm.recorded import RecordedBackend

        return RecordedBackend(_needed(s, "llm_file"), s.llm_file_key, s.llm_file_answer, s.llm)
    if s.backend == "openai":
        from ..llm.server import ServerBackend

        return ServerBackend(
            _needed(s, "llm_url"),
            _needed(s, "llm"),
            s.llm_revision or "unknown",
            concurrency=s.concurrency,
            timeout_seconds=s.timeout_seconds,
            requests_per_minute=s.requests_per_minute,
            most_tokens=s.most_tokens,
            price_in=s.price_in,
            price_out=s.price_out,
            most_cost=s.most_cost,
        )
    from ..llm.local import LocalBackend

    return LocalBackend(
        _needed(s, "llm"),
        s.llm_revision,
        device=s.llm_device,
        compute_dtype=s.llm_dtype,
        batch_tokens=s.batch_tokens,
    )


def vectors_of(texts, encoder, config, root):
    """The artifact of the texts' vectors."""
    field = texts.directory.name.partition("@")[0]
    return build_artifact(
        root,
        f"{field}-texts",
        texts.by_token(),
        encoder,
        texts.template,
        config["text_dtype"],
        bool(config["show_progress"]),
    )


def _check(s):
    numbers = {"actors": s.actors, "tries": s.tries, "history": s.history, "block": s.block, "limit": s.limit}
    for key, number in numbers.items():
        if number is not None and number < 1:
            raise SettingError(f"{key} is {number}, expected 1 or more")
    if s.view not in wording.VIEWS and not s.qualifier:
        raise SettingError(
            f"view is `{s.view}`, expected one of {', '.join(wording.VIEWS)}, or a --qualifier that says what is asked"
        )
    if s.domain and s.domain not in wording.DOMAINS:
        raise SettingError(f"domain is `{s.domain}`, expected one of {', '.join(wording.DOMAINS)}")
    unknown = set(s.parts) - {"train", "valid", "test"}
    if unknown or not s.parts:
        raise SettingError(f"parts is {s.parts}, expected some of train, valid, test")


def _told_of(config):
    """The keys of the text encoder alone: a whole configuration is not sent to other machines."""
    return {key: config[key] for key in (*ENCODER, "trust_remote_code")}


def _needed(s, key):
    value = getattr(s, key)
    if value is None:
        raise SettingError(f"backend: {s.backend} needs --{key}; see properties/llm.yaml")
    return value


def _items_of(config):
    path = Path(config["data_path"]) / f"{config['dataset']}.item"
    if not path.is_file():
        raise DataError(f"no {path}: there is nothing to tell a language model of the items")
    return read_columns(path)


def _say(console, texts, kind):
    tally = Tally(known=0, **texts.manifest["coverage"])
    for line in tally.lines():
        console.print(f"  {line}", markup=False)
    made = texts.manifest["made_from"]
    if not made["is_llm"]:
        console.print(f"  no language model was asked: {made['backend']}", markup=False)
    if kind == "items":
        console.print(
            f"Train with them: --text_generated=\"{{'description': '{texts.directory}'}}\"", markup=False
        )
