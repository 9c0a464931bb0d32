"""LoRA: a local language model whose weights stay as they are, and small adapters beside its linear layers that learn.

Edward Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, https://arxiv.org/abs/2106.09685

An adapted layer gives W x + (alpha / r) B A x. A starts at random, from the seed of the settings and nothing else,
B at zero: a model that has just got its adapters says what it said before.

Ours: adapters are float32 whatever the model computes in, because a step of 1e-4 is lost in bfloat16; they are kept
with the revision of the model they were made for, and go with no other.

    base = locate("Qwen/Qwen3-0.6B")
    model = attach(load(base), Lora(rank=8))
    optimizer = torch.optim.AdamW(trained(model).values(), lr=1e-4)
    ...                                          # model.train(), losses, steps
    save(model, "saved/adapters", base)
    merge(restore(base, "saved/adapters")).save_pretrained("saved/merged")
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recbole_llm.errors import SettingError
from recbole_llm.llm.layers import end_of, find_layers, find_whole
from recbole_llm.llm.load import checkpointed

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

WISHES = ("attention", "all-linear")
_ADAPTER = "default"  # what peft calls the only adapter of a layer


@dataclass(frozen=True)
class Lora:
    """What the adapters are and where they stand.

    Attributes
    ----------
    rank : int
        r, the inner width of an adapter.
    alpha : float
        The adapter is scaled by alpha / r.
    dropout : float
        Share of an adapter's inputs that is dropped in training.
    targets : {"attention", "all-linear"} or sequence of str
        Layers with an adapter: the projections of queries, keys, values and output; every linear layer but the output
        head and a pooler (the experts of a mixture are one tensor, no layers, and stay as they are); or layers by name
        (``"q_proj"``, ``"layers.0.self_attn.q_proj"``).
    whole : sequence of str
        Modules or parameters that learn themselves, without an adapter and in the model's own dtype
        (``"embed_tokens"``, ``"norm"``).
    seed : int
        Of the start.

    Raises
    ------
    SettingError
        If a number is out of range, or a name is empty.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.05
    targets: str | Sequence[str] = "attention"
    whole: Sequence[str] = ()
    seed: int = 0

    def __post_init__(self):
        for key, is_right, expected in (
            ("rank", self.rank >= 1, "1 or more"),
            ("alpha", 0 < self.alpha < math.inf, "a number above 0"),
            ("dropout", 0 <= self.dropout < 1, "0 or more and below 1"),
            (
                "targets",
                _are_names(self.targets) or self.targets in WISHES,
                "attention, all-linear or layer names",
            ),
            ("whole", _are_names(self.whole) or not len(self.whole), "names of modules"),
            ("seed", 0 <= self.seed < 2**63, "0 or more and below 2 ** 63"),
        ):
            if not is_right:
                raise SettingError(f"{key} of LoRA is {getattr(self, key)!r}, expected {expected}")
        for key in ("targets", "whole"):  # YAML and JSON give lists, which differ from tuples
            value = getattr(self, key)
            object.__setattr__(self, key, value if isinstance(value, str) else tuple(value))


@dataclass(frozen=True)
class Attached:
    """What a model carries: the settings, and the full names of layers and parameters that they mean in it."""

    lora: Lora
    layers: tuple[str, ...]
    whole: tuple[str, ...] = ()

    def __str__(self):
        ends = dict.fromkeys([*map(end_of, self.layers), *self.lora.whole])
        return f"rank {self.lora.rank}, alpha {self.lora.alpha:g} on {', '.join(ends)}"


def attach(model: PreTrainedModel, lora: Lora, *, checkpointing: bool = False) -> PreTrainedModel:
    """The same model with fresh adapters, of which it gives what it gave before; all else is frozen.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Changed in place. Its training or evaluation mode stays.
    checkpointing : bool
        Compute activations anew in the backward pass: less memory for the time of one more forward pass.

    Raises
    ------
    SettingError
        If it carries adapters already, or names are not in it; lists those that are.
    """
    import torch
    from peft import LoraConfig, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    if hasattr(model, "_lora"):
        raise SettingError(f"the model carries adapters already ({model._lora}); merge them, or load it anew")
    layers = find_layers(model, lora.targets)
    whole = find_whole(model, lora.whole, layers)
    if checkpointing:
        checkpointed(model)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        # an expression of full names, because peft takes a plain name as the end of any
        target_modules="|".join(map(re.escape, layers)),
        fan_in_fan_out=all(isinstance(model.get_submodule(name), Conv1D) for name in layers),
        init_lora_weights=False,
    )
    with torch.random.fork_rng(devices=[]):  # peft draws a start of its own, which ours replaces
        inject_adapter_in_model(config, model, _ADAPTER)
    model._lora = Attached(lora, layers, whole)
    _start(model)
    for parameter in trained(model).values():
        parameter.requires_grad_(True)
    return model.train(model.training)  # peft's dropout is born in training mode


def _start(model):
    """Draw A layer by layer, on the processor and in float32, so that every device starts from the same bits."""
    import torch

    generator = torch.Generator().manual_seed(model._lora.lora.seed)
    for name in model._lora.layers:
        layer = model.get_submodule(name)
        A, B = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight
        # the bound of torch's own linear layers, 1 / sqrt(inputs), as in the authors' code
        start = torch.empty(A.shape, dtype=torch.float32, device="cpu").uniform_(-1, 1, generator=generator)
        A.data = (start / math.sqrt(A.shape[1])).to(A.device)
        B.data = torch.zeros(B.shape, dtype=torch.float32, device=B.device)


def trained(model: PreTrainedModel) -> dict[str, torch.nn.Parameter]:
    """The parameters that learn, by name: of the adapters, and those that learn as a whole.

    Raises
    ------
    SettingError
        If the model carries no adapters.
    """
    held = attached(model)
    parameters = {}
    for name in held.layers:
        layer = model.get_submodule(name)
        parameters[f"{name}.lora_A.weight"] = layer.lora_A[_ADAPTER].weight
        parameters[f"{name}.lora_B.weight"] = layer.lora_B[_ADAPTER].weight
    return parameters | {name: model.get_parameter(name) for name in held.whole}


def merge(model: PreTrainedModel) -> PreTrainedModel:
    """The model itself without adapters, its weights moved by them: as fast as the base, a plain model to save.

    Changed in place, and everything in it stays frozen. Weights in bfloat16 or float16 are rounded once.

    Raises
    ------
    SettingError
        If the model carries no adapters.
    """
    import torch

    with torch.no_grad():
        for name in attached(model).layers:
            layer = model.get_submodule(name)
            weight = layer.get_base_layer().weight
            weight.copy_(weight + layer.get_delta_weight(_ADAPTER))  # a float32 sum: the adapters are
    return detach(model)


def detach(model):
    """The model with its own layers in their places again."""
    for name in model._lora.layers:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, model.get_submodule(name).get_base_layer())
    del model._lora, model.peft_config
    return model.requires_grad_(False)


def attached(model: PreTrainedModel) -> Attached:
    """What the model carries; SettingError where it carries nothing."""
    if not hasattr(model, "_lora"):
        raise SettingError(f"this {type(model).__name__} carries no adapters; attach or restore some first")
    return model._lora


def _are_names(value):
    return (
        not isinstance(value, str)
        and len(value) > 0
        and all(isinstance(name, str) and name for name in value)
    )
