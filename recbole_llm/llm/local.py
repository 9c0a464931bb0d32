"""A language model of Hugging Face's on this machine, causal or encoder-decoder, many requests at a time.

A model's own ``generation_config.json`` is not followed: every answer depends on its request alone.

Letters: B requests of a batch, T tokens.
"""

import functools
from collections.abc import Iterator, Sequence

from recbole_llm.errors import BackendError, SettingError
from recbole_llm.llm.backend import Answer, Request, cut
from recbole_llm.text.location import Location, locate
from recbole_llm.text.recipe import read_json, token_limit

BATCH_TOKENS = 8192  # of a batch, padding and answers included, at most


class LocalBackend:
    """Answers of a local model.

    Parameters
    ----------
    name : str
        A folder or a Hugging Face id.
    revision : str, optional
        Commit of the id; a folder is known by the hash of its files.
    device : str
    compute_dtype : {"float32", "bfloat16", "float16"}
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
    def _loaded(self):
        """Tokenizer and model, loaded at the first request."""
        import torch
        from transformers import (
            AutoModelForCausalLM,
            AutoModelForSeq2SeqLM,
            AutoTokenizer,
            GenerationConfig,
        )

        folder = self.location.folder
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left")
        kind = AutoModelForSeq2SeqLM if self.is_seq2seq else AutoModelForCausalLM
        model = kind.from_pretrained(
            folder, dtype=getattr(torch, self.compute_dtype), use_safetensors=True, local_files_only=True
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
        return tokenizer, model.to(self.device).eval()

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answers, the longest prompts first, so that memory runs out at once or never."""
        ids = [self._ids(request) for request in requests]
        for batch in _batches(requests, ids, self.batch_tokens):
            yield from zip(
                batch, self._answer([requests[n] for n in batch], [ids[n] for n in batch]), strict=True
            )

    def _ids(self, request):
        """The tokens of a request, by the chat template where there is one."""
        tokenizer, _ = self._loaded
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

    def _answer(self, requests, ids):
        """The answers of one batch, whose requests differ in their prompts alone."""
        import torch

        tokenizer, model = self._loaded
        first = requests[0]
        width = max(map(len, ids))
        input_BT = torch.tensor([[tokenizer.pad_token_id] * (width - len(row)) + row for row in ids])
        mask_BT = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids])
        options = {"do_sample": False}
        if first.temperature:
            options = {"do_sample": True, "temperature": first.temperature, "top_p": first.top_p, "top_k": 0}
        if first.stop:
            options |= {"stop_strings": list(first.stop), "tokenizer": tokenizer}
        with torch.inference_mode(), torch.random.fork_rng(enabled=bool(first.temperature)):
            if first.temperature:
                torch.manual_seed(first.seed)
            output_BT = model.generate(
                input_ids=input_BT.to(self.device),
                attention_mask=mask_BT.to(self.device),
                max_new_tokens=first.max_tokens,
                **options,
            )
        new_BT = output_BT[:, 1:] if self.is_seq2seq else output_BT[:, width:]
        return [self._read(row, len(prompt), first) for row, prompt in zip(new_BT.tolist(), ids, strict=True)]

    def _read(self, tokens, prompt_tokens, request):
        tokenizer, model = self._loaded
        ends = model.generation_config.eos_token_id or []
        count = next((place for place, token in enumerate(tokens) if token in ends), None)
        ended = count is not None
        kept = tokens[:count] if ended else tokens
        text, stopped = cut(tokenizer.decode(kept, skip_special_tokens=True), request.stop)
        return Answer(text, prompt_tokens, len(kept), "stop" if ended or stopped else "length")


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


def _alike(request):
    return (request.max_tokens, request.temperature, request.top_p, request.seed or 0, request.stop)
