"""The commands; each verb is a short call, and an error of the house is one sentence, not a traceback."""

import sys
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from dataset_prep import PrepError

from .errors import ArtifactError, BackendError, DataError, SettingError


@contextmanager
def _one_sentence():
    """Say what went wrong in one sentence and leave with status 2; Ctrl-C leaves with 130, as shells expect."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except (ArtifactError, BackendError, DataError, PrepError, SettingError) as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            f"[bold red]{type(error).__name__}:[/] ", end=""
        )
        print(error, file=sys.stderr)
        sys.exit(2)


def train(arguments=None):
    """``recbole-llm train`` and ``run_recbole_llm.py``: run one model and, if asked, its baseline and its refit."""
    with _one_sentence():
        from .train.run import main

        main(arguments)


def embed(arguments=None):
    """``recbole-llm embed``: make the text vectors that the same words to ``train`` would make, and train nothing."""
    with _one_sentence():
        from .train.run import embed

        embed(arguments)


def prep(arguments=None):
    """``recbole-llm prep --dataset=ml-1m [--raw_path=...] [--data_path=dataset]``: make the atomic files alone.

    ``recbole-llm prep sessions --dataset=ml-1m [--gap_minutes=10]``: cut its histories into sessions.
    """
    with _one_sentence():
        from dataset_prep import prepare, sessions

        from .config import read_arguments

        words = sys.argv[1:] if arguments is None else arguments
        if words[:1] == ["sessions"]:
            return sessions.main(words[1:])
        given = read_arguments(words)
        known = {"dataset", "raw_path", "data_path"}
        if set(given) - known or "dataset" not in given:
            raise SettingError(
                f"prep takes --dataset, --raw_path and --data_path, found {', '.join(given) or 'none'}"
            )
        print(prepare(given["dataset"], given.get("raw_path"), given.get("data_path", "dataset")))


def export(arguments=None):
    """``recbole-llm export --run=runs/<name> [--to=<folder>]``: the model as ONNX and item tables."""
    with _one_sentence():
        from .config import read_arguments
        from .serving.export import export as write
        from .train.build import restore

        given = read_arguments(sys.argv[1:] if arguments is None else arguments)
        if set(given) - {"run", "to"} or "run" not in given:
            raise SettingError(f"export takes --run and --to, found {', '.join(given) or 'none'}")
        model, dataset = restore(given["run"])
        tokens = dataset.field2id_token[dataset.iid_field]
        print(write(model, tokens, given.get("to") or Path(given["run"]) / "export"))


def generate(arguments=None):
    """``recbole-llm generate items --dataset=ml-1m --backend=transformers --llm=<folder or hub id> [--dry_run]``.

    Also ``users``, ``sessions`` and ``blocks``; the keys are those of ``properties/llm.yaml``.
    """
    with _one_sentence():
        from .config import read_arguments
        from .train.generation import run

        kind, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
        place = run(kind, read_arguments(rest))
        if place:
            print(place)


def cache(arguments=None):
    """``recbole-llm cache stats|export|import|prune [--cache=artifacts/answers.sqlite]``.

    ``export`` and ``import`` take ``--file``; ``prune`` takes ``--older_than_days``, ``--backend`` or both.
    """
    with _one_sentence():
        from .config import read_arguments
        from .llm.cache import Cache
        from .llm.shelf import bring_in, counts, export, prune

        what, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
        given = read_arguments(rest)
        place = Path(given.pop("cache", "artifacts/answers.sqlite"))
        takes = {
            "stats": (),
            "export": ("file",),
            "import": ("file",),
            "prune": ("older_than_days", "backend"),
        }
        if what not in takes or set(given) - set(takes[what]) or (takes[what] and not given):
            wants = {verb: " or ".join(f"--{key}" for key in keys) for verb, keys in takes.items()}
            raise SettingError(
                "cache takes stats, export, import (both with --file) or prune (with "
                f"{wants['prune']}), found {' '.join([what, *(f'--{key}' for key in given)]) or 'none'}"
            )
        if not place.is_file() and what != "import":
            raise ArtifactError(f"no cache {place}; give --cache")
        days = given.get("older_than_days")
        if days is not None and not days.replace(".", "", 1).isdigit():
            raise SettingError(f"older_than_days is {days}, expected a number of days")
        with Cache(place) as answers:
            match what:
                case "stats":
                    for backend, revision, template, number, read, written in counts(answers):
                        print(
                            f"{backend} ({revision[:12]})  {template}  {number:,} answers, "
                            f"{read:,} tokens read, {written:,} written"
                        )
                    print(f"{len(answers):,} answers in {place}, {place.stat().st_size / 2**20:.1f} MiB")
                case "export":
                    print(f"{export(answers, given['file']):,} answers in {given['file']}")
                case "import":
                    new, there = bring_in(answers, given["file"])
                    print(f"{new:,} new of {there:,} answers in {given['file']}")
                case "prune":
                    removed = prune(answers, None if days is None else float(days), given.get("backend"))
                    print(f"{removed:,} answers removed, {len(answers):,} left")


def doctor(arguments=None):
    """``recbole-llm doctor [--dataset=ml-1m] [--texts] [--llm_url=...]``: what is amiss here, and the cure."""
    with _one_sentence():
        from .config import read_arguments
        from .doctor import examine

        if not examine(read_arguments(sys.argv[1:] if arguments is None else arguments)):
            sys.exit(1)


def benchmark(arguments=None):
    """``recbole-llm benchmark --models=SASRec-strong,LLMSeqRec --datasets=ml-100k --seeds=2020,2021 --trials=4``.

    Also ``--out=<folder>``, ``--workers=2`` trainings at a time, ``--ray_address`` with the ``--cpus`` and ``--gpus``
    of each; other keys go to every training.
    """
    with _one_sentence():
        from .experiment.benchmark import run
        from .experiment.plan import plan_from

        _study(plan_from, run, arguments, "benchmark")


def ablate(arguments=None):
    """``recbole-llm ablate --model=LLMSeqRec --datasets=ml-100k --seeds=2020,2021 [--switches=parts,controls]``."""
    with _one_sentence():
        from .experiment.ablation import plan_from
        from .experiment.benchmark import run

        _study(plan_from, run, arguments, "ablation")


def tune(arguments=None):
    """``recbole-llm tune --model=LLMSeqRec --dataset=ml-100k --trials=12 [--search=optuna] [--resume=<folder>]``."""
    with _one_sentence():
        from .config import read_arguments
        from .experiment.sweep import plan_from, resumed, run_sweep

        given = read_arguments(sys.argv[1:] if arguments is None else arguments)
        address, place = given.pop("ray_address", None), given.pop("resume", None)
        if place:
            if given:
                raise SettingError(
                    f"a search goes on as it was begun, found --{' --'.join(given)} beside --resume; leave that out, "
                    "or begin another search with another --out"
                )
            print(run_sweep(resumed(place), place, address))
        else:
            place = given.pop("out", "tune")
            print(run_sweep(plan_from(given), place, address))


def probe(arguments=None):
    """``recbole-llm probe --dataset=ml-1m --llm=<folder or hub id> [--questions=200] [--out=probe]``.

    ``--backend`` and the other keys of who answers are those of ``generate``.
    """
    with _one_sentence():
        from .config import read_arguments
        from .experiment.probe import run

        print(run(read_arguments(sys.argv[1:] if arguments is None else arguments)))


def _study(plan_from, run, arguments, name):
    from .config import read_arguments
    from .experiment.on_ray import cluster_from

    given = read_arguments(sys.argv[1:] if arguments is None else arguments)
    place, workers = given.pop("out", name), given.pop("workers", None)
    if workers is not None:
        if not workers.isdigit() or not int(workers):
            raise SettingError(f"workers is {workers}, expected 1 or more trainings at a time")
        workers = int(workers)
    cluster = cluster_from(given, workers)
    print(run(plan_from(given), place, workers or 2, cluster))


VERBS = {
    "prep": prep,
    "embed": embed,
    "generate": generate,
    "train": train,
    "benchmark": benchmark,
    "ablate": ablate,
    "tune": tune,
    "probe": probe,
    "cache": cache,
    "doctor": doctor,
    "export": export,
}


def main():
    """Run the command ``recbole-llm <verb> --key=value ...``."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb not in VERBS:
        print(f"recbole-llm <verb> --key=value ...; the verbs are {', '.join(VERBS)}", file=sys.stderr)
        sys.exit(2)
    VERBS[verb](sys.argv[2:])
