"""A study: many trainings, each in a folder and a process of its own; one that is finished is never repeated.

A process that dies takes one training with it and no more; the next run of the study takes that training up where it
was. Two studies in one folder do not disturb each other: a training belongs to whoever locked its folder.
"""

import fcntl
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from rich.console import Console

from ..errors import SettingError
from ..evaluation.manifest import changed_files, write_json
from ..evaluation.markdown import duration
from ..train import run
from ..train.build import resolved
from ..train.keys import changed
from ..train.parallel import cores

ASKED, LOG, ERROR = "cell.json", "log.txt", "error.txt"
TESTED, VALIDATED = "manifest.json", run.VALIDATION  # the last file of a training that is finished


@dataclass(frozen=True)
class Cell:
    """One training of a study.

    Attributes
    ----------
    name : str
        Its folder below the study's.
    given : dict
        Its settings, as a command line gives them.
    tested : bool
        Whether it ends with the test part; False in a search, which may see the validation part alone.
    """

    name: str
    given: dict
    tested: bool = True

    @property
    def last_file(self):
        """The file that is written last."""
        return TESTED if self.tested else VALIDATED


def complete(cells, home, workers=2, cluster=None, console=None, later=0):
    """Train all that is not finished, ``workers`` at a time; returns the cells that are finished then.

    Parameters
    ----------
    cells : sequence of Cell
    home : path
        The study's folder.
    workers : int
        Processes at a time, which share this machine's cores.
    cluster : on_ray.Cluster, optional
        Where to train instead; its nodes see ``home`` under the same path.
    console : Console, optional
        Takes a line for each training that ends, with the time that the others may take.
    later : int
        Trainings that follow these, whose time counts among that of the others.
    """
    home, console = Path(home), console or Console(highlight=False, soft_wrap=True)
    for cell in cells:
        _ask(cell, home)
    waiting = [cell for cell in cells if not (home / cell.name / cell.last_file).is_file()]
    done, started = len(cells) - len(waiting), perf_counter()
    for count, (cell, fault) in enumerate(_run_all(waiting, home, workers, cluster), 1):
        left = (perf_counter() - started) / count * (len(waiting) - count + later)
        said = f"failed: {fault}" if fault else _result(cell, home / cell.name)
        console.print(
            f"  {done + count} of {len(cells)}  {cell.name}  {said}  about {duration(left)} left",
            markup=False,
        )
    return [cell for cell in cells if (home / cell.name / cell.last_file).is_file()]


def _ask(cell, home):
    """Write down what a cell is and what it is made of, once; refuse to go on with another under its name."""
    place, asked = home / cell.name / ASKED, asdict(cell)
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, asked | resolved(cell.given))
        return
    before, asked = json.loads(place.read_text(encoding="utf-8")), json.loads(json.dumps(asked))
    if {key: before[key] for key in asked} != asked and not _comes_to_the_same(before, asked):
        old, new = before["given"], asked["given"]
        key = next((key for key in {**old, **new} if old.get(key) != new.get(key)), "tested")
        raise SettingError(
            f"{place.parent} was begun with {key} {old.get(key)!r}, now it is {new.get(key)!r}; "
            "give another --out, or delete that folder"
        )


def _comes_to_the_same(before, asked):
    """Whether two cells of one name are tested alike and differ in how their settings were given alone."""
    if "settings" not in before or before["tested"] != asked["tested"]:
        return False
    return not changed(before["settings"], resolved(asked["given"])["settings"])


def refuse_changed(folder, places=None):
    """Refuse a training that was begun with other data or presets than it would have now.

    Of one that an older version began, no settings are known, and the data once it was tested.

    Parameters
    ----------
    folder : Path
        Of a training that was begun.
    places : dict, optional
        Where the data lies now.
    """
    asked = json.loads((folder / ASKED).read_text(encoding="utf-8"))
    now, was = resolved(asked["given"] | (places or {})), asked.get("settings", {})
    differs = changed(was, now["settings"])
    manifest = folder / TESTED
    if "data" not in asked and manifest.is_file():
        asked["data"] = json.loads(manifest.read_text(encoding="utf-8"))["dataset"]["files"]
    differs += changed_files(asked.get("data", now["data"]), now["data"])
    if differs:
        more = f" and {len(differs) - 3} more" if len(differs) > 3 else ""
        raise SettingError(
            f"{folder} was begun with other settings or data: {'; '.join(differs[:3])}{more}; "
            "give another --out, or delete that folder"
        )


def _run_all(cells, home, workers, cluster):
    """Yield each cell as it ends, with what went wrong or None."""
    if cluster:
        from .on_ray import run_on_cluster

        yield from run_on_cluster(cells, home, cluster)
        return
    threads = max(cores() // workers, 1)
    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(run_in_process, home / cell.name, threads): cell for cell in cells}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def run_in_process(folder, threads):
    """Train what ``folder`` asks for in a new process of so many threads; returns what went wrong, or None."""
    folder = Path(folder)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with open(folder / LOG, "a", encoding="utf-8") as log:
        command = [sys.executable, "-m", "recbole_llm.experiment.study", str(folder)]
        ended = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    if ended.returncode == 0:
        return None
    said = (folder / ERROR).read_text(encoding="utf-8") if (folder / ERROR).is_file() else ""
    return said or f"the process ended with status {ended.returncode}; see {folder / LOG}"


def _result(cell, folder):
    """The figure that a finished training is known by."""
    if not cell.tested:
        found = json.loads((folder / VALIDATED).read_text(encoding="utf-8"))
        return f"validation {found['metric']} {found['score']:.4f}"
    found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["outcomes"][0]["test"]
    metrics = found["masked"] or found["unmasked"]
    metric = next((name for name in metrics if name.startswith("ndcg")), next(iter(metrics)))
    return f"test {metric} {metrics[metric]:.4f}"


def work(folder):
    """Train the cell of ``folder`` to its end, from where it was left; one process at a time."""
    asked = json.loads((folder / ASKED).read_text(encoding="utf-8"))
    cell = Cell(asked["name"], asked["given"], asked["tested"])
    with _alone_in(folder):
        if (folder / cell.last_file).is_file():
            return
        refuse_changed(folder)  # it may have waited for hours
        (folder / ERROR).unlink(missing_ok=True)
        given = cell.given | {"run_path": str(folder.parent), "run_name": folder.name, "show_progress": False}
        if (folder / run.SETTINGS).is_file():
            given["resume"] = str(folder)
        (run.run if cell.tested else run.validate)(given)


@contextmanager
def _alone_in(folder):
    """Wait until no other process works in ``folder``; the lock goes with the process, however it ends."""
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(folder):
    """The process of one cell; an error is left in the folder as one line."""
    folder = Path(folder)
    try:
        work(folder)
    except Exception as error:
        (folder / ERROR).write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        raise


if __name__ == "__main__":
    main(sys.argv[1])
