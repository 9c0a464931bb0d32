"""Ten million interactions of a million items: time and memory of data set, training steps and evaluation.

``python -m benchmarks.scale [--events 10000000] [--items 1000000] [--steps 200] [--users 1000]``

The data is made anew by a seeded generator. Sampled softmax, dense windows, d=64, L=50.
"""

import resource
import tempfile
from time import perf_counter

from benchmarks import _rows
from benchmarks._synthetic import write_shop
from recbole_llm.train.build import build, configure
from recbole_llm.train.trainer import trainer_for

MODEL = {
    "fusion": "id_only",
    "loss": "ssm",
    "MAX_ITEM_LIST_LENGTH": 50,
    "train_batch_size": 128,
    "average_decay": "None",
    "show_progress": False,
    "metrics": ["Recall", "NDCG"],
}


def peak():
    """GiB that this process has taken at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main():
    """Make, build, train, evaluate, print."""
    arguments = _rows.parser(__doc__)
    arguments.add_argument("--events", type=int, default=10_000_000)
    arguments.add_argument("--items", type=int, default=1_000_000)
    arguments.add_argument("--steps", type=int, default=200)
    arguments.add_argument("--users", type=int, default=1_000, help="of the validation part")
    options = arguments.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        started = perf_counter()
        events = write_shop(folder, options.events, options.items)
        rows.append(_rows.Row(f"make {events:,} events", perf_counter() - started, None, None, "seconds"))
        given = MODEL | {"data_path": folder, "valid_users": options.users, "checkpoint_dir": folder}
        rows += [_rows.Row(*row) for row in measure(given, options.steps)]
    _rows.show(f"{options.events:,} events, {options.items:,} items", rows, options.json)


def measure(given, steps):
    """The fields of a row for each stage: data set and model, training, evaluation."""
    started = perf_counter()
    config = configure("LLMSeqRec", given | {"dataset": "shop", "model": "LLMSeqRec"})
    (train, valid, _), _, model = build(config)
    yield "build data set, split and model", perf_counter() - started, None, None, "seconds"
    yield "peak memory so far", peak(), None, None, "GiB"
    trainer = trainer_for(config, model)
    trainer.train_data, started = train, perf_counter()
    model.train()
    for step, batch in enumerate(train):
        if step == steps:
            break
        trainer.optimizer.zero_grad()
        model.calculate_loss(batch).backward()
        trainer.optimizer.step()
    yield f"{steps} training steps", perf_counter() - started, None, None, "seconds"
    started = perf_counter()
    model.eval()
    trainer.evaluate(valid, load_best_model=False)
    yield f"evaluation of {len(valid._dataset):,} users", perf_counter() - started, None, None, "seconds"
    yield "peak memory of it all (6 at most, goal 3)", peak(), None, None, "GiB"


if __name__ == "__main__":
    main()
