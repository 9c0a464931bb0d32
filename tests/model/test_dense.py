"""RecBole's causal models on dense windows: the same model, another way to read it."""

import pytest
import torch
from carousel import house, write_carousel
from recbole.data.interaction import Interaction

from recbole_llm.data.dataset import ELAPSED, NEXT_ITEMS
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


@pytest.mark.parametrize(
    ("model", "rows"),
    [("SASRec", "dense"), ("GRU4Rec", "dense"), ("LLMSeqRec", "dense"), ("LLMSeqRec", "prefix")],
)
@torch.no_grad()
def test_without_repeats_only_unseen_items_compete_with_a_target(model, rows, tmp_path):
    folder = write_carousel(tmp_path, n_items=40)
    keys = {
        "train_rows": rows,
        "no_repeats": True,
        "train_neg_sample_args": "None",
        "MAX_ITEM_LIST_LENGTH": 6,
    }
    ours = house(folder, model, **keys)
    batch, model = next(iter(ours.train)), ours.model.eval()
    items_BL, terms = batch[model.ITEM_SEQ], []
    next_BL = batch[NEXT_ITEMS] if rows == "dense" else None
    for row, length in enumerate(batch[model.ITEM_SEQ_LEN].tolist()):
        for end in range(1, length + 1) if rows == "dense" else [length]:
            seen = items_BL[row, :end]
            told = Interaction(
                {
                    model.ITEM_SEQ: torch.nn.functional.pad(seen, (0, items_BL.shape[1] - end))[None],
                    model.ITEM_SEQ_LEN: torch.tensor([end]),
                    ELAPSED: batch[ELAPSED][row : row + 1],
                }
            )
            target = next_BL[row, end - 1] if rows == "dense" else batch[model.POS_ITEM_ID][row]
            if target:
                score_I = model.full_sort_predict(told).flatten()
                score_I[seen] = score_I[0] = -torch.inf
                terms.append(torch.nn.functional.cross_entropy(score_I, target))
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
