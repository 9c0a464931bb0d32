"""The main job: from a model's name and a data set's to a report, in steps one can read."""

import json
import os
import shutil
import sys
from datetime import datetime
from pathlib import Path

from ..config import read_arguments, read_files
from ..data.texts import attach_text_vectors
from ..errors import SettingError
from ..evaluation import report
from ..evaluation.manifest import manifest_of
from . import on_ray, parallel, stages
from .build import SETTINGS, build, configure_baseline, configured, training_part
from .outcome import best_of, costs, test
from .resume import LAST
from .screen import Screen
from .trainer import trainer_for

VALIDATION = "validation.json"  # what ``validate`` leaves


def main(arguments=None):
    """Run what the command line asks for; returns the folder of the run.

    ``--resume=<folder>`` goes on with an interrupted run under its own settings.
    """
    given = read_arguments(sys.argv[1:] if arguments is None else arguments)
    if "resume" in given:
        place = Path(given["resume"]) / SETTINGS
        if not place.is_file():
            raise SettingError(f"resume: no {place}; give the folder of a run that was made with saved: True")
        before = json.loads(place.read_text(encoding="utf-8"))
        given = before | given
    return start(_complete(given))


def start(given):
    """``run`` in this process, or in as many of this machine or of a Ray cluster as ``nproc`` asks for.

    Returns the folder of the run.
    """
    asked = str(given.get("nproc", 1))
    if not asked.isdigit() or not int(asked):
        raise SettingError(f"nproc is {asked}, expected 1 or more processes")
    processes = int(asked)
    if given.get("ray_address"):
        return on_ray.launch(run, given, processes, given["ray_address"])
    if processes != 1 and "WORLD_SIZE" not in os.environ:
        return parallel.launch(run, given, processes)
    with parallel.joined():  # of the processes that torchrun started, if it did
        return run(given)


def _complete(given):
    """``given`` with the model and the data set, which a configuration file may name too."""
    in_files = read_files(given.get("config_files", "").split())
    given = {key: in_files[key] for key in ("model", "dataset") if key in in_files} | given
    missing = [key for key in ("model", "dataset") if key not in given]
    if missing:
        raise SettingError(f"--{' and --'.join(missing)} not given; e.g. --model=LLMSeqRec --dataset=ml-100k")
    return given


def embed(arguments=None):
    """Make the text vectors of the run that the command line asks for; returns their manifests by field."""
    given = _complete(read_arguments(sys.argv[1:] if arguments is None else arguments))
    config = configured(given)
    return attach_text_vectors(config, training_part(config), config["device"])


def run(given):
    """Train ``given["model"]`` on ``given["dataset"]``, its baseline beside it, evaluate both and write the report."""
    config = configured(given)
    if config["nproc"] > parallel.world():
        raise SettingError(f"nproc: {config['nproc']} stands in a file; give --nproc on the command line")
    baseline = None
    if config["baseline"] and config["baseline"] != config["model"]:
        baseline = configure_baseline(config)  # before anything is trained: it may be refused
    folder = folder_of(config)
    screen, first = Screen(folder, quiet=parallel.rank() > 0), parallel.rank() == 0
    if first:
        report.write_json(folder / SETTINGS, given)
    outcomes = [train_and_test(config, folder, screen)]
    if config["refit"]:
        outcomes.append(refit(given, outcomes[0], folder, screen))
    if baseline:
        outcomes.append(train_and_test(baseline, folder / "baseline", screen))
    if first:
        report.write(folder, outcomes, manifest_of(config, outcomes))
    if first and config["saved"] is False:
        drop_weights(folder)
    screen.results(outcomes, folder)
    return folder


def refit(given, first, folder, screen):
    """Train on training + validation for as many epochs as were best on validation: the model one would serve."""
    asked = first.settings["eval_args"]
    kind, parts = next(iter(asked["split"].items()))
    joined = "test_only" if kind == "LS" else [parts[0] + parts[1], 0, parts[2]]
    fixed = {"eval_args": asked | {"split": {kind: joined}}, "epochs": first.best_epoch + 1, "eval_step": 0}
    outcome = train_and_test(configured(given | fixed), folder / "refit", screen)
    outcome.name += " (refit on training + validation)"
    return outcome


def validate(given, after_validation=None, keep_weights=False):
    """Train ``given["model"]`` and stop before the test part, which a search must not see; returns the run's folder.

    What the validation found stands in its ``validation.json``. ``after_validation`` is called with the trainer, and
    where a training is taken up once before it goes on, for it may have been killed before that was heard.
    """
    config = configured(given)
    folder = folder_of(config)
    report.write_json(folder / SETTINGS, given)
    trainer, _, _ = train(config, folder, Screen(folder), after_validation)
    best = best_of(trainer)
    found = {
        "metric": config["valid_metric"],
        "score": float(trainer.best_valid_score),
        "epoch": best["epoch"],
    }
    report.write_json(folder / VALIDATION, found | {"epochs": len(trainer.curve)} | costs(trainer))
    if not keep_weights:
        drop_checkpoints(folder)
    return folder


def train_and_test(config, folder, screen):
    """Data, model, training, test: one model from its configuration to its ``Outcome``."""
    trainer, test_data, texts = train(config, folder, screen)
    return test(trainer, test_data, config, screen, texts)


def train(config, folder, screen, after_validation=None):
    """The trainer of a trained model, the test part, and the manifests of the texts by field.

    A model of two stages is pretrained in a folder within.
    """
    seconds_before = 0.0
    if stages.pretrains(config):
        pretrained, *_ = _train(stages.first(config), folder / stages.PRETRAINED, screen)
        stages.second(config, pretrained.saved_model_file)
        seconds_before = sum(entry["seconds"] for entry in pretrained.curve)
    trainer, test_data, texts = _train(config, folder, screen, after_validation)
    trainer.seconds_before = seconds_before
    return trainer, test_data, texts


def _train(config, folder, screen, after_validation=None):
    config["checkpoint_dir"] = str(folder / "checkpoint")
    (folder / "checkpoint").mkdir(parents=True, exist_ok=True)
    config.taken_up = bool(config["resume"]) and (folder / "checkpoint" / LAST).is_file()
    (train_data, valid_data, test_data), texts, model = build(config)
    trainer = trainer_for(config, model)
    fit(trainer, train_data, valid_data, config, folder, screen, after_validation)
    return trainer, test_data, texts


def fit(trainer, train_data, valid_data, config, folder, screen, after_validation=None):
    """Train; Ctrl-C keeps the best weights so far and says how to go on."""
    if config.taken_up:
        trainer.resume_checkpoint(folder / "checkpoint" / LAST)
        if after_validation:
            after_validation(trainer)

    def after_epoch(epoch):
        screen.epoch(trainer, epoch)
        if after_validation:
            after_validation(trainer)

    trainer.on_epoch = after_epoch
    screen.begin(trainer, train_data)
    try:
        trainer.fit(train_data, valid_data, saved=True, show_progress=config["show_progress"])
    except KeyboardInterrupt:
        if not Path(trainer.saved_model_file).is_file():
            trainer.save_weights(len(trainer.curve))
        screen.interrupted(folder)
        raise


def drop_weights(folder):
    """Remove all that is not the report; ``saved: False`` asks for it."""
    drop_checkpoints(folder)
    (folder / SETTINGS).unlink()


def drop_checkpoints(folder):
    """Remove the weights of a run and of the trainings beside its main one, whose folders hold nothing else."""
    for checkpoint in sorted(folder.rglob("checkpoint"), reverse=True):  # the inner ones first
        shutil.rmtree(checkpoint)
        if checkpoint.parent != folder and not any(checkpoint.parent.iterdir()):
            checkpoint.parent.rmdir()


def folder_of(config):
    """The folder of this run: the one it resumes, or a new one under ``run_path``."""
    if config["resume"]:
        return Path(config["resume"])
    now = parallel.agreed(f"{datetime.now():%Y%m%d-%H%M%S}")
    name = f"{config['model']}-{config['dataset']}-{config['seed']}-{now}"
    folder = Path(config["run_path"]) / (config["run_name"] or name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
