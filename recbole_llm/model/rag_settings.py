"""The keys of RAGLLMRec, and which of them go together."""

from dataclasses import dataclass
from typing import Literal

from ..errors import SettingError
from . import hier_settings
from .hier_settings import LIVE
from .ranges import COUNT, POSITIVE, SHARE, check_ranges

OF_ITEMS = ("gated", "cross_attn", "prepend")
OF_SITUATIONS = ("memory", "knn_interp")


@dataclass(frozen=True)
class Settings(hier_settings.Settings):
    """The keys of ``properties/model/RAGLLMRec.yaml``, where each has its meaning and its default."""

    rag_fusion: Literal["gated", "cross_attn", "prepend", "memory", "knn_interp", "none"]
    rag_query: Literal["user", "mean_items", "last_item"]
    rag_top_k: int
    rag_similarity: Literal["cosine", "l2"]
    rag_agg: Literal["attn", "mean"]
    rag_control: Literal["none", "random"]
    exclude_history: bool
    query_items: int
    pool_ret: bool
    bank_size: int
    rebuild_every: int
    memory_alpha: float
    memory_beta: float
    lambda_knn: float
    knn_temperature: float
    exact_up_to: int
    ivf_lists: int
    ivf_probes: int
    start_from: str | None


RANGES = {
    "rag_top_k query_items bank_size rebuild_every ivf_lists ivf_probes": COUNT,
    "memory_alpha memory_beta lambda_knn": SHARE,
    "knn_temperature": POSITIVE,
}


def check(s, dense):
    """Refuse settings that cannot be or that contradict each other, each in one sentence."""
    check_ranges(s, RANGES)
    if s.rag_fusion == "prepend" and dense:
        raise SettingError(
            "rag_fusion: prepend retrieves once for a whole history, so that with train_rows: dense a position would "
            "see what later ones retrieved; set train_rows: prefix"
        )
    if s.rag_fusion == "prepend" and s.rag_query == "user":
        raise SettingError(
            "rag_fusion: prepend retrieves before the history is read; set rag_query: mean_items or last_item"
        )
    if s.rag_control == "random" and s.rag_fusion in OF_SITUATIONS:
        raise SettingError(
            f"rag_control: random draws items, but rag_fusion: {s.rag_fusion} recalls situations; set rag_control: none"
        )
    of_items = {"rag_query": "user", "rag_similarity": "cosine", "rag_agg": "attn", "exclude_history": True}
    for key, usual in of_items.items():
        if s.rag_fusion in OF_SITUATIONS and getattr(s, key) != usual:
            raise SettingError(
                f"{key}: {getattr(s, key)} is of items that are retrieved, but rag_fusion: {s.rag_fusion} recalls "
                f"situations; set {key}: {usual}"
            )
    if s.item_llm_mode in LIVE and s.rag_fusion in (*OF_ITEMS, "memory"):
        raise SettingError(
            f"item_llm_mode: {s.item_llm_mode} would read every item's text at every step, for rag_fusion: "
            f"{s.rag_fusion} looks among all items; set item_llm_mode: frozen or table"
        )
    users_ask_by_distance = s.rag_query == "user" and s.rag_fusion in OF_ITEMS and s.rag_similarity == "l2"
    if users_ask_by_distance and s.head == "classifier":
        raise SettingError(
            "head: classifier has rows with a bias, between which distances mean nothing; set rag_similarity: cosine"
        )
    if users_ask_by_distance and s.score == "cosine":
        raise SettingError(
            "rag_similarity: l2 ranks as cosine does where rag_query: user and score: cosine make all lengths one; set "
            "rag_similarity: cosine, or rag_query: mean_items or last_item"
        )
    if s.start_from and s.rag_fusion == "prepend" and s.rec_llm == "sasrec":
        raise SettingError(
            "start_from: rec_llm: sasrec has a vector for each position, and rag_fusion: prepend shifts them; set "
            "rec_llm: transformer"
        )
