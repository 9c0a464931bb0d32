"""Training targets per second and memory of the rows: RecBole's stock SASRec on its own rows, and ours on windows.

``python -m benchmarks.training_speed [--dataset ml-100k] [--batches 12]``; same size, same data, same machine, one run.
"""

import tracemalloc
from time import perf_counter

from recbole.data import data_preparation
from recbole.data.dataset import SequentialDataset

from benchmarks import _rows
from recbole_llm.data.dataset import NEXT_ITEMS, OffsetDataset
from recbole_llm.train.run import configure
from recbole_llm.train.trainer import trainer_for

SIZE = {"hidden_size": 64, "n_layers": 2, "n_heads": 2, "inner_size": 256, "MAX_ITEM_LIST_LENGTH": 50}


def built(dataset_class, rows, options):
    """The training loader, the seconds that its data set took, and the bytes that its rows take."""
    given = SIZE | {"dataset": options.dataset, "data_path": options.data_path, "train_rows": rows}
    given |= {"train_batch_size": 2048 if rows == "prefix" else 64, "show_progress": False}
    config = configure("SASRec", given)
    tracemalloc.start()
    started = perf_counter()
    train = data_preparation(config, dataset_class(config))[0]
    seconds = perf_counter() - started
    tracemalloc.stop()
    stored = sum(t.nbytes for t in train._dataset.inter_feat.interaction.values())
    if dataset_class is OffsetDataset:
        stored += sum(t.nbytes for t in train._dataset.events.interaction.values())
    return config, train, seconds, stored


def targets_per_second(config, train, batches):
    """Training targets per second over ``batches`` batches, after one to warm up."""
    model = config.model_class(config, train._dataset)
    trainer = trainer_for(config, model)
    model.train()
    targets, started = 0, None
    for number, batch in enumerate(train):
        trainer.optimizer.zero_grad()
        model.calculate_loss(batch).backward()
        trainer.optimizer.step()
        if number == 0:
            started = perf_counter()
            continue
        targets += int((batch[NEXT_ITEMS] > 0).sum()) if NEXT_ITEMS in batch else len(batch)
        if number == batches:
            break
    return targets / (perf_counter() - started)


def main():
    """Build both, train both for some batches, print the ratios."""
    arguments = _rows.parser(__doc__)
    arguments.add_argument("--dataset", default="ml-100k")
    arguments.add_argument("--data_path", default="dataset")
    arguments.add_argument("--batches", type=int, default=12)
    options = arguments.parse_args()
    stock = built(SequentialDataset, "prefix", options)
    ours = built(OffsetDataset, "dense", options)
    speeds = [targets_per_second(config, train, options.batches) for config, train, _, _ in (ours, stock)]
    rows = [
        _rows.Row("training targets, full softmax, SASRec d=64 L=50", *speeds, 10, "per second"),
        _rows.Row(
            "time to build the data set (theirs / ours is the gain)", ours[2], stock[2], None, "seconds"
        ),
        _rows.Row("memory of the training rows", ours[3] / 2**20, stock[3] / 2**20, None, "MiB"),
    ]
    _rows.show(f"{options.dataset}: ours / RecBole's stock SASRec", rows, options.json)


if __name__ == "__main__":
    main()
