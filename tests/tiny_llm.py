"""Folders with tiny language models of random weights, and a tokenizer of a few words."""

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "red", "blue", "green", "car", "boat", "of", "the", "sea"]


def configs(words=WORDS):
    """A configuration of each kind of model, for a vocabulary of these words."""
    n_words = len(words)
    small = {"vocab_size": n_words, "pad_token_id": 0, "hidden_size": 16, "intermediate_size": 32}
    small |= {"num_attention_heads": 2, "num_hidden_layers": 2, "max_position_embeddings": 32}
    bart = {f"{side}_{part}": 2 for side in ("encoder", "decoder") for part in ("layers", "attention_heads")}
    return {
        "bert": transformers.BertConfig(**small),
        "llama": transformers.LlamaConfig(**small),
        "gpt2": transformers.GPT2Config(vocab_size=n_words, n_embd=16, n_head=2, n_layer=2, n_positions=32),
        "t5": transformers.T5Config(
            vocab_size=n_words, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2
        ),
        "bart": transformers.BartConfig(vocab_size=n_words, d_model=16, max_position_embeddings=32, **bart),
        "electra": transformers.ElectraConfig(
            **small, embedding_size=8
        ),  # words narrower than what it makes of them
        "roberta": transformers.RobertaConfig(
            **small | {"pad_token_id": 1}
        ),  # whose first two places are no events'
    }


def write_tiny_llm(folder, kind, words=WORDS):
    """Save a model of ``kind`` and a tokenizer of ``words``, which begin as ``WORDS`` do, to ``folder``."""
    torch.manual_seed(0)
    transformers.AutoModel.from_config(configs(words)[kind]).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if kind == "bert":
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        padding_side="left",
        model_max_length=32,
    ).save_pretrained(folder)
    return folder
