"""The same answers and vectors from a pool of Ray actors: Ray Data brings them batches, one process keeps the results.

The batches are those of one machine, so the results are its too. What was kept of a run that ended early is not asked
for again; a batch that a lost node took along is given to another. All nodes need this package and see the folders of
models under the same paths.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from recbole_llm.errors import ArtifactError, BackendError, SettingError
from recbole_llm.llm.backend import Answer, Backend, Request
from recbole_llm.text.encoder import Encoder

FAULTS = {kind.__name__: kind for kind in (ArtifactError, BackendError, SettingError)}  # of an actor, by name
TOGETHER = 32  # requests of a batch, where the backend has no batches of its own


def connect(address: str | None, log_to_driver: bool = False):
    """Join the Ray cluster at ``address``, or start one of this machine; one sentence where there is none."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise SettingError("this needs Ray, which is not installed: pip install 'ray[tune]'") from error
    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=log_to_driver)
    except (ConnectionError, ValueError) as error:  # the latter of what is no address
        raise SettingError(
            f"no Ray cluster answers at ray_address {address}; start one with `ray start --head`"
        ) from error


@dataclass(frozen=True)
class Pool:
    """How many actors there are, of which cluster (None: this machine), and the cores and GPUs of each."""

    actors: int
    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0


class RayBackend:
    """A backend whose requests are answered by actors.

    Parameters
    ----------
    backend : Backend
        The same one in this process: its name, its revision and its batches; its model is not loaded here.
    make : function without arguments
        Makes it in an actor.
    pool : Pool
    """

    def __init__(self, backend: Backend, make: Callable[[], Backend], pool: Pool):
        self.backend, self.make, self.pool = backend, make, pool
        self.name, self.revision = backend.name, backend.revision
        self.is_llm, self.by_prompt = backend.is_llm, backend.by_prompt

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answers as batches come back."""
        if not requests:
            return
        batches = self._batches(requests)
        work = [json.dumps([asdict(requests[number]) for number in batch]) for batch in batches]
        for place, found in _spread(work, _Answering, self.make, self.pool):
            for number, answer in json.loads(found):
                yield batches[place][number], Answer(**answer)

    def _batches(self, requests):
        if hasattr(self.backend, "batches"):
            return self.backend.batches(requests)
        numbers = list(range(len(requests)))
        return [numbers[first : first + TOGETHER] for first in range(0, len(numbers), TOGETHER)]


class _Answering:
    """An actor with a backend of its own."""

    def __init__(self, make):
        self.backend = make()

    def __call__(self, work):
        requests = [Request.of(found) for found in json.loads(work)]
        return json.dumps([(number, asdict(answer)) for number, answer in self.backend.complete(requests)])


class RayEncoder:
    """An encoder whose texts are encoded by actors; parameters as of ``RayBackend``."""

    def __init__(self, encoder: Encoder, make: Callable[[], Encoder], pool: Pool):
        self.encoder, self.make, self.pool = encoder, make, pool
        self.name, self.revision, self.pooling = encoder.name, encoder.revision, encoder.pooling
        self.batch_size = encoder.batch_size * pool.actors * 8  # what is kept at a time

    @property
    def dimension(self) -> int:
        """D, the width of a vector."""
        return self.encoder.dimension

    def describe(self) -> dict:
        """All that the vectors depend on; where they are made is no part of it."""
        return self.encoder.describe()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(n, D) float32, row by row with ``texts``, in the batches of the encoder itself."""
        size = self.encoder.batch_size
        work = [json.dumps(list(texts[first : first + size])) for first in range(0, len(texts), size)]
        found = dict(_spread(work, _Encoding, self.make, self.pool))
        return np.concatenate([np.array(found[place], dtype=np.float32) for place in range(len(work))])


class _Encoding:
    """An actor with an encoder of its own."""

    def __init__(self, make):
        self.encoder = make()

    def __call__(self, work):
        return np.asarray(self.encoder.encode(json.loads(work)), dtype=np.float32).tolist()


class _Row:
    """What Ray Data calls: one row, one batch of ours."""

    def __init__(self, kind, make):
        self.work = kind(make)

    def __call__(self, row):
        """The work done, or the fault in words: an error raised here would take along what others have just done."""
        try:
            return {"place": row["place"], "found": self.work(row["work"]), "fault": ""}
        except tuple(FAULTS.values()) as error:
            return {"place": row["place"], "found": None, "fault": f"{type(error).__name__}: {error}"}


def _spread(work, kind, make, pool):
    """Yield ``(place, result)`` of each piece of work as it comes back."""
    connect(pool.address)
    import ray

    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = [{"place": place, "work": piece} for place, piece in enumerate(work)]
    data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        _Row,
        fn_constructor_args=(kind, make),
        concurrency=min(pool.actors, len(rows)),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
    )
    try:
        for row in data.iter_rows():
            if row["fault"]:
                kind, _, said = row["fault"].partition(": ")
                raise FAULTS[kind](said)
            yield row["place"], row["found"]
    except ray.exceptions.RayError as error:
        said = str(error).strip().splitlines()[-1]
        raise BackendError(
            f"an actor of Ray failed: {said}; what came back before is kept, run the same command again"
        ) from error
