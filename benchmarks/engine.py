"""The engine beside RecBole's own: building the data set, its memory, training targets and evaluated users per second.

``python -m benchmarks.engine [--dataset ml-100k] [--data_path FOLDER] [--batches 12] [--rectools PYTHON]``

Theirs is stock RecBole's SASRec on stock rows, of equal size, on the same machine in the same run; "plain PyTorch" is
the SASRec of ``_plain_sasrec.py`` on our windows, with the same loss; RecTools' SASRec runs in a Python of its own.
Memory is that of a fresh process each.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import pandas as pd
import torch
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer

from benchmarks import _rows
from benchmarks._plain_sasrec import PlainSASRec
from recbole_llm.data.dataset import NEXT_ITEMS, ROW_END
from recbole_llm.train.build import build, configure
from recbole_llm.train.trainer import trainer_for

SIZE = {"hidden_size": 64, "n_layers": 2, "n_heads": 2, "inner_size": 256, "show_progress": False}
STOCK = {"history_as_offsets": False, "train_rows": "prefix", "train_batch_size": 2048}
OURS = {"history_as_offsets": True, "train_rows": "dense", "train_batch_size": 64, "enable_amp": True}
PLAIN_LOSS = {"encoder": "sasrec", "position": "learned", "fusion": "id_only", "score": "dot", "loss": "bce"}


def settings(options, rows, length, model="SASRec"):
    """The configuration of one side."""
    given = SIZE | rows | {"dataset": options.dataset, "data_path": options.data_path}
    if model != "SASRec":
        del given["inner_size"]
    return configure(model, given | {"model": model, "MAX_ITEM_LIST_LENGTH": length})


def built(config):
    """The loaders and the seconds that data set and split took."""
    started = perf_counter()
    parts = data_preparation(config, create_dataset(config))
    return parts, perf_counter() - started


def clock():
    """Seconds of the clock, once a GPU has done all that it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()


def targets_per_second(train, step, batches):
    """Training targets per second over ``batches`` batches of ``step(batch)``, after one to warm up."""
    targets, started = 0, None
    for number, batch in enumerate(train):
        step(batch)
        if number == 0:
            started = clock()
            continue
        targets += int((batch[NEXT_ITEMS] > 0).sum()) if NEXT_ITEMS in batch else len(batch)
        if number == batches:
            break
    return targets / (clock() - started)


def stepper(optimizer, loss, autocast=False, device="cpu"):
    """One training step as a function of the batch; ``device`` is the type of what it runs on."""

    def step(batch):
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            value = loss(batch)
        value.backward()
        optimizer.step()

    return step


def training(options, rows, length):
    """Targets per second of SASRec on these rows."""
    config = settings(options, rows, length)
    (train, _, _), _ = built(config)
    model = config.model_class(config, train._dataset).train()
    trainer = trainer_for(config, model)
    step = stepper(trainer.optimizer, model.calculate_loss, autocast=trainer.enable_amp)
    return targets_per_second(train, step, options.batches)


def beside_plain(options, length):
    """Targets per second of SASRec here and in plain PyTorch: same windows, same loss."""
    keys = OURS | PLAIN_LOSS | {"n_negatives": 1, "negatives": "row", "inner_multiplier": 1}
    config = settings(options, keys, length, "LLMSeqRec")
    (train, _, _), _ = built(config)
    ours = config.model_class(config, train._dataset).train()
    trainer = trainer_for(config, ours)
    ours_step = stepper(trainer.optimizer, ours.calculate_loss, autocast=trainer.enable_amp)
    plain = PlainSASRec(ours.n_items, length, 64, 2, 2, config["dropout"])
    adam = torch.optim.Adam(plain.parameters(), 1e-3)
    plain_step = stepper(adam, lambda batch: plain.loss(batch["item_id_list"], batch[NEXT_ITEMS]))
    return [targets_per_second(train, step, options.batches) for step in (ours_step, plain_step)]


def rectools(options, length):
    """Targets per second of RecTools' SASRec on the same training part, by the Python that has it."""
    (train, _, _), _ = built(settings(options, OURS, length))
    data, fields = train._dataset, ("user_id", "item_id", "timestamp")
    place = torch.cat([data.inter_feat[ROW_END], torch.unique(data.user_start[data.inter_feat[ROW_END]])])
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        columns = [data.events[field][place].numpy() for field in fields[:2]] + [
            data.event_times[place].numpy()
        ]
        pd.DataFrame(dict(zip(fields, columns, strict=True))).to_csv(file.name, index=False, header=False)
        script = str(Path(__file__).with_name("_rectools_sasrec.py"))
        arguments = [script, file.name, str(length), str(options.batches)]
        done = subprocess.run([options.rectools, *arguments], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def evaluation(options, rows, length):
    """Evaluated users per second, every item ranked, with a model at its start; the better of two passes."""
    config = settings(options, rows, length)
    (train, valid, _), _, model = build(config) if rows is OURS else (*built(config), None)
    model = model or config.model_class(config, train._dataset)
    trainer = trainer_for(config, model) if rows is OURS else Trainer(config, model)
    trainer.train_data = train
    trainer.eval_collector.data_collect(train)
    seconds = []
    for _ in range(2):
        started = perf_counter()
        trainer.evaluate(valid, load_best_model=False)
        seconds.append(perf_counter() - started)
    return len(valid._dataset) / min(seconds)


def memory(options, side, length):
    """GiB beyond the imports that data set and first batches take, in a process of its own."""
    arguments = [options.dataset, options.data_path, side, str(length)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.engine", "--memory", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def take_memory(dataset, data_path, side, length):
    """Build the data set, take three batches, print what the peak has grown by, in GiB."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on (Linux)
    before = kib("VmRSS")
    rows = STOCK if side == "stock" else OURS
    given = SIZE | rows | {"dataset": dataset, "data_path": data_path, "MAX_ITEM_LIST_LENGTH": int(length)}
    (train, _, _), _ = built(configure("SASRec", given | {"model": "SASRec"}))
    for number, _ in enumerate(train):
        if number == 2:
            break
    print((kib("VmHWM") - before) / 2**20)


def kib(name):
    """A line of ``/proc/self/status``, in KiB: ``VmRSS`` is the memory now, ``VmHWM`` its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main():
    """Measure both sides and print the ratios."""
    if sys.argv[1:2] == ["--memory"]:
        take_memory(*sys.argv[2:])
        return
    arguments = _rows.parser(__doc__)
    arguments.add_argument("--dataset", default="ml-100k")
    arguments.add_argument("--data_path", default="dataset")
    arguments.add_argument("--batches", type=int, default=12)
    arguments.add_argument(
        "--rectools", metavar="PYTHON", help="a Python that has RecTools, to compare with it"
    )
    options = arguments.parse_args()
    seconds = [built(settings(options, rows, 50))[1] for rows in (STOCK, OURS)]
    gib = [memory(options, side, 200) for side in ("stock", "ours")]
    targets = [training(options, OURS, 200), training(options, STOCK, 50)]
    users = [evaluation(options, rows, 50) for rows in (OURS, STOCK)]
    rows = [
        _rows.Row("data set and split, L=50: builds", *(1 / s for s in reversed(seconds)), 10, "per second"),
        _rows.Row(
            "1 / peak memory of data set and three batches, L=200",
            *(1 / g for g in reversed(gib)),
            10,
            "per GiB",
        ),
        _rows.Row("training targets, ours L=200, theirs L=50", *targets, 30, "per second"),
        _rows.Row(
            "training targets beside plain PyTorch, L=200", *beside_plain(options, 200), 1, "per second"
        ),
        _rows.Row("users evaluated, every item ranked, L=50", *users, 1, "per second"),
    ]
    if options.rectools:
        beside = (targets[0], rectools(options, 200))
        rows.append(_rows.Row("training targets beside RecTools, L=200", *beside, 1, "per second"))
    _rows.show(f"{options.dataset}: ours / RecBole's stock SASRec, d=64, 2 layers", rows, options.json)


if __name__ == "__main__":
    main()
