"""A benchmark on a Ray cluster of two nodes finds what it finds here."""

import pandas as pd
import pytest
from carousel import write_carousel

from recbole_llm.experiment import benchmark
from recbole_llm.experiment.plan import plan_from

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_two_nodes_find_what_one_machine_finds(cluster, tmp_path, monkeypatch):
    write_carousel(tmp_path / "data", n_items=40)
    monkeypatch.chdir(tmp_path)  # where the nodes were not started
    given = {
        "models": "Pop,ItemKNN",
        "datasets": "carousel",
        "seeds": "1,2",
        "trials": "2",
        "strong": "False",
        "data_path": "data",
    }
    for name, address in (("here", None), ("there", cluster.address)):
        benchmark.run(plan_from(given), tmp_path / name, ray_address=address)
    tables = [pd.read_csv(tmp_path / name / "benchmark.csv") for name in ("here", "there")]
    assert len(tables[0]) == 2 * 2 * 4
    pd.testing.assert_frame_equal(*tables)
