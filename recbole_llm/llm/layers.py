"""Which linear layers of a language model get an adapter: those of attention, all of them, or those that are named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from recbole_llm.errors import SettingError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The projections of an attention block by architecture: what reads the queries first, what writes the output last.
# peft has a table too (TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING), which is not read here: for nearly every
# model it names the queries and values alone, where the papers of this house adapt q, k, v and o, and for Phi it adds
# the MLP. Where it does name all of them (Nemotron-H), it names what stands here.
_PROJECTIONS = (
    ("q_proj", "k_proj", "v_proj", "o_proj"),  # Llama, Qwen, Mistral, Gemma, OLMo, SmolLM, gpt-oss
    ("q_proj", "k_proj", "v_proj", "out_proj"),  # OPT, BART, GPT-J, GPT-Neo
    ("q_proj", "k_proj", "v_proj", "dense"),  # Phi
    ("q_proj", "k_proj", "v_proj", "Wo"),  # ModernBERT as a decoder
    ("qkv_proj", "o_proj"),  # Phi-3
    ("qkv_proj", "out_proj"),  # CodeGen
    ("query_key_value", "dense"),  # GPT-NeoX and Pythia, BLOOM, Falcon
    ("c_attn", "c_proj"),  # GPT-2
    ("Wqkv", "out_proj"),  # MPT
    ("Wqkv", "Wo"),  # ModernBERT
    ("q", "k", "v", "o"),  # T5
    ("query", "key", "value", "dense"),  # BERT, RoBERTa, ELECTRA, ALBERT
    ("query_proj", "key_proj", "value_proj", "dense"),  # DeBERTa
    ("q_lin", "k_lin", "v_lin", "out_lin"),  # DistilBERT
)


def find_layers(model: PreTrainedModel, targets: str | tuple[str, ...]) -> tuple[str, ...]:
    """Full names of the linear layers that ``targets`` of `lora.Lora` means in ``model``, in its own order.

    Raises
    ------
    SettingError
        If there are none, or the weight of one stands elsewhere in the model too.
    """
    linear = _linear_layers(model)
    kind, ends = model.config.model_type, ", ".join(sorted({end_of(name) for name in linear}))
    if targets == "attention":
        found = _attention_layers(model, linear)
        if not found:
            raise SettingError(
                f"which layers of a {kind} model are its attention projections is not known; name targets among its "
                f"linear layers: {ends}"
            )
    elif targets == "all-linear":
        # The head is as wide as the vocabulary, and often the embedding itself; no token vector passes the pooler.
        head = model.get_output_embeddings()
        found = [
            name for name, layer in linear.items() if layer is not head and "pooler" not in name.split(".")
        ]
    else:
        for target in targets:
            if not any(_is_at_the_end(target, name) for name in linear):
                raise SettingError(
                    f"`{target}` of targets is no linear layer of this {kind} model, which has {ends}"
                )
        found = [name for name in linear if any(_is_at_the_end(target, name) for target in targets)]
    _refuse_shared(model, found)
    return tuple(found)


def _linear_layers(model):
    import torch
    from transformers.pytorch_utils import Conv1D

    kinds = (torch.nn.Linear, Conv1D)  # the second is GPT-2's, with its weight transposed
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, kinds)}


def _attention_layers(model, linear):
    """The projections of every attention block; none when a block is not known.

    Names of layers do not tell: ``dense`` and ``c_proj`` stand in the MLP of BERT and GPT-2 too. So the blocks come
    first, by the names of their classes. A block may have more layers than its row of ``_PROJECTIONS`` (gates, which
    are left out) or fewer (those of Gemma 4 that borrow the keys and values of an earlier one).
    """
    found, done = [], ()
    for block, module in model.named_modules():
        if "Attention" not in type(module).__name__ or block.startswith(done):
            continue
        done += (f"{block}.",)  # the outermost only: BERT's stand one in another
        inside = [name for name in linear if name.startswith(f"{block}.")]
        ends = {end_of(name) for name in inside}
        rows = (row for row in _PROJECTIONS if {row[0], row[-1]} <= ends)
        known = next((row for row in rows if ends <= set(row) or ends >= set(row)), ())
        if inside and not known:
            return []
        found += [name for name in inside if end_of(name) in known]
    return found


def _refuse_shared(model, layers):
    parameters = dict(model.named_parameters(remove_duplicate=False))
    weights = {id(parameters[f"{layer}.weight"]): layer for layer in layers}
    for name, parameter in parameters.items():
        layer = weights.get(id(parameter))
        if layer and name != f"{layer}.weight":
            raise SettingError(
                f"{layer} has one weight with {name}, so that a merged adapter would change both; take it out of "
                "targets, or name it in whole"
            )


def find_whole(model: PreTrainedModel, names: Sequence[str], layers: Sequence[str]) -> tuple[str, ...]:
    """Full names of the parameters that learn themselves; a tensor with two names counts once.

    Raises
    ------
    SettingError
        If a name is not in the model, or one of its parameters has an adapter already.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    found: dict[int, str] = {}
    for name in names:
        meant = [full for full in parameters if f".{name}." in f".{full}."]
        if not meant:
            raise SettingError(
                f"`{name}` of whole is no module and no parameter of this {model.config.model_type} model"
            )
        for full in meant:
            adapted = next((layer for layer in layers if full.startswith(f"{layer}.")), None)
            if adapted:
                raise SettingError(
                    f"{adapted} would learn by an adapter and as a whole (`{name}`); choose one"
                )
            found.setdefault(id(parameters[full]), full)
    return tuple(found.values())


def _is_at_the_end(target, name):
    return name == target or name.endswith(f".{target}")


def end_of(name: str) -> str:
    """The last part of a full name."""
    return name.rpartition(".")[2]
