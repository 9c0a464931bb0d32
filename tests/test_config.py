"""Strict keys, literal values, and a YAML for every setting."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import yaml

from recbole_llm.config import PROPERTIES, Config, defaults_of, read_arguments, settings_from
from recbole_llm.errors import SettingError
from recbole_llm.model import MODELS, get_model, known_names
from recbole_llm.train.build import configure


@dataclass(frozen=True)
class Few:
    size: int
    rate: float
    kind: Literal["a", "b"]
    name: str = "x"
    extra: str | None = None


def test_settings_are_filled_and_checked():
    found = settings_from({"size": 3, "rate": 1, "kind": "a", "name": None, "extra": None}, Few)
    assert found == Few(3, 1.0, "a") and isinstance(found.rate, float)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": None}, "config key `size` is not set, and Few has no default"),
        ({"size": "???"}, "config key `size` is not set"),
        ({"size": 2.5}, r"`size` is 2.5 \(float\), expected int"),
        ({"size": True}, r"`size` is True \(bool\), expected int"),
        ({"kind": "c"}, "`kind` is 'c', expected one of a, b"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(changed, message):
    with pytest.raises(SettingError, match=message):
        settings_from({"size": 3, "rate": 0.5, "kind": "a", "name": "y", "extra": None} | changed, Few)


def test_arguments_may_be_written_three_ways():
    assert read_arguments(["--a=1", "--b", "2", "--c", "--d=x=y"]) == {
        "a": "1",
        "b": "2",
        "c": "True",
        "d": "x=y",
    }


def test_arguments_that_belong_to_nothing_or_contradict_are_refused():
    with pytest.raises(SettingError, match="`ml-1m` belongs to no key"):
        read_arguments(["ml-1m"])
    with pytest.raises(SettingError, match="--a is given twice, as 1 and as 2"):
        read_arguments(["--a=1", "--a=2"])


def test_an_unknown_key_is_refused_with_the_nearest_one():
    with pytest.raises(
        SettingError, match="unknown config key `learning_rat`; did you mean `learning_rate`?"
    ):
        Config(get_model("LLMSeqRec"), "ml-100k", config_dict={"learning_rat": 1})


def test_values_are_literals_and_never_run(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["x", "--epochs=7", "--topk=[1,2]", "--learner=__import__('os').abort()"])
    config = Config(get_model("LLMSeqRec"), "ml-100k")
    assert config["epochs"] == 7 and config["topk"] == [1, 2]
    assert config["learner"] == "__import__('os').abort()"


def test_a_unknown_model_is_refused_with_the_nearest_one():
    with pytest.raises(SettingError, match="no model is called SASRek; did you mean SASRec?"):
        get_model("SASRek")
    assert {"LLMSeqRec", "SASRec", "LightGCN", "GRU4Rec", "KGAT"} <= set(known_names())


def test_the_visible_gpus_stay_as_they_were(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    Config(get_model("LLMSeqRec"), "ml-100k", config_dict={"gpu_id": "0"})
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    Config(get_model("LLMSeqRec"), "ml-100k")
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize(
    ("visible", "gpu_id", "seen"),
    [
        ("3", "0", "3"),  # Ray gave this process the fourth GPU, and nobody chose another
        ("1", 1, "1"),
        ("2,3", 1, "3"),
        ("GPU-5a,GPU-7c", (0, 1), "GPU-5a,GPU-7c"),
        ("", "0", ""),
        ("", 1, ""),
        ("2,3", -1, "-1"),
        (None, 1, "1"),
        (None, (0, 1), "0,1"),
    ],
)
def test_the_first_call_of_cuda_sees_what_ray_and_the_user_chose(monkeypatch, visible, gpu_id, seen):
    calls = []

    def is_available():
        calls.append(os.environ.get("CUDA_VISIBLE_DEVICES"))
        return calls[0] not in ("", "-1")  # CUDA reads the variable once

    monkeypatch.setattr("torch.cuda.is_available", is_available)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    config = Config(get_model("LLMSeqRec"), "ml-100k", config_dict={"gpu_id": gpu_id})
    assert calls[:1] == ([seen] if seen else [])  # without any GPU there is nothing to ask
    assert config["device"].type == ("cpu" if seen in ("", "-1") else "cuda")
    assert config["gpu_id"] == str(gpu_id).strip("()").replace(" ", ""), "a baseline is given it too"
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


def test_ours_lie_above_recboles_and_below_the_users(tmp_path):
    config = Config(get_model("LLMSeqRec"), "amazon-beauty")
    assert config["valid_metric"] == "NDCG@10" and config["MAX_ITEM_LIST_LENGTH"] == 50
    assert config["n_layers"] == 1  # tuned for this model on this data set
    assert Config(get_model("SASRec"), "amazon-beauty")["n_layers"] == 2
    own = tmp_path / "own.yaml"
    own.write_text("n_layers: 3\n")
    assert Config(get_model("LLMSeqRec"), "amazon-beauty", [str(own)])["n_layers"] == 3


def test_a_sequential_model_always_gets_the_times():
    config = Config(get_model("SASRec"), "my-shop")
    assert config["load_col"]["inter"] == ["user_id", "item_id", "timestamp"]


def test_a_model_has_the_defaults_of_the_one_that_it_extends():
    parent, own = defaults_of("HierLLMRec"), defaults_of("RAGLLMRec")
    assert parent.items() <= own.items() and own["rag_fusion"] == "gated" and "extends" not in own


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_setting_of_a_model_has_its_line_in_a_yaml_and_every_line_a_reader(name):
    module = __import__(MODELS[name].__module__, fromlist=["Settings"])
    fields = {field.name for field in dataclasses.fields(module.Settings)}
    ours = defaults_of(name)
    overall = yaml.safe_load((PROPERTIES / "overall.yaml").read_text())
    assert fields <= set(ours) | set(overall)
    config = Config(MODELS[name], "ml-100k")
    read_by_recbole_or_run = set(overall) | config._known_keys() - set(ours)
    sources = "".join(path.read_text() for path in Path(PROPERTIES.parent / "recbole_llm").rglob("*.py"))
    recboles = set().union(*config.parameters.values()) | {"learner", "metrics", "topk"}
    orphans = [key for key in ours if key not in fields | recboles and f'"{key}"' not in sources]
    assert not orphans and read_by_recbole_or_run


def test_every_key_of_the_overall_yaml_is_read_somewhere():
    overall = yaml.safe_load((PROPERTIES / "overall.yaml").read_text())
    sources = "".join(path.read_text() for path in Path(PROPERTIES.parent / "recbole_llm").rglob("*.py"))
    assert not [key for key in overall if f'"{key}"' not in sources]


def test_every_key_is_explained_with_its_type():
    for path in [PROPERTIES / "overall.yaml", *sorted((PROPERTIES / "model").glob("*.yaml"))]:
        for line in path.read_text().splitlines():
            if line[:1].isalpha():
                assert "# (" in line, f"{path.name}: {line}"


def test_dense_rows_are_refused_by_models_that_read_a_history_as_a_whole(tmp_path):
    from carousel import write_carousel

    given = {"data_path": str(write_carousel(tmp_path)), "dataset": "carousel", "train_rows": "dense"}
    with pytest.raises(
        SettingError, match="needs a model that reads left to right, but BERT4Rec is not known to"
    ):
        configure("BERT4Rec", given)
