"""The keys of HierLLMRec, and which of them go together."""

from dataclasses import dataclass
from typing import Literal

from ..errors import SettingError
from .encoders import BlockSettings
from .ranges import COUNT, NOT_NEGATIVE, POSITIVE, RATE, SHARE, check_ranges
from .rec_llm import CAUSAL

LIVE = ("lora", "full")  # ways in which the Item LLM itself learns
SCRATCH = ("transformer", "sasrec")  # Recommendation LLMs that are built here
PRETRAINED = ("decoder", "t5_encoder")


@dataclass(frozen=True)
class Settings(BlockSettings):
    """The keys of ``properties/model/HierLLMRec.yaml``, where each has its meaning and its default."""

    item_llm_mode: Literal["frozen", "table", "lora", "full"]
    pool_item: Literal["mean", "last", "cls", "item_token"]
    whiten: Literal["none", "pca", "relaxed", "full"]
    whiten_dim: int
    table_spread: float
    input_dropout: float
    rec_llm: Literal["transformer", "sasrec", "decoder", "t5_encoder", "none"]
    rec_llm_path: str | None
    rec_llm_mode: Literal["full", "lora", "frozen"]
    rec_init: Literal["pretrained", "random"]
    llm_learning_rate: float
    lora_rank: int
    lora_alpha: float
    lora_dropout: float
    lora_targets: str | list
    llm_recompute: bool
    pool_user: Literal["mean", "last", "attention"]
    head: Literal["embed", "classifier", "tied"]
    score: Literal["cosine", "dot"]
    temperature: float
    loss: Literal["ce", "nce", "ssm", "gbce", "bce"]
    negatives: Literal["shared", "row", "batch"]
    n_negatives: int
    nce_thres: float
    gbce_calibration: float


RANGES = {
    "whiten_dim lora_rank hidden_size n_layers n_heads inner_multiplier n_negatives": COUNT,
    "input_dropout lora_dropout dropout attention_dropout": RATE,
    "gbce_calibration": SHARE,
    "lora_alpha table_spread": POSITIVE,
    "temperature": (lambda number: 0.01 <= number <= 1, "from 0.01 to 1, between which it is learned"),
    "llm_learning_rate nce_thres": NOT_NEGATIVE,
}


def check(s, dense):
    """Refuse settings that cannot be or that contradict each other, each in one sentence."""
    check_ranges(s, RANGES)
    if s.rec_llm in SCRATCH and (s.hidden_size % s.n_heads or s.hidden_size // s.n_heads % 2):
        raise SettingError(
            f"hidden_size {s.hidden_size} must be a multiple of n_heads {s.n_heads}, each head of even size"
        )
    if dense and s.rec_llm not in CAUSAL:
        raise SettingError(
            f"rec_llm: {s.rec_llm} reads a history as a whole, so that with train_rows: dense a position would see its "
            "own target; set train_rows: prefix"
        )
    if s.rec_llm_path and s.rec_llm not in PRETRAINED:
        raise SettingError(
            f"rec_llm_path names a language model, but rec_llm: {s.rec_llm} is none; set rec_llm: decoder or "
            "t5_encoder"
        )
    if s.rec_llm in PRETRAINED and not s.rec_llm_path:
        raise SettingError(
            f"rec_llm: {s.rec_llm} needs rec_llm_path, the folder or hub id of a language model"
        )
    if s.rec_llm_mode != "full" and s.rec_llm not in PRETRAINED:
        raise SettingError(
            f"rec_llm_mode: {s.rec_llm_mode} is for a pretrained model, but rec_llm is {s.rec_llm}; set full"
        )
    if s.rec_llm_mode == "frozen" and s.rec_init == "random":
        raise SettingError(
            "rec_init: random with rec_llm_mode: frozen would never learn; set one of the two otherwise"
        )
    learns_words = s.rec_llm in PRETRAINED and s.rec_llm_mode != "frozen"
    if s.llm_recompute and s.item_llm_mode not in LIVE and not learns_words:
        raise SettingError(
            "llm_recompute: True has nothing to make anew, for no language model learns here (item_llm_mode: "
            f"{s.item_llm_mode}, rec_llm: {s.rec_llm}, rec_llm_mode: {s.rec_llm_mode}); set it to False"
        )
    if s.item_llm_mode in LIVE and s.loss == "ce":
        raise SettingError(
            f"item_llm_mode: {s.item_llm_mode} would read every item's text at every step for loss: ce; set loss: nce"
        )
    if s.pool_item == "item_token" and s.item_llm_mode not in LIVE:
        raise SettingError(
            f"pool_item: item_token is learned, but item_llm_mode is {s.item_llm_mode}; set it to lora or full"
        )
    if s.pool_item != "mean" and s.item_llm_mode not in LIVE:
        raise SettingError(
            f"pool_item: {s.pool_item} is for item_llm_mode: lora or full, and the vectors of {s.item_llm_mode} are "
            f"made ahead of training; set text_pooling: {s.pool_item}"
        )
    if s.loss == "nce" and (s.score != "cosine" or s.negatives == "row"):
        raise SettingError(
            "loss: nce compares cosines with negatives of the batch; set score: cosine, negatives: shared"
        )
    if s.head == "classifier" and s.score == "cosine":
        raise SettingError(
            "head: classifier scores by a product and a bias, of which a cosine would leave next to nothing; set "
            "score: dot, or head: embed or tied"
        )
    if s.negatives == "batch" and s.loss in ("gbce", "bce", "nce"):
        raise SettingError(
            f"negatives: batch needs the log Q correction of loss: ssm, found loss: {s.loss}; set negatives: shared"
        )
