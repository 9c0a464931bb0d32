"""A trained model as files that need neither PyTorch nor this package: an ONNX encoder and two item tables.

The encoder reads the vectors of a history and gives the user's vector; a score is its product with a row of ``scored``.
Items are looked up outside, so new items cost two rows and no new encoder.

Shapes: B users, L length of the histories, I items with padding, H numbers of an item where histories read it, S where
scores do.
"""

import json
import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..errors import SettingError
from ..model.base import VectorRecommender
from ..model.layout import FullLayout

ENCODER, FACTS, TOKENS = "encoder.onnx", "facts.json", "tokens.txt"
READ, SCORED = (
    "read.npy",
    "scored.npy",
)  # (I, H) and (I, S): items as histories read them and scores multiply them
OPSET = 18


class Encoder(nn.Module):
    """The model from item vectors (B, L, H), lengths (B,) and times (B, L) to user vectors (B, S)."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, vectors_BLH, length_B, elapsed_BL):
        """(B, S); what stands behind the first ``length`` events of a history is not looked at."""
        batch, length, _ = vectors_BLH.shape
        layout = FullLayout.of(batch, length, vectors_BLH.device)
        user_TH = self.model.read(vectors_BLH.flatten(0, 1), layout, elapsed_BL)
        last_B = torch.arange(batch, device=length_B.device) * length + length_B - 1
        return user_TH[last_B]


@torch.no_grad()
def export(model, tokens, folder):
    """Write the model to ``folder``; ``tokens`` are the I item tokens in the order of the item ids. Returns the folder.

    ``facts.json`` is written last: it means complete.

    Raises
    ------
    SettingError
        If the model is none that can (``VectorRecommender.not_exported``).
    """
    if not isinstance(model, VectorRecommender):
        raise SettingError(
            f"{type(model).__name__} is RecBole's and cannot be exported; LLMSeqRec and HierLLMRec can"
        )
    if model.not_exported:
        raise SettingError(model.not_exported)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = model.eval().cpu()
    read_IH, scored_IH = model.items_as_read(), model.scored_items()
    _rename(folder / READ, lambda path: _save(path, read_IH))
    _rename(folder / SCORED, lambda path: _save(path, scored_IH))
    _rename(
        folder / TOKENS, lambda path: path.write_text("\n".join(map(str, tokens)) + "\n", encoding="utf-8")
    )
    _rename(folder / ENCODER, lambda path: _write_encoder(model, read_IH, path))
    facts = {"format": "recbole-llm 1", "max_length": model.max_seq_length, "items": len(read_IH)}
    facts |= {"size": read_IH.shape[1], "opset": OPSET, "reads_times": model.reads_times}
    facts["no_repeats"] = model.no_repeats  # then whoever ranks must leave out what the user had
    _rename(
        folder / FACTS, lambda path: path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    )
    return folder


def _write_encoder(model, read_IH, path):
    """The encoder for any number of users; the length of the histories is the model's longest."""
    length = model.max_seq_length
    example = (
        read_IH[torch.ones(3, length, dtype=torch.long)],
        torch.tensor([1, length, length]),
        torch.arange(length).expand(3, -1).contiguous(),
    )
    users = torch.export.Dim("users")
    torch.onnx.export(
        Encoder(model).eval(),
        example,
        str(path),
        input_names=["vectors", "length", "elapsed"],
        output_names=["user"],
        dynamic_shapes=({0: users}, {0: users}, {0: users}),
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _save(path, table_IH):
    with open(path, "wb") as file:
        np.save(file, table_IH.float().numpy(), allow_pickle=False)


def _rename(path, write):
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    write(partial)
    os.replace(partial, path)
