"""What the keys of a run may be: those of ``properties/overall.yaml``, and of RecBole's the ones it takes unchecked."""

from dataclasses import dataclass
from typing import Literal

from recbole.utils import ModelType

from ..config import settings_from
from ..errors import SettingError, meant

LEARNERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam")


@dataclass(frozen=True)
class RunSettings:
    """The keys of ``properties/overall.yaml`` that no other room checks, with their types; the meanings are there."""

    saved: bool
    refit: bool
    allow_pickle: bool
    history_as_offsets: bool
    train_rows: Literal["prefix", "dense"]
    window_shift: bool
    window_overlap: int
    no_repeats: bool
    use_query_time: bool
    legacy_mrr: bool
    cold_by: Literal["popularity", "newest"]
    mask_history: bool
    warmup_steps: int
    learning_rate_end: float
    text_missing: Literal["mask", "error"]
    text_max_tokens: int
    text_batch_size: int
    trust_remote_code: bool
    epochs: int
    eval_step: int
    stopping_step: int
    train_batch_size: int
    eval_batch_size: int
    learning_rate: float
    seed: int
    device_threads: int | None = None
    valid_users: int | None = None
    cold_share: float | None = None
    shorten_histories: list | None = None
    disturb_histories: list | None = None
    average_decay: float | None = None
    learning_rate_tenth: int | None = None
    baseline: str | None = None
    split_column: str | None = None


def check(config):
    """Refuse values that nothing could be done with.

    Raises
    ------
    SettingError
        It says what was found, what was expected, and what comes near.
    """
    settings = settings_from(config, RunSettings)
    for key in ("epochs", "train_batch_size", "eval_batch_size", "text_batch_size", "text_max_tokens"):
        if getattr(settings, key) < 1:
            raise SettingError(f"config key `{key}` is {getattr(settings, key)}, expected 1 or more")
    if not 0 <= settings.seed < 2**32:  # NumPy's bounds
        raise SettingError(f"config key `seed` is {settings.seed}, expected 0 or more and less than 2**32")
    if settings.average_decay is not None and not 0 <= settings.average_decay < 1:
        raise SettingError(
            f"config key `average_decay` is {settings.average_decay}, expected from 0 to less than 1"
        )
    if settings.learning_rate_tenth is not None and settings.learning_rate_tenth < 1:
        raise SettingError(
            f"config key `learning_rate_tenth` is {settings.learning_rate_tenth}, expected 1 or more epochs, or None"
        )
    if settings.cold_share is not None and not 0 < settings.cold_share < 1:
        raise SettingError(
            f"config key `cold_share` is {settings.cold_share}, expected more than 0 and less than 1"
        )
    for length in settings.shorten_histories or ():
        if not isinstance(length, int) or length < 1:
            raise SettingError(
                f"config key `shorten_histories` has {length!r}, expected lengths of 1 or more"
            )
    for share in settings.disturb_histories or ():
        if not isinstance(share, int | float) or not 0 < share <= 1:
            raise SettingError(
                f"config key `disturb_histories` has {share!r}, expected shares of more than 0 and at most 1"
            )
    is_sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    if is_sequential and config["eval_args"]["order"] != "TO" and not config["split_column"]:
        raise SettingError(
            f"eval_args has order {config['eval_args']['order']}, but {config['model']} predicts what comes next; "
            "set order to TO, the order of time"
        )
    _one_of("learner", str(config["learner"]).lower(), LEARNERS)
    name, at, k = str(config["valid_metric"]).lower().partition("@")
    _one_of("valid_metric", name, [metric.lower() for metric in config["metrics"]])
    if at:
        _one_of("valid_metric", f"{name}@{k}", [f"{name}@{known}" for known in config["topk"]])


def _one_of(key, value, known):
    if value not in known:
        raise SettingError(f"config key `{key}` has {value!r}; {meant(value, known)}")
