"""Why an item is recommended to a history: how much of it is text, which text, and which past events speak for it.

The influence of an event is what the score loses when the event is taken out of the history (occlusion): exact for any
model, where attention weights only say what was looked at.

Shapes: N events of the history, H hidden, F fields.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..errors import SettingError


@dataclass(frozen=True)
class Explanation:
    """Of one recommended item.

    Attributes
    ----------
    score : float
        The model's score of the item after the history.
    influence : tuple of float, length N
        What the score loses without each event; negative where the event spoke against the item.
    likeness : tuple of float, length N
        Cosine of each event's text vector with the item's, -1 to 1.
    field_weights : dict of str to float
        How much each text field says about the item; they sum to 1, or to 0 for an item without text.
    id_share : float
        How much of the item is its own vector, 0 (text alone) to 1; the mean of its gate.
    """

    score: float
    influence: tuple
    likeness: tuple
    field_weights: dict
    id_share: float


@torch.no_grad()
def explain(model, history, item, elapsed=None):
    """The ``Explanation`` of ``item`` (an item id) after ``history`` ((N,) item ids, oldest first).

    ``model`` is a trained LLMSeqRec with ``fusion: gate``; ``elapsed`` (N,) are the times of the events, where it reads
    them.
    """
    if model.table.gate is None:
        raise SettingError(f"fusion: {model.settings.fusion} has no gate to explain; train with fusion: gate")
    model.eval()
    scores = _scores_without_each(model, history, item, elapsed)
    text_IH = model.table.text()
    weight_IF = model.table.text.weights(model.table.text.fields())
    likeness_N = F.cosine_similarity(text_IH[history], text_IH[item], dim=1)
    return Explanation(
        score=scores[0].item(),
        influence=tuple((scores[0] - scores[1:]).tolist()),
        likeness=tuple(likeness_N.tolist()),
        field_weights=dict(zip(model.text_fingerprints, weight_IF[item].tolist(), strict=True)),
        id_share=model.id_shares()[item].item(),
    )


def _scores_without_each(model, history, item, elapsed):
    """(1 + N,): the score after the whole history, then without each of its events; in one batch."""
    count = len(history)
    if count == 1:  # an empty history has no score to compare with; the only event carries all of it
        whole = _score(model, history[None], item, None if elapsed is None else elapsed[None])
        return torch.cat([whole, torch.zeros_like(whole)])
    kept = ~torch.eye(count, dtype=torch.bool)
    without = torch.stack([F.pad(history[row], (0, 1)) for row in kept])
    padded = torch.cat([history[None], without])
    times = None
    if elapsed is not None:
        times = torch.cat([elapsed[None], torch.stack([F.pad(elapsed[row], (0, 1)) for row in kept])])
    return _score(model, padded, item, times)


def _score(model, history_BN, item, elapsed_BN):
    length_B = (history_BN != 0).sum(1)
    user_BH = model(history_BN, length_B, elapsed_BN)
    return user_BH @ model.scored(model.current_items())[item]
