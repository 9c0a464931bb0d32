"""The switches of ``properties/ablation``: each can be built, and no two train the same model."""

from collections import Counter
from itertools import combinations

import pytest
import torch
import yaml
from carousel import TINY, house, write_carousel

from recbole_llm.config import PROPERTIES, settings_from
from recbole_llm.experiment.ablation import entries_of
from recbole_llm.model import get_model, hier_settings, rag_settings
from recbole_llm.text.location import DEFAULT_MODEL
from recbole_llm.train.build import build, configure, known_to

MODELS = ("LLMSeqRec", "HierLLMRec", "RAGLLMRec", "LLM4SBR")
CHECKS = {"HierLLMRec": [hier_settings.check], "RAGLLMRec": [hier_settings.check, rag_settings.check]}
DATASETS = ("carousel", "ml-100k", "ml-1m", "amazon-beauty")  # whose files may set what a switch sets
ALIKE = {
    ("the full model", "seen items compete"),  # where the data set's file says nothing of them
    ("the answer itself", "one name"),  # of stand-ins, which are names
}


def entries(model):
    file = PROPERTIES / "ablation" / f"{model}.yaml"
    found = entries_of(model, yaml.safe_load(file.read_text(encoding="utf-8")))
    return [entry for of_kind in found.values() for entry in of_kind]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("ablation")
    for dataset in DATASETS:
        write_carousel(place, name=dataset)
    return place


def set_by_switches(folder, model, dataset):
    """What the keys of all switches are with each of them on this data set, the full model among them, by name."""
    start = configure(model, {"model": model, "dataset": dataset, "data_path": str(folder)})
    full = {key: start[key] for entry in entries(model) for key in entry.keys}
    return {"the full model": full} | {entry.name: full | entry.keys for entry in entries(model)}


@pytest.mark.parametrize("model", MODELS)
def test_every_switch_has_its_own_name_and_sets_what_is_not_set_already(folder, model):
    assert max(Counter(entry.name for entry in entries(model)).values()) == 1
    found = [set_by_switches(folder, model, dataset) for dataset in DATASETS]
    for entry in entries(model):
        assert None not in entry.keys.values(), f"{entry.name}: a key that is None is not given at all"
        if entry.keys != {"text_encoder": DEFAULT_MODEL}:  # of the default itself, beside another one
            assert any(values[entry.name] != values["the full model"] for values in found), entry.name


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("model", MODELS)
def test_no_two_switches_set_the_same(folder, model, dataset):
    found = set_by_switches(folder, model, dataset)
    full = found.pop("the full model")
    changed = {name: values for name, values in found.items() if values != full}
    assert not [pair for pair in combinations(changed, 2) if changed[pair[0]] == changed[pair[1]]]


@pytest.mark.parametrize("model", ["LLMSeqRec", "HierLLMRec", "RAGLLMRec"])
def test_switches_that_are_compared_with_each_other_differ_in_one_key(model):
    file = yaml.safe_load((PROPERTIES / "ablation" / f"{model}.yaml").read_text(encoding="utf-8"))
    keys = {entry.name: entry.keys for entry in entries(model)}
    for one, other in file["between"]:
        assert len(keys[one].items() ^ keys[other].items()) == 1


@pytest.mark.parametrize("dataset", DATASETS)
def test_llmseqrec_is_trained_without_times_and_with_each_kind_of_them(folder, dataset):
    found = set_by_switches(folder, "LLMSeqRec", dataset).values()
    ways = {(values["time_input"], values["time_mode"]) for values in found}
    assert ways >= {(False, "none"), (True, "none"), (False, "bias"), (True, "bias")}
    assert {values["score"] for values in found} == {"cosine", "dot"}


@pytest.mark.parametrize(
    ("model", "entry"),
    [
        pytest.param(model, entry, id=f"{model}-{entry.name}")
        for model in ("LLMSeqRec", "LLM4SBR")
        for entry in entries(model)
    ],
)
def test_every_switch_can_be_built(folder, model, entry):
    assert house(folder, model, **dict(entry.keys)).model


def test_every_switch_goes_with_what_amazon_beautys_file_sets(folder):
    for entry in entries("LLMSeqRec"):
        given = {"model": "LLMSeqRec", "dataset": "amazon-beauty", "data_path": str(folder)}
        config = configure("LLMSeqRec", given | dict(entry.keys))  # refused where it contradicts the file
        assert config["loss"] == "ce" or not config["no_repeats"]


@pytest.mark.parametrize("model", CHECKS)  # some of whose switches load a language model
def test_every_switch_is_allowed(folder, model):
    for entry in entries(model):
        config = configure(
            model, {"model": model, "dataset": "carousel", "data_path": str(folder)} | dict(entry.keys)
        )
        for check in CHECKS[model]:
            check(settings_from(config, get_model(model).settings_class), config["train_rows"] == "dense")


def test_no_two_switches_of_llm4sbr_train_the_same_model(folder, tmp_path):
    given = {"model": "LLM4SBR", "dataset": "carousel", "data_path": str(folder)}
    given |= known_to("LLM4SBR", "carousel", TINY) | {"artifact_path": str(tmp_path)}
    trained = {"the full model": {}} | {entry.name: dict(entry.keys) for entry in entries("LLM4SBR")}
    scores = {}
    for name, settings in trained.items():
        (train, _, test), _, model = build(configure("LLM4SBR", given | settings))
        optimiser = torch.optim.Adam(model.parameters(), 0.01)
        for batch, _ in zip(train, range(3), strict=False):
            loss = model.calculate_loss(batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        scores[name] = model.eval().full_sort_predict(next(iter(test))[0]).detach()
    same = [pair for pair in combinations(scores, 2) if torch.allclose(*map(scores.get, pair), atol=1e-6)]
    assert set(same) <= ALIKE
