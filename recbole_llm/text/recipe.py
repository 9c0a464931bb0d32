"""What the files of a model say of its vectors: pooling, norm and length; read without loading the model."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Recipe:
    """What a folder says of its own sentence vectors; not plain: more than pooling and a norm is needed."""

    pooling: str = "mean"
    normalise: bool = False
    max_tokens: int | None = None
    is_plain: bool = True


def read_recipe(folder: Path) -> Recipe:
    """The recipe in the files of a sentence-transformers model, or the mean for any other model."""
    modules = read_json(folder / "modules.json")
    if not modules:
        return Recipe()
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    sentence = read_json(folder / "sentence_bert_config.json")
    prompted = read_json(folder / "config_sentence_transformers.json").get("default_prompt_name")
    pooling = read_json(folder / modules[1]["path"] / "config.json") if len(modules) > 1 else {}
    mode = pooling.get("pooling_mode") or _legacy_mode(pooling)
    mode = {"lasttoken": "last"}.get(mode, mode) if isinstance(mode, str) else None
    is_plain = (
        kinds in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
        and modules[0]["path"] == ""
        and mode in ("mean", "cls", "last")
        and not prompted
        and not sentence.get("do_lower_case")
    )
    return Recipe(mode or "mean", "Normalize" in kinds, sentence.get("max_seq_length"), is_plain)


def _legacy_mode(pooling):
    """Pooling of older sentence-transformers files: one flag per mode; several at once are not plain."""
    prefix, names = "pooling_mode_", {"cls_token": "cls", "mean_tokens": "mean"}
    active = [
        key.removeprefix(prefix) for key, on in pooling.items() if key.startswith(prefix) and on is True
    ]
    return names.get(active[0], active[0]) if len(active) == 1 else None


def token_limit(folder: Path) -> int | None:
    """Tokens that a model can read, as its files say; None where they say nothing."""
    said = [
        read_json(folder / "tokenizer_config.json").get("model_max_length"),
        read_json(folder / "config.json").get("max_position_embeddings"),
    ]
    return min((int(limit) for limit in said if limit and limit < 1e9), default=None)


def read_json(path: Path) -> dict:
    """Content of a JSON file; empty where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
