"""RecBole's causal models on dense windows: the same model, another way to read it."""

import pytest
import torch
from carousel import house, write_carousel
from recbole.data.interaction import Interaction

from recbole_llm.data.dataset import ELAPSED, NEXT_ITEMS
from recbole_llm.data.parts import ROW_END
from recbole_llm.model import get_model


@pytest.fixture(scope="module", params=["SASRec", "S3Rec", "GRU4Rec"])
def both(request, tmp_path_factory):
    """A dense model in evaluation, RecBole's with its weights, and a batch of windows."""
    folder = write_carousel(tmp_path_factory.mktemp("dense"))
    keys = {"train_rows": "dense", "MAX_ITEM_LIST_LENGTH": 6, "train_neg_sample_args": "None"}
    if request.param == "S3Rec":
        columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "colour"]}
        keys |= {"load_col": columns, "item_attribute": "colour"}
    world = house(folder, request.param, **keys)
    theirs = get_model(request.param)(world.config, world.train._dataset)
    theirs.load_state_dict(world.model.state_dict())
    world.model.train_stage = theirs.train_stage = "finetune"
    return world.model.eval(), theirs.eval(), next(iter(world.train))


OVERLAP = {"window_overlap": 2}


@pytest.mark.parametrize(
    ("model", "rows", "keys"),
    [
        ("SASRec", "dense", {}),
        ("GRU4Rec", "dense", {}),
        ("SASRec", "dense", OVERLAP),
        ("LLMSeqRec", "dense", {"likeness_events": 2} | OVERLAP),
        ("LLMSeqRec", "prefix", {}),
        ("HierLLMRec", "dense", {}),
        ("RAGLLMRec", "dense", {}),
        ("RAGLLMRec", "prefix", {"rag_fusion": "knn_interp"}),
        *((model, "prefix", {}) for model in ("SRGNN", "TAGNN", "GCEGNN", "RecBole-SRGNN")),
        *((model, "prefix", {}) for model in ("GRU4Rec", "SASRec", "NARM", "STAMP")),
        ("GCSAN", "prefix", {"reg_weight": 0.0}),
        *(("LLMInit", "prefix", {"backbone": model}) for model in ("SRGNN", "GRU4Rec")),
    ],
)
@torch.no_grad()
def test_without_repeats_only_unseen_items_compete_with_a_target(model, rows, keys, tmp_path):
    folder = write_carousel(tmp_path, n_items=40)
    keys = keys | {"train_rows": rows, "no_repeats": True, "MAX_ITEM_LIST_LENGTH": 6}
    keys |= {"train_neg_sample_args": "None"}
    world = house(folder, model, **keys)
    batch, model = next(iter(world.train)), world.model.eval()
    items_BL, terms, kept = batch[model.ITEM_SEQ], [], 0
    targets_BL = batch[NEXT_ITEMS] if rows == "dense" else None
    for row, length in enumerate(batch[model.ITEM_SEQ_LEN].tolist()):
        for end in range(1, length + 1) if rows == "dense" else [length]:
            target = targets_BL[row, end - 1] if rows == "dense" else batch[model.POS_ITEM_ID][row]
            if not target:
                kept += 1
                continue
            seen = items_BL[row, :end]
            told = {
                model.ITEM_SEQ: torch.nn.functional.pad(seen, (0, items_BL.shape[1] - end))[None],
                model.ITEM_SEQ_LEN: torch.tensor([end]),
                **{name: batch[name][row : row + 1] for name in (ELAPSED, ROW_END, model.USER_ID)},
            }
            score_I = model.full_sort_predict(Interaction(told)).flatten()
            assert score_I[seen].isneginf().all() and score_I[1:].isfinite().sum() == 40 - end
            model.no_repeats = False
            every_I = model.full_sort_predict(Interaction(told)).flatten()
            model.no_repeats = True
            every_I[seen] = every_I[0] = -torch.inf
            assert torch.equal(score_I[1:], every_I[1:])
            terms.append(torch.nn.functional.cross_entropy(every_I, target))
    assert kept or "window_overlap" not in keys
    if keys.get("rag_fusion") != "knn_interp":  # which ranks in another way than it learns
        assert model.calculate_loss(batch).item() == pytest.approx(torch.stack(terms).mean().item(), abs=1e-5)


@torch.no_grad()
def test_scores_are_recboles(both):
    ours, theirs, batch = both
    assert torch.allclose(ours.full_sort_predict(batch), theirs.full_sort_predict(batch), atol=1e-5)


def user_vectors(model, items_BL, length):
    """(B, H): RecBole's vectors of users whose histories have this length."""
    if type(model).__name__ == "S3Rec":
        return model.forward(items_BL, bidirectional=False)[:, length - 1]
    return model.forward(items_BL, torch.full((len(items_BL),), length))


@torch.no_grad()
def test_the_loss_is_that_of_recboles_model_at_every_event(both):
    ours, theirs, batch = both
    items_BL, next_BL, terms = batch[ours.ITEM_SEQ], batch[NEXT_ITEMS], []
    for end in range(1, items_BL.shape[1] + 1):
        rows = torch.nonzero(next_BL[:, end - 1]).squeeze(1)
        prefix_BL = torch.where(torch.arange(items_BL.shape[1]) < end, items_BL[rows], 0)
        user_BH = user_vectors(theirs, prefix_BL, end)
        score_BI = user_BH @ theirs.item_embedding.weight[1:].t()  # padding cannot be the next item
        terms.append(
            torch.nn.functional.cross_entropy(score_BI, next_BL[rows, end - 1] - 1, reduction="none")
        )
    assert torch.allclose(ours.calculate_loss(batch), torch.cat(terms).mean(), atol=1e-5)
