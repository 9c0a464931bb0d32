"""What every test gets: no network, a clean command line, small data, and the shared data where it is at hand."""

import os
import socket
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: more threads would wait for one another
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub's library is imported; it would try again and again


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Refuse every connection that leaves this machine; RecBole, hubs and tests stay offline."""
    connect = socket.socket.connect

    def guarded(self, address):
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "localhost", "::1"):
            raise OSError(f"a test tried to reach {address[0]}: tests never use the network")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def bare_command_line(monkeypatch):
    """RecBole's Config reads ``sys.argv``; pytest's own flags must not reach it."""
    monkeypatch.setattr("sys.argv", ["pytest"])


@pytest.fixture(scope="session")
def shared_data():
    """The folder with real data (``data/atomic/ml-1m`` ...); tests that need it are skipped where it is absent."""
    shared = Path(os.environ.get("RECBOLE_LLM_SHARED", REPOSITORY.parent / "shared"))
    if not (shared / "data").is_dir():
        pytest.skip(f"no shared data at {shared}; set RECBOLE_LLM_SHARED to its folder")
    return shared / "data"


@pytest.fixture
def one_thread():
    """One thread, as an actor with one core has: the order of additions is then the same."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of two nodes on this machine, with one processor each."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
