"""The T5 that writes titles: a pretrained one, or one of random weights and of a size that was asked for."""

import torch

from recbole_llm.errors import ArtifactError

# weights of a T5 that belong to words; of one whose words are read and written by one table, only the first is there
WORDS = ("shared.", "lm_head.", "encoder.embed_tokens.", "decoder.embed_tokens.")


def config_of(width, layers, n_words):
    """A T5 of so many layers in its encoder and as many in its decoder."""
    from transformers import T5Config

    heads = max(width // 64, 1)
    return T5Config(
        vocab_size=n_words,
        d_model=width,
        d_kv=width // heads,
        num_heads=heads,
        d_ff=4 * width,
        num_layers=layers,
        num_decoder_layers=layers,
        decoder_start_token_id=0,
    )


def weights(model, without=()):
    """The number of a model's weights, those aside whose names begin as one of ``without``."""
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith(tuple(without)))


def layers_for(n_weights, width, n_words):
    """The layers, one at least, with which a T5 has about so many weights in all."""
    from transformers import T5ForConditionalGeneration

    with torch.device("meta"):  # counted, not made
        one, two = (weights(T5ForConditionalGeneration(config_of(width, n, n_words))) for n in (1, 2))
    return 1 + max(round((n_weights - one) / (two - one)), 0)


def pretrained(folder, tokenizer):
    """The T5 of a folder with all its weights.

    Raises
    ------
    ArtifactError
        If the folder has none, lacks some of its weights, or knows fewer words than the tokenizer.
    """
    from transformers import AutoConfig, T5ForConditionalGeneration

    try:
        kind = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
        if kind == "t5":  # of another kind some weights would be found, and the others made up
            model, loaded = T5ForConditionalGeneration.from_pretrained(
                folder,
                local_files_only=True,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (OSError, ValueError) as error:  # no files; files of no model that is known
        raise ArtifactError(
            f"no T5 in {folder}; give a folder with its config.json and model.safetensors"
        ) from error
    if kind != "t5":
        raise ArtifactError(f"{folder} holds a model of kind {kind}; give the folder of a T5")
    if loaded["missing_keys"]:
        first, *_ = sorted(loaded["missing_keys"])
        raise ArtifactError(
            f"{folder} lacks {len(loaded['missing_keys'])} weights of a T5, e.g. {first}; give encoder and decoder"
        )
    if len(tokenizer) > model.config.vocab_size:
        raise ArtifactError(
            f"the tokenizer has {len(tokenizer):,} words, the T5 of {folder} {model.config.vocab_size:,}; give its own"
        )
    return model


def random(width, layers, n_words, seed=0):
    """A T5 of random weights, of so many layers in its encoder and as many in its decoder."""
    from transformers import T5ForConditionalGeneration

    torch.manual_seed(seed)
    return T5ForConditionalGeneration(config_of(width, layers, n_words))
