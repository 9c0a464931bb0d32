"""A language model of Hugging Face inside a recommender: what of it learns, and what of it a checkpoint holds.

Weights that stay as they are in their files are left out of the state dict and taken from the files again; a checkpoint
of adapters beside a large model is then as small as they are. ``fingerprint`` says which files they belong to.
"""

import torch
from torch import nn

from ..errors import SettingError
from ..llm import lora as adapters
from ..llm.load import checkpointed, load


class LanguageModel(nn.Module):
    """The base of the Item LLM and of the Recommendation LLM; ``llm`` is the model, without a head.

    Parameters
    ----------
    base : Location
        What ``text.location.locate`` gives; of T5 and its like the encoder is taken.
    untrained : bool
        Keep the architecture alone and start from random weights, which a checkpoint then holds.

    Attributes
    ----------
    word_width, width : int
        The size of the vectors that it is handed, as its words are, and of those that it gives.
    """

    def __init__(self, base, *, untrained=False):
        super().__init__()
        self.llm = load(base, "encoder", untrained=untrained)
        self.llm.config.use_cache = False  # nothing is written word by word
        self.word_width = self.llm.get_input_embeddings().embedding_dim
        with torch.no_grad():  # tried: some map what they give, too
            one = self.llm(inputs_embeds=torch.zeros(1, 1, self.word_width))
        self.width = one.last_hidden_state.shape[2]
        self._base = None if untrained else base
        self._unlearned, self.fingerprint = (), None
        self.register_state_dict_post_hook(leave_out_unlearned)
        self.register_load_state_dict_pre_hook(put_in_unlearned)

    def learn(self, mode, lora=None, recompute=False):
        """Say what learns: all weights (``full``), adapters beside them (``lora``), or none (``frozen``).

        ``recompute`` makes activations anew in the backward pass, for less memory.
        """
        self.llm.requires_grad_(mode == "full")
        if mode == "lora":
            adapters.attach(self.llm, lora)
        if recompute:
            checkpointed(self.llm)
        self.frozen = mode == "frozen"
        if mode != "full" and self._base is not None:
            # a state dict holds tied weights by each of their names
            named = self.llm.named_parameters(remove_duplicate=False)
            self._unlearned = tuple(f"llm.{name}" for name, weight in named if not weight.requires_grad)
            self.fingerprint = self._base.revision

    def check_length(self, length, limit, said, cure):
        """Refuse more places, ``said`` of the keys, than the model has positions for or its files allow, ``limit``."""
        limits = [limit, getattr(self.llm.config, "max_position_embeddings", None), *positions(self.llm)]
        least = min((each for each in limits if each), default=None)
        if least is not None and length > least:
            raise SettingError(
                f"{said} {length:,} places, but the language model reads at most {least:,}; {cure}"
            )

    def train(self, mode=True):
        """Switch between training and evaluation; a frozen model stays without dropout."""
        super().train(mode)
        if self.frozen:
            self.llm.eval()
        return self


def positions(llm):
    """How many places each of its tables of positions has room for, where some rows are padding's and those before."""
    for name, part in llm.named_modules():
        if name.endswith("position_embeddings") and getattr(part, "padding_idx", None) is not None:
            yield part.num_embeddings - part.padding_idx - 1


def adapters_of(s, seed):
    """The adapters that the keys ``lora_...`` ask for."""
    return adapters.Lora(s.lora_rank, s.lora_alpha, s.lora_dropout, s.lora_targets, seed=seed)


def leave_out_unlearned(part, tensors, prefix, metadata):
    """Keep what did not learn out of a state dict."""
    for name in part._unlearned:
        del tensors[prefix + name]


def put_in_unlearned(part, tensors, prefix, *_):
    """Give a state dict what ``leave_out_unlearned`` left out, so that nothing of it is missing."""
    for name in part._unlearned:
        tensors.setdefault(prefix + name, part.get_parameter(name))
