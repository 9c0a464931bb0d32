"""The trainings of a study on a Ray cluster, each in a process of its own with its share of a node.

All nodes need this package and see the folders of data, artifacts and results under the same paths.
"""

import os
from dataclasses import dataclass
from itertools import islice

from ..errors import SettingError
from .study import run_in_process


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, and what a study takes of it.

    Attributes
    ----------
    address : str
    workers : int or None
        Trainings at a time; None: as many as it has room for.
    cpus, gpus : float
        Of one training; a GPU may be shared. One that takes none sees none.
    """

    address: str
    workers: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0


def cluster_from(given, workers=None):
    """The ``Cluster`` that a command line asks for, None where it asks for none; its keys are taken out of ``given``.

    Raises
    ------
    SettingError
        If a share cannot be given, or there is no cluster to give it.
    """
    address = given.pop("ray_address", None)
    shares = {key: share(key, given.pop(key)) for key in ("cpus", "gpus") if key in given}
    if shares and not address:
        raise SettingError(
            f"found --{' and --'.join(shares)} without --ray_address; a training's share is that of a Ray cluster: "
            "give both, or neither"
        )
    return Cluster(address, workers, **shares) if address else None


def share(key, text):
    """How much of a node's cores or GPUs a command line asks for: a part of one, or whole ones."""
    try:
        asked = float(text)
    except ValueError:
        raise SettingError(f"{key} is {text!r}, expected a number") from None
    if not (0 < asked <= 1 or (asked > 1 and asked.is_integer()) or (key == "gpus" and asked == 0)):
        least = "0 or more" if key == "gpus" else "more than 0"
        raise SettingError(f"{key} is {text}, expected {least}, and a whole number above 1")
    return asked


def see_own_gpus(gpus):
    """Hide all GPUs from a process that asked for none, which Ray does not (ray-project/ray#54868)."""
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def run_on_cluster(cells, home, cluster):
    """Yield each cell as it ends, with what went wrong or None; as one ends, the next begins.

    This process has joined the cluster before.
    """
    import ray

    task = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=0)(_run_where)
    waiting, running = iter(cells), {}

    def begin(count):
        for cell in islice(waiting, count):
            running[task.remote(os.getcwd(), str(home.resolve() / cell.name), cluster)] = cell

    begin(cluster.workers)
    while running:
        (ended,), _ = ray.wait(list(running), num_returns=1)
        cell = running.pop(ended)
        begin(1)
        try:
            yield cell, ray.get(ended)
        except ray.exceptions.RayError as error:  # a node that went away takes its training with it
            yield cell, f"{type(error).__name__}: {str(error).splitlines()[0]}"


def _run_where(stand, folder, cluster):
    """Train what ``folder`` asks for, with relative paths read from ``stand``; a node has a folder of its own."""
    os.chdir(stand)
    see_own_gpus(cluster.gpus)
    return run_in_process(folder, max(int(cluster.cpus), 1))
