"""RecBole's causal models on dense windows: the same model, another way to read it."""

import pytest
import torch
from carousel import house, write_carousel

from recbole_llm.data.dataset import NEXT_ITEMS
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
