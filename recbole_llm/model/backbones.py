"""Any session model as LLM4SBR sees it: an item table, a local and a global vector of each session, a score.

The house's session models (``session/``) say all that of themselves. RecBole's are asked through a door that nearly all
of them go through: ``gather_indexes`` is handed the hidden states of all positions to pick the last one; watched there,
they are known without a line of a model's own code. The last state is the local vector. The global one is the vector
that the model scores with, where that is more than its last state (NARM, STAMP, GCSAN, RecBole-SRGNN), else SR-GNN's
attention over all states (GRU4Rec, SASRec, BERT4Rec). Where a model picks a last one twice, as GCSAN does of its
graph's states and of what attention makes of them, the first states are meant.

Differs from RecBole's models: the score is a product with the items alone and the loss that of a wrapper, so that
BERT4Rec has no bias of items and is trained on last events alone, and GCSAN no ``reg_weight``.

Shapes: B sessions, L max session length, I items with padding, E item-embedding size, H hidden.
"""

from inspect import signature

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from torch import nn

from ..errors import SettingError
from .session.base import ProductScore, SessionRecommender, Views
from .unseen import can_leave_out_seen, without_repeats

MASKED_LAST = ("BERT4Rec",)  # read a mask behind the session, whose place then tells what comes next


def inner_model(name, config, dataset):
    """The model called ``name``, for another to stand on.

    Raises
    ------
    SettingError
        If it reads no sessions, has no item embeddings, or reads texts itself as all wrappers do.
    """
    from . import get_model  # which knows the wrappers too

    found, model = get_model(name), None
    if issubclass(found, SequentialRecommender) and not hasattr(found, "reads_text"):
        if config["no_repeats"] and can_leave_out_seen(found, config):
            found = without_repeats(found)
        model = found(config, dataset)
    if not isinstance(getattr(model, "item_embedding", None), nn.Embedding):
        raise SettingError(
            f"backbone: {name} is no session model with item embeddings of its own; take SRGNN, TAGNN, GCEGNN, DHCN, "
            "GRU4Rec or SASRec"
        )
    return model


def backbone(model):
    """``model`` itself if it is a session model of the house, else a ``Watched`` one."""
    return model if isinstance(model, SessionRecommender) else Watched(model)


class Watched(ProductScore, nn.Module):
    """A sequential model of RecBole's with the methods of a ``SessionRecommender`` that a wrapper asks for."""

    reads_other_items = True  # it looks its items up itself, so that it must be told their ids

    def __init__(self, model):
        super().__init__()
        self.model = model
        size = model.item_embedding.embedding_dim
        width, self.has_global, self.fixed_length = self._tried(size)
        self.to_items = nn.Linear(width, size) if width != size else nn.Identity()
        if self.has_global:
            # some start it as they do items, and read it in their own vector
            model.item_embedding.weight.data[0] = 0
        else:
            self.of_last, self.of_event = nn.Linear(size, size), nn.Linear(size, size)
            self.weigh = nn.Linear(size, 1, bias=False)

    @torch.no_grad()
    def _tried(self, size):
        """The hidden states' width; if the model's own vector is another than the last; if it has a fixed length."""
        weight, device = self.model.item_embedding.weight, self.model.device
        length_B = torch.tensor([1, self.model.max_seq_length], device=weight.device)
        example_BL = length_B.new_ones(2, self.model.max_seq_length)
        example_BL[1] = torch.arange(self.model.max_seq_length) % (self.model.n_items - 1) + 1
        # where some put their indices; the weights come to ``device`` later
        self.model.device = weight.device
        try:
            hidden_BLH, own = self.hidden(example_BL, length_B)
        finally:
            self.model.device = device
        last_BH = last_of(hidden_BLH, length_B)
        is_vector = own is not None and own.shape in {(2, size), (2, hidden_BLH.shape[2])}
        has_global = is_vector and not torch.equal(own, last_BH)
        one, other = (own if has_global else last_BH).norm(dim=1)
        return hidden_BLH.shape[2], has_global, bool(torch.isclose(one, other, rtol=1e-5))

    def items(self, item_N=None):
        """(I, E): the item embeddings; (N, E) of the items that ``item_N`` names."""
        table_IE = self.model.item_embedding.weight[: self.model.n_items]  # some have a mask behind them
        return table_IE if item_N is None else table_IE[item_N]

    def hidden(self, item_seq_BL, length_B):
        """(B, L, H): the hidden states that the model hands to ``gather_indexes``; what it makes of them, (B, E)."""
        model, watched, own_BE = self.model, [], None
        known = {"item_seq": item_seq_BL, "item_seq_len": length_B}
        asked = signature(model.forward).parameters.values()  # some ask for the items alone

        def gather_indexes(output, index):
            watched.append(output)
            return type(model).gather_indexes(model, output, index)

        model.gather_indexes = gather_indexes
        try:
            if type(model).__name__ in MASKED_LAST:
                masked_BL, last_B = with_mask(item_seq_BL, length_B, model.mask_token)
                hidden_BLH = shifted(model(masked_BL), last_B, length_B)
                return hidden_BLH, last_of(hidden_BLH, length_B)
            if all(each.name in known or each.default is not each.empty for each in asked):
                own_BE = model(**{each.name: known[each.name] for each in asked if each.name in known})
        finally:
            del model.gather_indexes  # the class's own again
        if not watched:
            raise SettingError(
                f"backbone: {type(model).__name__} does not hand its hidden states to gather_indexes, so that they "
                "cannot be watched; GRU4Rec, SASRec, NARM, STAMP, GCSAN and BERT4Rec do"
            )
        return watched[0], own_BE

    def views(self, item_seq_BL, layout, item_IH):
        """The last hidden state, and the model's own vector or all states weighed by their bearing on the last."""
        hidden_BLH, own_BE = self.hidden(item_seq_BL, layout.length_B)
        event_BLE = self.to_items(hidden_BLH)
        local_BE = last_of(event_BLE, layout.length_B)
        if self.has_global:
            global_BE = own_BE if own_BE.shape == local_BE.shape else self.to_items(own_BE)
        else:
            global_BE = self._weighed(event_BLE, local_BE, layout.length_B)
        return Views(layout, None, item_IH, None, local_BE, global_BE)

    def _weighed(self, event_BLE, local_BE, length_B):
        """(B, E): the sum of a session's states, each by its bearing on the last one, SR-GNN's eq. (6)."""
        inside_BL = torch.arange(event_BLE.shape[1], device=event_BLE.device) < length_B[:, None]
        weight_BL1 = self.weigh(torch.sigmoid(self.of_last(local_BE)[:, None] + self.of_event(event_BLE)))
        share_B1L = (weight_BL1.squeeze(2) * inside_BL)[:, None]
        return (share_B1L @ event_BLE).squeeze(1)

    @property
    def own_view(self):
        """The view that the model scores with."""
        return "global" if self.has_global else "local"

    def session(self, views):
        """(B, E): the vector that the model scores with."""
        return views.global_BH if self.has_global else views.local_BH


def last_of(event_BLE, length_B):
    """(B, E): the vector of each session's last event."""
    return event_BLE[torch.arange(len(event_BLE), device=event_BLE.device), length_B - 1]


def with_mask(item_seq_BL, length_B, mask_token):
    """(B, L) sessions with a mask behind their last event, the oldest left out where they are full; its place, (B,)."""
    full_B1 = (length_B == item_seq_BL.shape[1])[:, None]
    item_seq_BL = torch.where(full_B1, item_seq_BL.roll(-1, 1), item_seq_BL)
    last_B = length_B - full_B1.squeeze(1).long()
    return item_seq_BL.scatter(1, last_B[:, None], mask_token), last_B


def shifted(hidden_BLH, mask_B, length_B):
    """(B, L, H): the hidden states with the mask's in the place of the last event's."""
    row_B = torch.arange(len(hidden_BLH), device=hidden_BLH.device)
    return hidden_BLH.index_put((row_B, length_B - 1), hidden_BLH[row_B, mask_B])
