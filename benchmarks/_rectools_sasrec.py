"""RecTools' SASRec (https://github.com/MobileTeleSystems/RecTools) for ``benchmarks.engine``, in a Python of its own.

``PYTHON benchmarks/_rectools_sasrec.py EVENTS.csv LENGTH BATCHES`` prints its training targets per second: d=64, two
layers, two heads, full softmax, 64 histories of at most LENGTH events a batch. RecTools needs older NumPy and pandas
than this package, of which nothing is imported.
"""

import sys
from time import perf_counter

import pandas as pd
from pytorch_lightning import Callback, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel


class Pace(Callback):
    """Counts targets and time from the end of the first batch on."""

    def __init__(self):
        self.started, self.targets, self.seconds = None, 0, 0.0

    def on_train_batch_end(self, trainer, module, outputs, batch, number):
        """Lightning's hook."""
        now = perf_counter()
        if self.started is None:
            self.started = now
        else:
            self.targets += int((batch["y"] != 0).sum())
            self.seconds = now - self.started


def main():
    """Read the events, train, print."""
    path, length, batches = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    events = pd.read_csv(path, names=[Columns.User, Columns.Item, Columns.Datetime])
    events[Columns.Weight] = 1.0
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}

    def trainer():
        return Trainer(
            max_epochs=1, limit_train_batches=batches + 1, callbacks=[Pace()], accelerator="cpu", **quiet
        )

    size = {"n_factors": 64, "n_blocks": 2, "n_heads": 2, "session_max_len": length, "batch_size": 64}
    model = SASRecModel(loss="softmax", get_trainer_func=trainer, **size).fit(Dataset.construct(events))
    pace = next(callback for callback in model.fit_trainer.callbacks if isinstance(callback, Pace))
    print(pace.targets / pace.seconds)


if __name__ == "__main__":
    main()
