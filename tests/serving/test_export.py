"""What is exported says what the model says, without PyTorch."""

import json

import numpy as np
import pytest
import torch
from carousel import house, write_carousel
from tiny_llm import write_tiny_llm

from recbole_llm.errors import SettingError
from recbole_llm.serving.export import export
from recbole_llm.serving.index import faiss_index, nearest_items

VARIANTS = [
    {},
    {"position": "relative", "time_mode": "bias", "time_input": True},
    {"encoder": "sasrec", "position": "learned", "fusion": "id_only", "score": "dot"},
    {"fusion": "dual", "time_mode": "tisasrec"},
    {"likeness_events": 3},
    {"model": "HierLLMRec"},
    {"model": "HierLLMRec", "rec_llm": "sasrec", "pool_user": "attention", "head": "tied"},
    {"model": "HierLLMRec", "rec_llm": "none", "pool_user": "mean", "head": "classifier", "score": "dot"},
    {"model": "HierLLMRec", "rec_llm": "decoder"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("exported"))


def shaken(folder, **keys):
    """A model whose every weight counts."""
    world = house(folder, **keys)
    generator = torch.Generator().manual_seed(0)
    for parameter in world.model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    world.model.eval()
    return world


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_onnx_encoder_and_the_tables_score_as_the_model_does(folder, tmp_path, variant):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `serve` is not installed")
    pytest.importorskip("onnxscript", reason="the extra `serve` is not installed")
    if variant.get("rec_llm") == "decoder":
        variant = variant | {"rec_llm_path": str(write_tiny_llm(tmp_path / "llm", "llama"))}
    world = shaken(folder, **variant)
    tokens = world.train._dataset.field2id_token["item_id"]
    made = export(world.model, tokens, tmp_path / "export")
    assert not list(made.glob("*.partial"))
    facts = json.loads((made / "facts.json").read_text())
    assert facts["max_length"] == 8 and facts["items"] == len(tokens) == 18
    assert facts["reads_times"] == ("time_mode" in variant) and facts["no_repeats"] is False
    assert (made / "tokens.txt").read_text().splitlines() == list(tokens)
    read, scored = np.load(made / "read.npy"), np.load(made / "scored.npy")
    session = onnxruntime.InferenceSession(made / "encoder.onnx", providers=["CPUExecutionProvider"])
    for batch in world.test:
        rows = batch[0]
        user = session.run(
            ["user"],
            {
                "vectors": read[rows["item_id_list"].numpy()],
                "length": rows["item_length"].numpy(),
                "elapsed": rows["elapsed_list"].numpy(),
            },
        )[0]
        with torch.no_grad():
            expected = world.model.full_sort_predict(rows).numpy()
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(user @ scored.T, expected, atol=1e-4)


@pytest.mark.parametrize("keys", [{"ctx_gate": True}, {"use_query_time": True}], ids=str)
def test_what_has_no_one_vector_an_item_is_not_exported(folder, tmp_path, keys):
    with pytest.raises(SettingError, match="train with both off to export"):
        export(shaken(folder, **keys).model, [], tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_reads_ahead_retrieves_or_is_another_model_is_not_exported(folder, tmp_path):
    path = str(write_tiny_llm(tmp_path / "llm", "t5"))
    t5 = {"rec_llm": "t5_encoder", "rec_llm_path": path, "train_rows": "prefix"}
    refused = {
        "t5_encoder also reads what an exported encoder has behind": house(folder, "HierLLMRec", **t5),
        "retrieves at every prediction": house(folder, "RAGLLMRec"),
        "SRGNN cannot be exported so far; LLMSeqRec and HierLLMRec can": house(folder, "SRGNN"),
        "SASRec is RecBole's and cannot be exported": house(folder, "SASRec"),
    }
    for sentence, world in refused.items():
        with pytest.raises(SettingError, match=sentence):
            export(world.model, [], tmp_path / "export")
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("seen", [None, [[3, 29, 17], [1, 0, 0], [0, 0, 0], [2, 2, 9], [28, 29, 0]]])
def test_the_nearest_items_are_those_of_a_full_sort(chunk, seen):
    torch.manual_seed(0)
    user, item = torch.randn(5, 8), torch.randn(30, 8)
    item[0] = 100.0  # padding would win everything
    seen = None if seen is None else torch.tensor(seen)
    score, found = nearest_items(user, item, 7, chunk=chunk, seen_BL=seen)
    every = user @ item.t()
    every[:, 0] = -torch.inf
    if seen is not None:
        every.scatter_(1, seen, -torch.inf)
        assert not (found[:, :, None] == seen[:, None]).any()
    order = every.argsort(1, descending=True)[:, :7]
    assert found.tolist() == order.tolist()
    assert torch.allclose(score, every.gather(1, order))


def test_fewer_items_than_asked_for_are_all_of_them():
    _, found = nearest_items(torch.randn(2, 4), torch.randn(4, 4), 10, chunk=2)
    assert found.sort(1).values.tolist() == [[1, 2, 3]] * 2


def test_seen_items_come_last_where_too_few_others_are_left():
    score, found = nearest_items(torch.randn(1, 4), torch.randn(5, 4), 4, seen_BL=torch.tensor([[2, 4, 0]]))
    assert set(found[0, :2].tolist()) == {1, 3} and score[0, 2:].isneginf().all()


def test_faiss_finds_what_torch_finds(folder):
    pytest.importorskip("faiss", reason="the extra `serve` is not installed")
    world = shaken(folder)
    model = world.model
    rows = next(iter(world.test))[0]
    with torch.no_grad():
        user = model(rows["item_id_list"], rows["item_length"], rows["elapsed_list"])
        items = model.scored(model.current_items())
    score, found = nearest_items(user, items, 5)
    theirs, ids = faiss_index(items).search(user.numpy(), 5)
    np.testing.assert_allclose(theirs, score, atol=1e-4)
    assert (ids == found.numpy()).mean() > 0.99  # but for ties in the last bits
