"""How time grows when events, items and window length are doubled, and what a training step spends outside matrix work.

``python -m benchmarks.growth [--events 200000] [--items 2000] [--length 50] [--steps 20]``

The data is made anew by a seeded generator; each size is measured at once, twice and four times its start, and the
exponent is the slope of the line through the three points on logarithmic axes: 1 means that twice as much takes twice
as long.
"""

import tempfile
from time import perf_counter

import numpy as np
import torch

from benchmarks import _rows
from benchmarks._synthetic import write_shop
from recbole_llm.train.build import build, configure
from recbole_llm.train.trainer import trainer_for

FACTORS = (1, 2, 4)
EVENTS_PER_USER = 200  # so that windows of every length tried are full
MATRIX_WORK = ("aten::mm", "aten::addmm", "aten::bmm", "aten::_scaled_dot_product")
MODEL = {"fusion": "id_only", "train_batch_size": 64, "show_progress": False, "metrics": ["Recall", "NDCG"]}


def measure(events, items, length, steps):
    """Seconds for building the data set, for ``steps`` training steps and for a validation; the step as a function."""
    with tempfile.TemporaryDirectory() as folder:
        write_shop(folder, events, items, events_per_user=EVENTS_PER_USER)
        given = MODEL | {
            "model": "LLMSeqRec",
            "dataset": "shop",
            "data_path": folder,
            "checkpoint_dir": folder,
        }
        config = configure("LLMSeqRec", given | {"MAX_ITEM_LIST_LENGTH": length, "valid_users": 2_000})
        started = perf_counter()
        (train, valid, _), _, model = build(config)
        built = perf_counter() - started
        trainer = trainer_for(config, model)
        trainer.train_data = train
        batches = [batch for batch, _ in zip(train, range(steps + 1), strict=False)]

        def step(batch):
            trainer.optimizer.zero_grad()
            with torch.autocast("cpu", enabled=trainer.enable_amp):
                loss = model.calculate_loss(batch)
            loss.backward()
            trainer.optimizer.step()

        model.train()
        step(batches[0])
        started = perf_counter()
        for batch in batches[1:]:
            step(batch)
        trained = perf_counter() - started
        started = perf_counter()
        trainer.evaluate(valid, load_best_model=False)
        return {"build": built, "train": trained, "evaluate": perf_counter() - started}, lambda: step(
            batches[1]
        )


def share_outside_matrix_work(step):
    """The part of a step's time that is neither a matrix product nor attention, by PyTorch's profiler."""
    for _ in range(2):  # the first one pays for the profiler's start
        with torch.profiler.profile() as profile:
            for _ in range(3):
                step()
    spent = {entry.key: entry.self_cpu_time_total for entry in profile.key_averages()}
    matrix = sum(time for name, time in spent.items() if name.startswith(MATRIX_WORK))
    return 1 - matrix / sum(spent.values())


def main():
    """Double each size, fit, profile, print."""
    arguments = _rows.parser(__doc__)
    arguments.add_argument("--events", type=int, default=200_000)
    arguments.add_argument("--items", type=int, default=2_000)
    arguments.add_argument("--length", type=int, default=50)
    arguments.add_argument("--steps", type=int, default=20)
    options = arguments.parse_args()
    start = {"events": options.events, "items": options.items, "length": options.length}
    first, step = measure(**start, steps=options.steps)
    share = share_outside_matrix_work(step)
    rows = [
        _rows.Row("share of a training step outside matrix work (0.25 at most)", share, None, None, "share")
    ]
    for size in start:
        more = [measure(**start | {size: start[size] * k}, steps=options.steps)[0] for k in FACTORS[1:]]
        for what in first:
            seconds = [first[what], *(found[what] for found in more)]
            exponent = np.polyfit(np.log(FACTORS), np.log(seconds), 1)[0]
            measured = ", ".join(f"{s:.2f}" for s in seconds)
            rows.append(
                _rows.Row(f"{what}, {size} x 1, 2, 4: {measured} s", exponent, None, None, "exponent")
            )
    _rows.show(f"from {start}, 2 layers, d=64", rows, options.json)


if __name__ == "__main__":
    main()
