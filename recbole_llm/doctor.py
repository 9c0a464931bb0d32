"""What is amiss on this machine, a line for each thing looked at, with the command that mends it.

Nothing is changed, and no server is asked anything but whether it is there.
"""

import importlib.metadata
import importlib.util
import os
import platform
import sqlite3
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from . import RECBOLE_VERSION
from .errors import ArtifactError, BackendError, DataError, SettingError
from .llm.suspicion import suspicions
from .llm.texts import TEXTS, Texts
from .text.artifact import Artifact
from .text.location import DEFAULT_MODEL, locate
from .text.manifest import MANIFEST, VECTORS
from .text.remote import checked_url
from .text.templates import read_columns
from .train.parallel import cores

KEYS = ("dataset", "data_path", "artifact_path", "cache", "llm_url", "text_endpoint", "texts")
EXTRAS = {  # package: what it is for, and the extra that brings it
    "openai": ("language models behind a server", "server"),
    "onnxruntime": ("exported models", "serve"),
    "faiss": ("search among many items", "serve"),
    "optuna": ("searches by Optuna", "tune"),
}
PINNED = ("torch", "transformers", "sentence-transformers", "peft", "ray", "numpy", "pandas", "safetensors")
SHOWN = 20  # suspicious texts


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is ``well``, ``amiss`` or merely ``missing``; what was found; the cure."""

    state: str
    what: str
    cure: str = ""


def examine(given, console=None) -> bool:
    """Look at everything and say it; returns whether nothing is amiss."""
    unknown = [key for key in given if key not in KEYS]
    if unknown:
        raise SettingError(f"doctor takes --{', --'.join(KEYS)}, found --{', --'.join(unknown)}")
    console = console or Console(highlight=False, soft_wrap=True)
    marks = {"well": "[green]ok[/]     ", "missing": "[yellow]missing[/]", "amiss": "[bold red]amiss[/]  "}
    states = []
    for finding in _findings(given):
        states.append(finding.state)
        console.print(marks[finding.state], end="  ")
        console.print(finding.what, markup=False)
        if finding.cure:
            console.print(f"           {finding.cure}", markup=False)
    return "amiss" not in states


def _findings(given) -> Iterator[Finding]:
    yield from _installed()
    yield _processors()
    yield _encoder()
    artifacts = Path(given.get("artifact_path", "artifacts"))
    data = Path(given.get("data_path", "dataset"))
    yield from _data_sets(data, given.get("dataset"))
    yield from _artifacts(artifacts)
    yield _cache(Path(given.get("cache", artifacts / "answers.sqlite")))
    for key in ("llm_url", "text_endpoint"):
        if given.get(key):
            yield _server(key, given[key])
    if given.get("texts", "False") != "False":
        yield from _texts(data, given.get("dataset"))


def _installed():
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        yield Finding("well", f"Python {platform.python_version()}")
    else:
        yield Finding("amiss", f"Python {platform.python_version()}", "use Python 3.11 to 3.13")
    # another version would have been refused at the import
    yield Finding("well", f"RecBole {RECBOLE_VERSION}, with the patches of recbole_llm.compat")
    wanted = _constraints()
    for package in PINNED:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield Finding("amiss", f"{package} is not installed", "run: pip install -c constraints.txt .")
            continue
        tested = wanted.get(package)
        note = "" if tested in (None, version.partition("+")[0]) else f"; tested with {tested}"
        yield Finding("well", f"{package} {version}{note}")
    for package, (purpose, extra) in EXTRAS.items():
        if importlib.util.find_spec(package) is None:
            yield Finding(
                "missing", f"{package}, for {purpose}", f"run: pip install 'recbole-llm[{extra}]', if wanted"
            )
        else:
            yield Finding("well", f"{package}, for {purpose}")


def _constraints():
    """The versions that were tested, where this is a checkout."""
    path = Path(__file__).resolve().parents[1] / "constraints.txt"
    if not path.is_file():
        return {}
    lines = (line.partition("==") for line in path.read_text(encoding="utf-8").splitlines() if "==" in line)
    return {name: version for name, _, version in lines}


def _processors():
    import torch

    if not torch.cuda.is_available():
        return Finding("well", f"no GPU; {cores()} cores, {torch.get_num_threads()} threads")
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return Finding("well", f"GPU: {', '.join(names)}, CUDA {torch.version.cuda}")


def _encoder():
    """The default encoder and its revision; nothing is fetched, and no weights are read."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        found = locate(DEFAULT_MODEL)
    except BackendError as error:
        return Finding("amiss", str(error), "run: pip install -c constraints.txt .")
    finally:
        os.environ.pop("HF_HUB_OFFLINE") if before is None else os.environ.update(HF_HUB_OFFLINE=before)
    return Finding("well", f"encoder {found.name} at revision {found.revision[:12]}")


def _data_sets(folder, only):
    found = sorted(path.parent for path in folder.glob("*/*.inter") if path.stem == path.parent.name)
    if only:
        found = [path for path in found if path.name == only]
    if not found:
        name = only or "ml-100k"
        yield Finding(
            "missing",
            f"data set {only or 'of any name'} in {folder}",
            f"run: recbole-llm prep --dataset={name}",
        )
    for path in found:
        for kind in ("inter", "item", "user"):
            place = path / f"{path.name}.{kind}"
            if not place.is_file():
                continue
            try:
                columns = _header(place) if kind == "inter" else list(read_columns(place).columns)
            except DataError as error:
                yield Finding("amiss", str(error), f"make it again: recbole-llm prep --dataset={path.name}")
            else:
                yield Finding("well", f"{place}: {', '.join(columns)}")


def _header(place):
    with open(place, encoding="utf-8") as file:
        columns = file.readline().rstrip("\n").split("\t")
    if not all(":" in column for column in columns):
        raise DataError(f"{place}: the first line is no header of name:type, found {columns[0][:40]}")
    return [column.partition(":")[0] for column in columns]


def _artifacts(folder):
    for place in sorted(path.parent for path in folder.glob(f"*/*@*/{MANIFEST}")):
        kind = Artifact if (place / VECTORS).exists() else Texts if (place / TEXTS).exists() else None
        if kind is None:
            continue
        try:
            kind.load(place)
        except ArtifactError as error:
            yield Finding("amiss", str(error))
        else:
            yield Finding("well", f"{place}")
    for place in sorted(folder.glob("*/*@*")):
        if place.is_dir() and not (place / MANIFEST).exists():
            yield Finding(
                "amiss", f"{place} is not complete", "remove it; the command that began it will make it anew"
            )


def _cache(path):
    if not path.is_file():
        return Finding("well", f"no cache of answers at {path} yet")
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as file:
            state = file.execute("pragma quick_check").fetchone()[0]
            number = file.execute("select count(*) from answers").fetchone()[0]
    except sqlite3.DatabaseError as error:
        state, number = str(error), 0
    if state != "ok":
        return Finding(
            "amiss", f"the cache {path} is damaged: {state}", "move it away; the next run begins a new one"
        )
    return Finding("well", f"{path}: {number:,} answers of language models")


def _server(key, url):
    """Whether something answers there; any answer will do, and no key is sent."""
    url = checked_url(url, key, "OPENAI_API_KEY")
    try:
        with urllib.request.urlopen(f"{url}/models", timeout=5) as answer:
            return Finding("well", f"{key} {url} answers (HTTP {answer.status})")
    except urllib.error.HTTPError as error:
        with error:
            return Finding("well", f"{key} {url} answers (HTTP {error.code})")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Finding("amiss", f"{key} {url} does not answer: {reason}", "start the server, or mend the URL")


def _texts(folder, dataset):
    """Item texts that look as if they wanted to steer a language model."""
    if not dataset:
        raise SettingError("doctor --texts needs --dataset")
    table = read_columns(folder / dataset / f"{dataset}.item")
    found = [
        (token, column, why)
        for column in table.columns
        for token, cell in table[column].items()
        if (why := suspicions(cell))
    ]
    cells = table.shape[0] * table.shape[1]
    yield Finding("well" if not found else "missing", f"{len(found):,} of {cells:,} texts look suspicious")
    for token, column, why in found[:SHOWN]:
        yield Finding(
            "missing", f"item {token}, {column}: {', '.join(why)}", ascii(table.at[token, column][:90])
        )
    if len(found) > SHOWN:
        yield Finding("missing", f"and {len(found) - SHOWN:,} more")
