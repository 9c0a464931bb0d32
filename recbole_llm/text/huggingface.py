"""Encoders on local models: any Hugging Face encoder or decoder, and sentence-transformers models as a whole.

Letters: B texts of a batch, T tokens, D width of a vector.
"""

import contextlib
import functools
from collections.abc import Sequence

import numpy as np

from recbole_llm.errors import BackendError, SettingError
from recbole_llm.text.location import Location
from recbole_llm.text.recipe import read_json, read_recipe, token_limit
from recbole_llm.text.vocabulary import unknown

DEFAULT_TOKENS = 512  # of a model that says nothing of sentences: plots and descriptions fit
# Tokens of one pass on a CPU: stays in its cache; 4,096 took a fifth longer (MiniLM on ml-1m, 1 core).
CPU_TOKENS = 512


class _LocalModel:
    """What both kinds of local encoder say of themselves."""

    def __init__(
        self, location: Location, *, device="cpu", batch_size=64, max_tokens=None, compute_dtype="float32"
    ):
        self.location = location
        self.name = location.name
        self.device = device
        self.batch_size = batch_size
        self.compute_dtype = compute_dtype
        said, limit = read_recipe(location.folder).max_tokens, token_limit(location.folder)
        if max_tokens and limit and max_tokens > limit:
            raise SettingError(
                f"max_tokens is {max_tokens:,}, but {self.name} reads at most {limit:,} tokens"
            )
        self.max_tokens = max_tokens or said or min(limit or DEFAULT_TOKENS, DEFAULT_TOKENS)
        self.tokens_read, self.tokens_unknown = 0, 0  # so far; unknown is what the vocabulary has no word for

    def _count(self, tokenizer, ids):
        self.tokens_read += sum(map(len, ids))
        self.tokens_unknown += unknown(tokenizer, ids)

    @property
    def revision(self) -> str:
        """Commit of the hub, else a hash of the files."""
        return self.location.revision

    def describe(self) -> dict:
        """All that the vectors depend on."""
        return {
            "name": self.name,
            "revision": self.revision,
            "pooling": self.pooling,
            "normalise": self.normalise,
            "max_tokens": self.max_tokens,
            "compute_dtype": self.compute_dtype,
        }


class TransformersEncoder(_LocalModel):
    """Token vectors of any Hugging Face model, pooled; of T5 and its like the encoder only.

    Parameters
    ----------
    location : Location
        What `locate` gives.
    pooling : {"mean", "cls", "last"}
        The mean over tokens, the first token, or the last one (for decoders).
    normalise : bool
        Scale every vector to length 1.
    """

    def __init__(self, location: Location, *, pooling: str = "mean", normalise: bool = False, **options):
        super().__init__(location, **options)
        self.pooling = pooling
        self.normalise = normalise

    @functools.cached_property
    def dimension(self) -> int:
        """D, the width of a vector; read from the files where they say it plainly."""
        config = read_json(self.location.folder / "config.json")
        said = next(
            (config[key] for key in ("hidden_size", "d_model", "n_embd", "dim") if key in config), None
        )
        return said or self.encode(["width"]).shape[1]

    @functools.cached_property
    def _loaded(self):
        """Tokenizer and model, loaded at the first text."""
        import torch
        from transformers import (
            MODEL_FOR_TEXT_ENCODING_MAPPING,
            AutoConfig,
            AutoModel,
            AutoModelForTextEncoding,
            AutoTokenizer,
        )

        folder, trust = self.location.folder, self.location.trust_remote_code
        options = {"trust_remote_code": trust, "local_files_only": True}
        if trust:
            options["code_revision"] = self.location.commit
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
            config = AutoConfig.from_pretrained(folder, **options)
            is_t5_like = config.is_encoder_decoder and type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING
            model, info = (AutoModelForTextEncoding if is_t5_like else AutoModel).from_pretrained(
                folder,
                dtype=getattr(torch, self.compute_dtype),
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
        random = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))
        if random:
            raise BackendError(
                f"{self.name} lacks {len(random)} weights, e.g. {random[0]}; its vectors would be random. "
                "The folder is damaged, or of a kind that transformers does not know"
            )
        if config.is_encoder_decoder and not is_t5_like:
            model = model.get_encoder()
        return tokenizer, model.to(self.device).eval()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(n, D) float32, row by row with ``texts``; the longest first, padded to the longest of a pass."""
        import torch

        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        tokenizer, model = self._loaded
        ids = tokenizer(list(texts), truncation=True, max_length=self.max_tokens, padding=False)["input_ids"]
        self._count(tokenizer, ids)
        vectors = None
        with torch.inference_mode():
            for rows in _passes([len(tokens) for tokens in ids], self.batch_size, self._pass_tokens):
                pooled = self._pool(model, [ids[row] for row in rows]).float().cpu().numpy()
                if vectors is None:
                    vectors = np.empty((len(ids), pooled.shape[1]), dtype=np.float32)
                vectors[rows] = pooled
        return vectors

    @property
    def _pass_tokens(self):
        return CPU_TOKENS if self.device == "cpu" else self.batch_size * self.max_tokens

    def _pool(self, model, ids):
        """(B, D): the vectors of one pass.

        Padding stands on the right for every model: positions then count from the first real token, and
        under a causal mask no real token sees it, so that the last one is where the mask ends.
        """
        import torch

        width = max(1, max(map(len, ids)))
        ids_BT = torch.zeros((len(ids), width), dtype=torch.long)
        mask_BT = torch.zeros((len(ids), width), dtype=torch.long)
        for row, tokens in enumerate(ids):
            ids_BT[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
            mask_BT[row, : len(tokens)] = 1
        ids_BT, mask_BT = ids_BT.to(self.device), mask_BT.to(self.device)
        hidden_BTD = model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state.float()
        if self.pooling == "mean":
            weight_BT1 = mask_BT.unsqueeze(-1).float()
            pooled_BD = (hidden_BTD * weight_BT1).sum(1) / weight_BT1.sum(1).clamp(min=1)
        else:
            last_B = (
                (mask_BT.sum(1) - 1).clamp(min=0) if self.pooling == "last" else mask_BT.new_zeros(len(ids))
            )
            pooled_BD = hidden_BTD[torch.arange(len(ids), device=self.device), last_B]
        return torch.nn.functional.normalize(pooled_BD, dim=1) if self.normalise else pooled_BD


class SentenceTransformerEncoder(_LocalModel):
    """A sentence-transformers model as a whole: with its prompts, dense layers and norms."""

    pooling = None
    normalise = None

    @functools.cached_property
    def _loaded(self):
        import torch
        from sentence_transformers import SentenceTransformer

        for pickled in self.location.folder.rglob("pytorch_model.bin"):
            if not pickled.with_name("model.safetensors").is_file():
                raise BackendError(
                    f"{pickled} is a pickle, which is not read; convert it to model.safetensors"
                )
        with _quiet():
            model = SentenceTransformer(
                str(self.location.folder),
                device=self.device,
                trust_remote_code=self.location.trust_remote_code,
                local_files_only=True,
                model_kwargs={"use_safetensors": True, "dtype": getattr(torch, self.compute_dtype)},
            )
        model.max_seq_length = self.max_tokens
        return model

    @functools.cached_property
    def dimension(self) -> int:
        """D, the width of a vector."""
        return self.encode(["width"]).shape[1]

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(n, D) float32, row by row with ``texts``."""
        tokenizer = self._loaded.tokenizer
        self._count(
            tokenizer, tokenizer(list(texts), truncation=True, max_length=self.max_tokens)["input_ids"]
        )
        vectors = self._loaded.encode(list(texts), batch_size=self.batch_size, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)


def _passes(lengths, most_texts, most_tokens):
    """Rows of each pass, the longest first: at most so many texts, and so many tokens with padding."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    first = 0
    while first < len(order):
        number = max(1, min(most_texts, most_tokens // max(1, lengths[order[first]])))
        yield order[first : first + number]
        first += number


@contextlib.contextmanager
def _quiet():
    """Loading bars of transformers switched off: they would break through ours."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()
