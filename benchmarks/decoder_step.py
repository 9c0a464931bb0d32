"""A training step of HierLLMRec whose Recommendation LLM is a causal language model of half a billion weights.

``python -m benchmarks.decoder_step [--mode lora] [--batch 32] [--length 200] [--items 100000] [--steps 10]``

By default the architecture is that of Qwen2.5-0.5B (https://arxiv.org/abs/2412.15115) with random weights; behind its
word embeddings, which are dropped, 358 of its 494 million weights are left. Histories are made anew by a seeded
generator and are longer than the windows, so that nearly no padding is multiplied. The ceiling is a bfloat16 product of
two square matrices in the same run; the products of a step are counted by PyTorch, those that ``--recompute`` makes
twice twice.
"""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import _rows
from benchmarks._synthetic import write_shop
from benchmarks.engine import clock, stepper
from benchmarks.scale import peak
from recbole_llm.train.build import build, configure
from recbole_llm.train.trainer import trainer_for

TEXT_SIZE = 384  # of an item's vector, as MiniLM's
WARM_UP = 2  # steps, in which a GPU chooses its kernels


def write_architecture(folder, options):
    """Write the ``config.json`` of a causal language model, without weights."""
    from transformers import Qwen2Config

    Qwen2Config(
        hidden_size=options.width,
        intermediate_size=options.inner,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.key_heads,
        vocab_size=8,  # no word is ever read
        max_position_embeddings=32_768,
        rope_theta=1e6,
        architectures=["Qwen2ForCausalLM"],
    ).save_pretrained(folder)


def write_vectors(folder, n_items):
    """Write random vectors, and the tokens of all items that the made-up shop may have."""
    vectors = np.random.default_rng(0).standard_normal((n_items, TEXT_SIZE), np.float32)
    np.save(folder / "vectors.npy", vectors)
    (folder / "tokens.txt").write_text("\n".join(map(str, range(n_items))), encoding="utf-8")
    return str(folder / "vectors.npy")


def built(options, folder):
    """The loader of training windows, the trainer and the model."""
    write_architecture(folder / "llm", options)
    events = options.batch * options.length * 4 * (WARM_UP + options.steps)
    write_shop(folder, events, options.items, events_per_user=2 * options.length)
    given = {
        "model": "HierLLMRec",
        "dataset": "shop",
        "data_path": str(folder),
        "checkpoint_dir": str(folder),
    }
    given |= {"text_fields": [], "text_vectors": {"made_up": write_vectors(folder, options.items)}}
    given |= {"artifact_path": str(folder / "artifacts"), "text_join": False}
    given |= {"rec_llm": "decoder", "rec_llm_path": str(folder / "llm"), "rec_init": "random"}
    given |= {"rec_llm_mode": options.mode, "llm_recompute": options.recompute, "average_decay": "None"}
    given |= {"MAX_ITEM_LIST_LENGTH": options.length, "train_batch_size": options.batch}
    config = configure("HierLLMRec", given | {"show_progress": False})
    (train, *_), _, model = build(config)
    trainer = trainer_for(config, model)
    trainer.train_data = train
    return train, trainer, model.train()


def seconds_of(work):
    """What a piece of work takes, a GPU's included."""
    started = clock()
    work()
    return clock() - started


def ceiling(device, size, rounds=10):
    """Operations a second of a bfloat16 product of two (size, size) matrices: the best of some rounds."""
    left, right = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    return 2 * size**3 / min(seconds_of(lambda: left @ right) for _ in range(rounds))


def measure(options, folder):
    """The rows of the table."""
    train, trainer, model = built(options, Path(folder))
    device = trainer.device
    step = stepper(trainer.optimizer, model.calculate_loss, trainer.enable_amp, device.type)
    batches = [batch.to(device) for batch, _ in zip(train, range(WARM_UP + options.steps), strict=False)]
    with FlopCounterMode(display=False) as counter:
        step(batches[0])
    for batch in batches[1:WARM_UP]:
        step(batch)
    seconds = [seconds_of(partial(step, batch)) for batch in batches[WARM_UP:]]
    events = np.mean([int(batch["item_length"].sum()) for batch in batches[WARM_UP:]])
    speed, most = counter.get_total_flops() / np.median(seconds), ceiling(device, options.square)
    gib = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else peak()
    weights = sum(weight.numel() for weight in model.rec_llm.parameters())
    learning = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    yield _rows.Row("weights of the Recommendation LLM", weights / 1e6, None, None, "million")
    yield _rows.Row("weights that learn, head and items included", learning / 1e6, None, None, "million")
    yield _rows.Row("a step", 1000 * float(np.median(seconds)), None, None, "ms")
    yield _rows.Row("events read", events / float(np.median(seconds)), None, None, "per second")
    yield _rows.Row("peak memory", gib, None, None, "GiB")
    yield _rows.Row("products; theirs: one product of bfloat16", speed / 1e12, most / 1e12, None, "TFLOP/s")


def main(arguments=None):
    """Make, build, train some steps, print."""
    parser = _rows.parser(__doc__)
    for name, value in {"width": 896, "inner": 4864, "layers": 24, "heads": 14, "key_heads": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"of the decoder (default: {value})")
    parser.add_argument("--mode", choices=("full", "lora"), default="full", help="what of it learns")
    parser.add_argument("--recompute", action="store_true", help="activations anew on the way back")
    parser.add_argument("--batch", type=int, default=32, help="windows (default: 32)")
    parser.add_argument("--length", type=int, default=200, help="events of a window (default: 200)")
    parser.add_argument("--items", type=int, default=100_000, help="of the catalogue (default: 100,000)")
    parser.add_argument("--steps", type=int, default=10, help="that are timed (default: 10)")
    parser.add_argument("--square", type=int, default=8192, help="of the ceiling's product (default: 8192)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        rows = list(measure(options, folder))
    title = f"{options.layers} layers of {options.width}, {options.mode}, {options.batch} windows of {options.length}"
    _rows.show(title, rows, options.json)


if __name__ == "__main__":
    main()
