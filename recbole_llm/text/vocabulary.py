"""What a model's vocabulary has no word for: an encoder of English reads a Chinese title as a row of unknown tokens."""

from logging import getLogger

FEW = 0.02  # of the tokens of a field; above it a warning is given


def unknown(tokenizer, ids):
    """How many of the tokens in lists of ids are unknown to ``tokenizer``."""
    mark = getattr(tokenizer, "unk_token_id", None)
    return sum(tokens.count(mark) for tokens in ids)


def warn_of_unknown(model, field, share):
    """Say so where a model has no words for more than ``FEW`` of the tokens of a field."""
    if share > FEW:
        getLogger().warning(
            f"{model} has no words for {share:.0%} of the tokens of `{field}`, so that their vectors say little; set "
            "text_encoder to a model of their language, e.g. google/mt5-small or "
            "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"
        )
