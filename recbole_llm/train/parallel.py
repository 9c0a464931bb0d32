"""Several processes that train one model: each takes its rows of every batch, and all take the same step.

Every process builds the same data and draws the same batches; of a training batch it gathers its own rows, of an
evaluation it takes every n-th batch. Gradients are weighed by targets and summed, so that a step is one process's but
for the order of additions; what was found for each target is gathered before any metric is computed. (RecBole
averages the metrics of the shards, repeated rows included, RecBole #1872.) Only the first process writes. A loss that
compares the rows of a batch with each other compares those of each process alone.

Without a process group all of this does nothing. ``torchrun`` brings its own group; ``--nproc`` starts one here.
"""

import os
import socket
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import multiprocessing


def rank():
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world():
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def cores():
    """The cores that this process may use: fewer than the machine has in a container, or under ``taskset``."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def launch(work, given, count):
    """Run ``work(given)`` in ``count`` processes of this machine, one GPU each where there are GPUs.

    Returns what the first process returns; an error of the first to fail is raised here as it was.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ends = multiprocessing.get_context("spawn").SimpleQueue()
    try:
        multiprocessing.spawn(_process, (work, given, count, port, ends), count)
    except (multiprocessing.ProcessRaisedException, multiprocessing.ProcessExitedException):
        if ends.empty():
            raise
    end = ends.get()
    if isinstance(end, BaseException):
        raise end
    return end


def _process(number, work, given, count, port, ends):
    place = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count}
    os.environ |= {key: str(value) for key, value in place.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(max(cores() // count, 1))
    try:
        with joined():
            end = work(given)
    except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        ends.put(error)
        raise
    if number == 0:
        ends.put(end)


@contextmanager
def joined():
    """Within: a member of the process group that the environment describes, where it describes one."""
    if dist.is_initialized() or "WORLD_SIZE" not in os.environ:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def first_alone():
    """Within: the first process while the others wait, then the others, who find what it made."""
    if rank() > 0:
        dist.barrier()
    try:
        yield
    finally:
        if rank() == 0 and world() > 1:
            dist.barrier()


def agreed(value):
    """The first process's ``value``."""
    held = [value]
    if world() > 1:
        dist.broadcast_object_list(held)
    return held[0]


def of_each(value):
    """The ``value`` of every process, in their order."""
    held = [value] * world()
    if world() > 1:
        dist.all_gather_object(held, value)
    return held


def put_together(found):
    """A dict of tensors with the rows of all processes; one that found nothing may lack a name."""
    if world() == 1:
        return found
    parts = of_each({name: rows.cpu() for name, rows in found.items()})
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: torch.cat([part[name] for part in parts if name in part]) for name in names}


def share_rows(loader):
    """Let ``loader`` gather of each training batch this process's rows alone.

    Where a batch has fewer rows than there are processes, one is lent, and ``loader.lent`` says so.
    """
    if world() == 1:
        return
    whole, loader.lent = loader.collate_fn, False

    def own_rows(index):
        own = index[rank() :: world()]
        loader.lent = not own
        return whole(own or index[:1])

    loader.collate_fn = own_rows


def share_batches(loader):
    """Let ``loader`` give every n-th batch of an evaluation alone."""
    if world() == 1 or hasattr(loader, "turn"):
        return
    whole, loader.turn = loader.collate_fn, 0

    def own_batch(index):
        loader.turn += 1
        return whole(index) if (loader.turn - 1) % world() == rank() else None

    def own_batches(self):
        self.turn = 0
        return (batch for batch in super(shared, self).__iter__() if batch is not None)

    shared = type(f"Shared{type(loader).__name__}", (type(loader),), {"__iter__": own_batches})
    loader.__class__, loader.collate_fn = shared, own_batch


def share(n_targets, device):
    """(): this process's share of the targets of all; a mean over its own counts by as much in the mean over all."""
    own = torch.tensor(float(n_targets), device=device)
    every = own.clone()
    dist.all_reduce(every)
    return own / every


def sum_gradients(parameters):
    """Add up the gradients of all processes, in one message."""
    if world() == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    for p in trained:
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    flat = torch.cat([p.grad.flatten() for p in trained])
    dist.all_reduce(flat)
    for p, grad in zip(trained, flat.split([p.numel() for p in trained]), strict=True):
        p.grad.copy_(grad.view_as(p))
