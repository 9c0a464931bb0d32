"""The same training on a Ray cluster: Ray Train starts the processes and their group, the rest is as on one machine.

All nodes need this package and see the folders of data, artifacts and runs under the same paths.
"""

import os
from pathlib import Path

from ..llm.on_ray import connect


def launch(work, given, count, address):
    """Run ``work(given)`` in ``count`` processes of the Ray cluster at ``address`` (``auto``: the one of this machine).

    Returns what the first process returns, a path, from the folder where this one stands; an error of a process is
    raised here as it was.
    """
    connect(address, log_to_driver=True)
    import torch
    from ray.train import RunConfig, ScalingConfig, WorkerGroupError
    from ray.train.torch import TorchConfig, TorchTrainer

    stand = os.getcwd()

    def loop():
        os.chdir(
            stand
        )  # relative paths are read from where the training was begun; a node has a folder of its own
        return str(work(given))

    cuda = torch.cuda.is_available()
    home = Path(given.get("run_path", "runs")).resolve() / "ray"
    trainer = TorchTrainer(
        loop,
        scaling_config=ScalingConfig(num_workers=count, use_gpu=cuda),
        torch_config=TorchConfig(backend="nccl" if cuda else "gloo"),
        run_config=RunConfig(storage_path=str(home)),
    )
    try:
        result = trainer.fit()
    except WorkerGroupError as failure:
        first = failure.worker_failures[min(failure.worker_failures)]
        raise getattr(first, "cause", first) from None
    return Path(result.return_value)
