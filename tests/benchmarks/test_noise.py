"""What random items cost: runs of a model are put together, runs of different data are not."""

import json

import pytest

from benchmarks import noise
from recbole_llm.errors import ArtifactError


def run(folder, name="HierLLMRec", dataset="ml-1m", whole=0.2, given=None, **disturbed):
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps({"model": name, "dataset": dataset} | (given or {})))
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


def test_runs_are_put_together_that_differ_by_their_seed_alone(tmp_path):
    kinds = {"gated-1": {"seed": "1"}, "gated-2": {"seed": "2", "run_name": "again", "saved": "False"}}
    kinds["memory-1"] = {"seed": "1", "rag_fusion": "memory", "start_from": "runs/HIER-1"}
    kinds["memory-2"] = {"seed": "2", "rag_fusion": "memory", "start_from": "runs/HIER-2"}
    runs = [run(tmp_path / k, "RAGLLMRec", given=given, **{"0.1": 0.1}) for k, given in kinds.items()]
    runs.append(run(tmp_path / "hier", **{"0.1": 0.15}))
    assert {name: by_share[0.1] for name, by_share in noise.kept(runs).items()} == {
        "RAGLLMRec, rag_fusion by default, start_from by default": [0.5, 0.5],
        "RAGLLMRec, rag_fusion memory, start_from given": [0.5, 0.5],
        "HierLLMRec": [pytest.approx(0.75)],
    }


def test_settings_are_those_of_the_run_of_a_benchmarks_training_or_of_the_command(tmp_path):
    alone = run(tmp_path / "a", given={"rag_top_k": "5", "seed": "1"})
    assert noise.settings_of(alone) == {"rag_top_k": "5"}
    (alone / "settings.json").rename(alone / "cell.json")
    (alone / "cell.json").write_text(json.dumps({"name": "a", "given": {"rag_top_k": 5, "seed": 1}}))
    assert noise.settings_of(alone) == {"rag_top_k": "5"}
    (alone / "cell.json").unlink()
    with pytest.raises(
        ArtifactError, match="a does not say what it was given; expected settings.json or cell"
    ):
        noise.settings_of(alone)
    command = ["recbole-llm", "train", "--model=RAGLLMRec", "--rag_top_k", "5", "--saved=False"]
    (alone / "manifest.json").write_text(json.dumps({"command": command}))
    assert noise.settings_of(alone) == {"rag_top_k": "5"}
