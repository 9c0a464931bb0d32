"""What random items cost: runs of a model are put together, runs of different data are not."""

import json

import pytest

from benchmarks import noise
from recbole_llm.errors import ArtifactError


def run(folder, name="HierLLMRec", dataset="ml-1m", whole=0.2, **disturbed):
    folder.mkdir()
    ranks = {share: {"masked": {noise.METRIC: value}} for share, value in disturbed.items()}
    outcome = {"name": name, "test": {"masked": {noise.METRIC: whole}}, "disturbed": ranks}
    data = {"dataset": {"name": dataset, "files": {f"{dataset}.inter": {"bytes": 1, "sha256": "a"}}}}
    (folder / "manifest.json").write_text(json.dumps(data))
    (folder / "metrics.json").write_text(json.dumps({"outcomes": [outcome]}))
    return folder


def test_what_is_left_is_a_share_of_that_without_random_items(tmp_path):
    runs = [run(tmp_path / "a", whole=0.2, **{"0.1": 0.1, "0.5": 0.05}), run(tmp_path / "b", **{"0.1": 0.15})]
    runs.append(run(tmp_path / "c", "RAGLLMRec", **{"0.3": 0.2}))
    assert noise.kept(runs) == {
        "HierLLMRec": {0.0: [1.0, 1.0], 0.1: [0.5, pytest.approx(0.75)], 0.5: [0.25]},
        "RAGLLMRec": {0.0: [1.0], 0.3: [1.0]},
    }


def test_models_stand_in_columns_of_their_shares_whichever_they_have(tmp_path, monkeypatch, capsys):
    runs = [run(tmp_path / "a", **{"0.1": 0.1}), run(tmp_path / "b", "RAGLLMRec", **{"0.3": 0.05})]
    monkeypatch.setattr("sys.argv", ["noise", *map(str, runs)])
    noise.main()
    said = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert ["HierLLMRec", "1", "100.0%", "50.0%", "-"] in said
    assert ["RAGLLMRec", "1", "100.0%", "-", "25.0%"] in said


def test_runs_of_different_data_and_runs_without_random_items_are_refused(tmp_path):
    runs = [run(tmp_path / "a", **{"0.1": 0.1}), run(tmp_path / "b", dataset="ml-100k", **{"0.1": 0.1})]
    with pytest.raises(ArtifactError, match="b was run on ml-100k, .*a on ml-1m or other files of it"):
        noise.kept(runs)
    with pytest.raises(ArtifactError, match="has no disturbed histories"):
        noise.kept([run(tmp_path / "c")])
