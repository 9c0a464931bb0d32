"""Our SRGNN beside RecBole's stock SRGNN: training sessions per second, the loss curve, the share of graph building.

``python -m benchmarks.session_engine [--dataset ml-1m-sessions] [--data_path dataset] [--batch 100] [--size 100]``

Then what LLM4SBR adds to a step of each of the ``--backbones`` that it wraps.

Same batches, size, learning rate and weight decay, in the same run, by turns: theirs is RecBole's model and optimiser,
ours as ``properties/model/SRGNN.yaml`` has it. On a CPU, seconds are those that the process itself took, so that what
else runs on the machine counts less; each figure is that of the best round.
"""

from time import process_time

import torch
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer

from benchmarks import _rows
from benchmarks.engine import clock, stepper
from recbole_llm.model import MODELS
from recbole_llm.model.layout import Layout
from recbole_llm.model.session.graph import SessionGraph
from recbole_llm.train.build import build, configure
from recbole_llm.train.trainer import trainer_for

ROUNDS = 3


class Side:
    """One of the two models with its loader and its training step."""

    def __init__(self, options, model, **keys):
        given = {"dataset": options.dataset, "data_path": options.data_path, "show_progress": False}
        given |= {"train_batch_size": options.batch, "MAX_ITEM_LIST_LENGTH": options.length}
        given |= {"artifact_path": options.artifact_path, "train_rows": "prefix"}
        given |= {"learning_rate": 1e-3, "weight_decay": 1e-5, "train_neg_sample_args": None}
        self.config = configure(model, given | keys)
        if model in MODELS:
            parts, _, self.model = build(self.config)
            trainer = trainer_for(self.config, self.model)
        else:
            parts = data_preparation(self.config, create_dataset(self.config))
            self.model = self.config.model_class(self.config, parts[0]._dataset).to(self.config["device"])
            trainer = Trainer(self.config, self.model)
        self.loader, device = parts[0], self.config["device"]
        loss = self.model.train().calculate_loss
        self.losses = []
        self.step = stepper(
            trainer.optimizer,
            lambda batch: self._noted(loss(batch.to(device))),
            trainer.enable_amp,
            torch.device(device).type,
        )

    def _noted(self, loss):
        loss = sum(loss) if isinstance(loss, tuple) else loss
        self.losses.append(loss.detach())
        return loss

    def seconds(self, batches):
        """Seconds of a batch, its loading included, over the first ``batches`` ones of an epoch."""
        started = seconds_now()
        for number, batch in enumerate(self.loader, 1):
            self.step(batch)
            if number == batches:
                break
        return (seconds_now() - started) / number

    def epoch(self):
        """The mean loss of a whole epoch."""
        self.losses.clear()
        self.seconds(len(self.loader))
        return float(torch.stack(self.losses).mean())


def seconds_now():
    """Seconds: of the process on a CPU, of the clock where a GPU works on after the process went on."""
    return clock() if torch.cuda.is_available() else process_time()


def graph_seconds(side, batches):
    """Seconds that the graphs of a batch take, all that a step asks of them."""
    first = [batch.to(side.config["device"]) for batch, _ in zip(side.loader, range(batches), strict=False)]
    started = seconds_now()
    for batch in first:
        layout = Layout.of(batch["item_length"], only_last=True)
        graph = SessionGraph.of(batch["item_id_list"], layout)
        graph.share_before_E, graph.share_after_E, graph.count_N  # noqa: B018 - made when they are asked for
    return (seconds_now() - started) / len(first)


def sized(options, model):
    """The keys that give ``model`` vectors of the asked size throughout."""
    keys = ("hidden_size", "embedding_size")
    known = configure(model, {"dataset": options.dataset, "data_path": options.data_path})
    return {key: options.size for key in keys if known[key] is not None}


def by_turns(sides, batches):
    """Seconds of a batch of each side, the best of some rounds."""
    for side in sides:
        side.seconds(2)
    rounds = [[side.seconds(batches) for side in sides] for _ in range(ROUNDS)]
    return [min(of_one) for of_one in zip(*rounds, strict=True)]


def wrapped(options, name):
    """A step of LLM4SBR over one backbone beside a step of that alone, on the same rows."""
    size = sized(options, name)
    sides = Side(options, "LLM4SBR", backbone=name, **size), Side(options, name, **size)
    return _rows.Row(
        f"a step of LLM4SBR and of {name} (ratio 1.3 at most)", *by_turns(sides, options.batches), None, "s"
    )


def main():
    """Measure both sides and print the ratios."""
    arguments = _rows.parser(__doc__)
    arguments.add_argument("--dataset", default="ml-1m-sessions")
    arguments.add_argument("--data_path", default="dataset")
    arguments.add_argument("--artifact_path", default="artifacts")
    arguments.add_argument("--batch", type=int, default=100, help="sessions of a batch (default: 100)")
    arguments.add_argument("--size", type=int, default=100, help="H (default: 100)")
    arguments.add_argument("--length", type=int, default=50, help="events of a session at most (default: 50)")
    arguments.add_argument("--batches", type=int, default=20, help="of a round (default: 20)")
    arguments.add_argument(
        "--epochs", type=int, default=0, help="whole epochs, for the loss curve (default: 0)"
    )
    arguments.add_argument(
        "--backbones", default="SRGNN", help="that LLM4SBR is put around, commas between (default: SRGNN)"
    )
    options = arguments.parse_args()
    stock = {"no_repeats": False}  # RecBole's knows of no such thing
    ours = Side(options, "SRGNN", **sized(options, "SRGNN"), **stock)
    theirs = Side(options, "RecBole-SRGNN", embedding_size=options.size, **stock)
    curves = [[side.epoch() for _ in range(options.epochs)] for side in (ours, theirs)]
    seconds = by_turns((ours, theirs), options.batches)
    graphs = min(graph_seconds(ours, options.batches) for _ in range(ROUNDS))
    rows = [
        _rows.Row("training sessions", *(options.batch / s for s in seconds), 10, "per second"),
        _rows.Row("a step, in times of its graph building", seconds[0] / graphs, None, 20, "times"),
        *(wrapped(options, name) for name in options.backbones.split(",")),
        *(
            _rows.Row(f"mean loss of epoch {number}", *losses, None, "nats")
            for number, losses in enumerate(zip(*curves, strict=True), 1)
        ),
    ]
    title = f"{options.dataset}: SRGNN, ours / RecBole's, H={options.size}, L={options.length}, batch {options.batch}"
    _rows.show(title, rows, options.json)


if __name__ == "__main__":
    main()
