"""A language model of Hugging Face's on this machine, causal or encoder-decoder, many requests at a time.

A model's own ``generation_config.json`` is not followed: every answer depends on its request alone.

Prompts that begin alike (an instruction before different data) have their beginning read once: its keys and values are
kept and repeated for the whole batch.

Letters: B requests of a batch, T tokens.
"""

import functools
import os
from collections.abc import Iterator, Sequence

from recbole_llm.errors import BackendError, SettingError
from recbole_llm.llm.backend import LENGTH, STOP, Answer, Request, cut
from recbole_llm.text.location import Location, locate
from recbole_llm.text.recipe import read_json, token_limit

BATCH_TOKENS = 8192  # of a batch, padding and answers included, at most
WORTH_KEEPING = 16  # tokens of a common beginning, from which on it is read once
# of the kinds of model that do not name the kinds of their layers, those that keep all keys and values
KEEPS_ALL = ("llama", "gpt2", "gpt_neox", "opt", "phi", "mistral", "falcon", "bloom")
QUANTIZED = {"8bit": "load_in_8bit", "4bit": "load_in_4bit"}


class LocalBackend:
    """Answers of a local model.

    Parameters
    ----------
    name : str
        A folder or a Hugging Face id.
    revision : str, optional
        Commit of the id; a folder is known by the hash of its files.
    device : str
    compute_dtype : {"float32", "bfloat16", "float16", "8bit", "4bit"}
        The last two need the package bitsandbytes.
    batch_tokens : int
        Tokens of a batch, padding and answers included, at most.

    Raises
    ------
    BackendError
        If the model cannot be found.
    """

    is_llm = by_prompt = True

    def __init__(
        self, name, revision=None, *, device="cpu", compute_dtype="float32", batch_tokens=BATCH_TOKENS
    ):
        self.location: Location = locate(name, revision)
        self.name, self.device, self.compute_dtype = self.location.name, device, compute_dtype
        self.batch_tokens = batch_tokens
        self.is_seq2seq = bool(read_json(self.location.folder / "config.json").get("is_encoder_decoder"))

    @property
    def revision(self) -> str:
        """Commit of the hub, else a hash of the files; and how it computes, for rounding may turn an answer."""
        return f"{self.location.revision} in {self.compute_dtype}"

    @functools.cached_property
    def _tokenizer(self):
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.location.folder, local_files_only=True, padding_side="left")

    @functools.cached_property
    def _model(self):
        """Loaded at the first request."""
        from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationConfig

        tokenizer = self._tokenizer
        kind = AutoModelForSeq2SeqLM if self.is_seq2seq else AutoModelForCausalLM
        model = kind.from_pretrained(
            self.location.folder, use_safetensors=True, local_files_only=True, **self._precision()
        )
        own, ends = model.generation_config, set()
        for said in (own.eos_token_id, tokenizer.eos_token_id):
            ends |= set(said) if isinstance(said, list) else {said} - {None}
        if tokenizer.pad_token_id is None:
            if not ends:
                raise BackendError(
                    f"{self.name} has neither a padding nor an end token; its tokenizer is incomplete"
                )
            tokenizer.pad_token_id = min(ends)
        model.generation_config = GenerationConfig(
            eos_token_id=sorted(ends) or None,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            decoder_start_token_id=own.decoder_start_token_id,
        )
        return (model if self.compute_dtype in QUANTIZED else model.to(self.device)).eval()

    def _precision(self):
        """How the weights are loaded."""
        import torch

        if self.compute_dtype not in QUANTIZED:
            return {"dtype": getattr(torch, self.compute_dtype)}
        try:
            import bitsandbytes  # noqa: F401
        except ImportError as error:
            raise BackendError(
                f"weights in {self.compute_dtype} need the package bitsandbytes; run: pip install bitsandbytes"
            ) from error
        from transformers import BitsAndBytesConfig

        quantized = BitsAndBytesConfig(**{QUANTIZED[self.compute_dtype]: True})
        return {"quantization_config": quantized, "device_map": self.device}

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answers, the longest prompts first, so that memory runs out at once or never."""
        ids = [self._ids(request) for request in requests]
        for batch in _batches(requests, ids, self.batch_tokens):
            answers = self._answer([requests[n] for n in batch], [ids[n] for n in batch])
            yield from zip(batch, answers, strict=True)

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """The numbers of the requests that are answered together, batch by batch; loads no model."""
        return list(_batches(requests, [self._ids(request) for request in requests], self.batch_tokens))

    def _ids(self, request):
        """The tokens of a request, by the chat template where there is one."""
        tokenizer = self._tokenizer
        if tokenizer.chat_template:
            messages = [{"role": "system", "content": request.system}] if request.system else []
            messages.append({"role": "user", "content": request.prompt})
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]  # the template has written them
        else:
            ids = tokenizer("\n\n".join(filter(None, (request.system, request.prompt))))["input_ids"]
            if ids and not self.is_seq2seq and ids[-1] == tokenizer.eos_token_id:
                ids = ids[:-1]  # a text that has ended is not gone on with
        limit = token_limit(self.location.folder)
        needed = len(ids) + (0 if self.is_seq2seq else request.max_tokens)
        if limit and needed > limit:
            raise SettingError(
                f"a prompt of {len(ids):,} tokens and an answer of {request.max_tokens:,} are too long for "
                f"{self.name}, which reads {limit:,}; shorten the prompt or lower max_tokens"
            )
        return ids

    def _beginning(self, ids):
        """How many tokens all prompts of a batch begin with, and what the model keeps of them, for each of them."""
        import torch

        shortest = min(map(len, ids))
        common = min(len(os.path.commonprefix(ids)), shortest - 1)  # each has one left to go on from
        if len(ids) == 1 or common < WORTH_KEEPING or self.is_seq2seq or not _keeps_all(self._model.config):
            return 0, {}
        with torch.inference_mode():
            read = self._model(torch.tensor([ids[0][:common]], device=self._model.device), use_cache=True)
        read.past_key_values.batch_repeat_interleave(len(ids))
        return common, {"past_key_values": read.past_key_values}

    def _answer(self, requests, ids):
        """The answers of one batch, whose requests differ in their prompts alone."""
        import torch

        tokenizer, model, first = self._tokenizer, self._model, requests[0]
        common, options = self._beginning(ids)
        width = max(map(len, ids))
        # padding stands before what is still to be read, behind what is kept
        gaps = [width - len(row) for row in ids]
        input_BT = torch.tensor(
            [
                row[:common] + [tokenizer.pad_token_id] * gap + row[common:]
                for row, gap in zip(ids, gaps, strict=True)
            ]
        )
        mask_BT = torch.tensor(
            [[1] * common + [0] * gap + [1] * (len(row) - common) for row, gap in zip(ids, gaps, strict=True)]
        )
        options |= {"do_sample": False}
        if first.temperature:
            options |= {"do_sample": True, "temperature": first.temperature, "top_p": first.top_p, "top_k": 0}
        if first.stop:
            options |= {"stop_strings": list(first.stop), "tokenizer": tokenizer}
        with torch.inference_mode(), torch.random.fork_rng(enabled=bool(first.temperature)):
            if first.temperature:
                torch.manual_seed(first.seed)
            output_BT = model.generate(
                input_ids=input_BT.to(model.device),
                attention_mask=mask_BT.to(model.device),
                max_new_tokens=first.max_tokens,
                **options,
            )
        new_BT = output_BT[:, 1:] if self.is_seq2seq else output_BT[:, width:]
        return [self._read(row, len(prompt), first) for row, prompt in zip(new_BT.tolist(), ids, strict=True)]

    def _read(self, tokens, prompt_tokens, request):
        tokenizer = self._tokenizer
        ends = self._model.generation_config.eos_token_id or []
        count = next((place for place, token in enumerate(tokens) if token in ends), None)
        ended = count is not None
        kept = tokens[:count] if ended else tokens
        text, stopped = cut(tokenizer.decode(kept, skip_special_tokens=True), request.stop)
        return Answer(text, prompt_tokens, len(kept), STOP if ended or stopped else LENGTH)


def _batches(requests, ids, most_tokens):
    """Numbers of requests that are generated together: alike but for the prompt, of like length, the longest first.

    A sampled one stands alone: what it draws must not depend on its neighbours.
    """
    order = sorted(range(len(requests)), key=lambda n: (_alike(requests[n]), -len(ids[n])))
    batch, key = [], None
    for n in order:
        alike = _alike(requests[n])
        size = (len(batch) + 1) * (len(ids[batch[0]]) + requests[n].max_tokens) if batch else 0
        if batch and (alike != key or size > most_tokens or requests[n].temperature):
            yield batch
            batch = []
        batch.append(n)
        key = alike
    if batch:
        yield batch


def _keeps_all(config):
    """Whether a model keeps keys and values of all that it has read: no sliding window, no state in their place."""
    config = config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return config.model_type in KEEPS_ALL and not getattr(config, "sliding_window", None)
    return set(kinds) == {"full_attention"}


def _alike(request):
    return (request.max_tokens, request.temperature, request.top_p, request.seed or 0, request.stop)
