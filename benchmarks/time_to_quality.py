"""How long until stock SASRec's best validation NDCG@10 is reached: by stock RecBole, and by its SASRec on our rows.

``python -m benchmarks.time_to_quality [--dataset ml-100k] [--data_path FOLDER] [--patience 5] [--minutes 100]``

Stock RecBole trains prefix rows with its full softmax and its own optimiser settings until ``patience`` validations
in a row are no better, or for so many minutes: its best value and the time until then are the mark. Ours trains the
same model on dense windows, of the same length, until it has reached the mark. History not masked, as RecBole does.
Without ``--minutes`` the stock side takes hours on two cores.
"""

from time import perf_counter

from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import init_seed

from benchmarks import _rows
from recbole_llm.train.build import configure
from recbole_llm.train.trainer import trainer_for

SIZE = {"hidden_size": 64, "n_layers": 2, "n_heads": 2, "inner_size": 256, "MAX_ITEM_LIST_LENGTH": 50}
SHARED = SIZE | {"valid_metric": "NDCG@10", "eval_step": 1, "epochs": 300, "show_progress": False}
STOCK = {"history_as_offsets": False, "train_rows": "prefix"}
OURS = {
    "train_rows": "dense",
    "train_batch_size": 16,
    "learning_rate": 3e-3,
    "average_decay": 0.998,
    "enable_amp": True,
}


class Reached(Exception):
    """The mark was reached, or the time is over; ends a training."""


def trained(options, keys, trainer_of, mark=None, minutes=None):
    """Best validation value and the seconds of training and validation until then, or until ``mark`` is reached.

    Training ends after so many ``minutes``, if it has not ended before.
    """
    given = SHARED | keys | {"dataset": options.dataset, "data_path": options.data_path}
    config = configure("SASRec", given | {"model": "SASRec", "stopping_step": options.patience})
    config["checkpoint_dir"] = options.checkpoints
    init_seed(config["seed"], config["reproducibility"])
    train, valid, _ = data_preparation(config, create_dataset(config))
    init_seed(config["seed"], config["reproducibility"])
    trainer = trainer_of(config, config.model_class(config, train._dataset))
    best, when, started = 0.0, 0.0, perf_counter()

    def after_validation(epoch, score):
        nonlocal best, when
        if score > best:
            best, when = score, perf_counter() - started
        print(
            f"{config['train_rows']} epoch {epoch}: {score:.4f}, {perf_counter() - started:.0f} s", flush=True
        )
        if mark is not None and best >= mark or minutes and perf_counter() - started >= 60 * minutes:
            raise Reached

    try:
        trainer.fit(train, valid, verbose=False, saved=False, callback_fn=after_validation)
    except Reached:
        pass
    return best, when


def main():
    """Train both, print when each got there."""
    arguments = _rows.parser(__doc__)
    arguments.add_argument("--dataset", default="ml-100k")
    arguments.add_argument("--data_path", default="dataset")
    arguments.add_argument("--patience", type=int, default=5)
    arguments.add_argument("--minutes", type=float, help="of stock RecBole's training, at most")
    arguments.add_argument("--checkpoints", default="saved", help="folder for what the trainers write")
    options = arguments.parse_args()
    mark, theirs = trained(options, STOCK, Trainer, minutes=options.minutes)
    reached, ours = trained(options, OURS, trainer_for, mark)
    rows = [
        _rows.Row("best validation NDCG@10 (ours: where it stopped)", reached, mark, 1, "value"),
        _rows.Row("times per hour that this is reached", 3600 / ours, 3600 / theirs, 10, "per hour"),
    ]
    _rows.show(f"{options.dataset}: SASRec d=64, L=50", rows, options.json)


if __name__ == "__main__":
    main()
