"""A language model from its files, as one of three kinds; weights that are not there are never made up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recbole_llm.errors import BackendError, SettingError
from recbole_llm.text.location import Location

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load(
    base: Location, kind: str = "causal", *, device="cpu", compute_dtype="float32", untrained=False
) -> PreTrainedModel:
    """A model from its files, in evaluation mode.

    Parameters
    ----------
    base : Location
        What `recbole_llm.text.location.locate` gives for a folder or a Hugging Face id.
    kind : {"causal", "seq2seq", "encoder"}
        With a head that writes, T5 and its like as a whole, or any model without a head (of T5 the encoder alone).
    compute_dtype : {"float32", "bfloat16", "float16"}
    untrained : bool
        Of the files read the configuration alone; the weights start at random, from torch's generator.

    Raises
    ------
    SettingError
        If the architecture has no model of this kind.
    BackendError
        If weights are missing from the files: they would be random.
    """
    import torch
    import transformers

    options = {"local_files_only": True, "trust_remote_code": base.trust_remote_code}
    if base.trust_remote_code:
        options["code_revision"] = base.commit
    config = transformers.AutoConfig.from_pretrained(base.folder, **options)
    kinds = _kinds()
    if kind not in kinds:
        raise SettingError(f"the kind of model is {kind!r}, expected one of {', '.join(kinds)}")
    mapping, loader = kinds[kind]
    if type(config) not in mapping and not base.trust_remote_code:
        raise SettingError(
            f"{base.name} is a {config.model_type} model, of which there is none that is {kind}"
        )
    own_encoder = type(config) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING  # T5 and its like, BERT too
    if kind == "encoder" and own_encoder:
        loader = transformers.AutoModelForTextEncoding
    dtype = getattr(torch, compute_dtype)
    if untrained:
        model = loader.from_config(config, dtype=dtype, trust_remote_code=base.trust_remote_code)
    else:
        model, info = loader.from_pretrained(
            base.folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
        )
        random = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))
        if random:
            raise BackendError(
                f"{base.name} lacks {len(random)} weights of a {kind} model, e.g. {random[0]}; they would be random. "
                "Load it as another kind, or take a whole folder"
            )
    if kind == "encoder" and config.is_encoder_decoder and not own_encoder:
        model = model.get_encoder()
    return model.to(device).eval()


def load_tokenizer(base: Location):
    """The tokenizer of a model, from its files."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        base.folder, local_files_only=True, trust_remote_code=base.trust_remote_code
    )


def _kinds():
    """Which models there are of a kind, and what loads them; the first that fits names the kind of a model."""
    import transformers as hub

    return {
        "causal": (hub.MODEL_FOR_CAUSAL_LM_MAPPING, hub.AutoModelForCausalLM),
        "seq2seq": (hub.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, hub.AutoModelForSeq2SeqLM),
        "encoder": (hub.MODEL_MAPPING, hub.AutoModel),
    }


def checkpointed(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, which makes activations anew in the backward pass: less memory for one more forward pass.

    Raises
    ------
    SettingError
        If its architecture does not know how.
    """
    if not model.supports_gradient_checkpointing:
        raise SettingError(f"a {type(model).__name__} knows no checkpointing; leave it off")
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    # Only the reentrant kind wants vectors with a gradient from a frozen embedding; transformers sees to it anyway.
    model.disable_input_require_grads()
    return model


def kind_of(model):
    """The ``kind`` with which `load` gives such a model."""
    config = type(model.config)
    kinds = (
        kind
        for kind, (mapping, _) in _kinds().items()
        if config in mapping and type(model) is mapping[config]
    )
    return next(kinds, "encoder")
