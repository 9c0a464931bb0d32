"""The trainings of a study on a Ray cluster: as many at a time as it has room for, each in a process of its own.

All nodes need this package and see the folders of data, artifacts and results under the same paths.
"""

import os

from ..llm.on_ray import connect
from .study import run_in_process


def run_on_cluster(cells, home, address):
    """Yield each cell as it ends, with what went wrong or None; a training is given one core of a node."""
    import ray

    connect(address, log_to_driver=False)
    task = ray.remote(num_cpus=1, max_retries=0)(_run_where)
    running = {task.remote(os.getcwd(), str(home.resolve() / cell.name)): cell for cell in cells}
    while running:
        (ended,), _ = ray.wait(list(running), num_returns=1)
        cell = running.pop(ended)
        try:
            yield cell, ray.get(ended)
        except ray.exceptions.RayError as error:  # a node that went away takes its training with it
            yield cell, f"{type(error).__name__}: {str(error).splitlines()[0]}"


def _run_where(stand, folder):
    """Train what ``folder`` asks for, with relative paths read from ``stand``; a node has a folder of its own."""
    os.chdir(stand)
    return run_in_process(folder, 1)
