"""What is collected is what RecBole's own collector collects."""

import pytest
import torch
from carousel import house, write_carousel
from recbole.evaluator import Collector

from recbole_llm.train.collector import RankingCollector


@pytest.mark.parametrize("metrics", [["Recall", "NDCG", "MRR"], ["Recall", "ItemCoverage"], ["NDCG", "GAUC"]])
@pytest.mark.parametrize("one_each", [True, False])
def test_it_is_recboles(tmp_path, metrics, one_each):
    keys = {"metrics": metrics, "topk": [1, 4], "valid_metric": metrics[0] + "@4"}
    config = house(write_carousel(tmp_path), **keys).config
    torch.manual_seed(0)
    ours, theirs = RankingCollector(config), Collector(config)
    for rows in (5, 3):
        scores = torch.randn(rows, 18)
        row = torch.arange(rows) if one_each else torch.arange(rows).repeat_interleave(2)
        item = 1 + (torch.arange(len(row)) * 5) % 17
        for collector in (ours, theirs):
            collector.eval_batch_collect(scores.clone(), None, row, item)
    found, expected = (collector.get_data_struct()._data_dict for collector in (ours, theirs))
    assert found.keys() == expected.keys() and found
    for kind, rows in expected.items():
        assert torch.equal(found[kind], rows) and found[kind].dtype == rows.dtype, kind
