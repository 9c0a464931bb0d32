"""Our parts give the numbers that their authors' code gives; ``tests/golden/make_*.py`` asked it."""

import json
from pathlib import Path

import pytest
import torch

from recbole_llm.model import losses
from recbole_llm.model.encoders import LiGRBlock
from recbole_llm.model.items import ExpertAdaptor
from recbole_llm.model.layout import Layout

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def tensors(found):
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in found.items()}


def test_the_mixture_of_experts_is_unisrecs():
    found = golden("unisrec")
    theirs = tensors(found["weights"])
    n_experts = theirs["w_gate"].shape[1]
    ours = ExpertAdaptor(5, 4, n_experts, dropout=0.0).double().eval()
    experts = [f"experts.{expert}" for expert in range(n_experts)]
    ours.load_state_dict(
        {
            "weight": torch.stack([theirs[f"{expert}.lin.weight"].T for expert in experts]),
            "bias": torch.stack([theirs[f"{expert}.bias"] for expert in experts]),
            "gate": theirs["w_gate"],
            "gate_noise": theirs["w_noise"],
        }
    )
    about = tensors({"texts": found["texts"], "adapted": found["adapted"]})
    torch.testing.assert_close(ours(about["texts"]), about["adapted"])


def test_the_gated_block_is_rectools():
    found = golden("rectools")["ligr"]
    theirs = tensors(found["weights"])
    ours = LiGRBlock(8, 2, 16, dropout=0.0, attention_dropout=0.0, rotary=False).double().eval()
    both = [torch.cat([theirs[f"feed_forward.ff_linear_{part}.{kind}"] for part in (1, 3)]) for kind in KINDS]
    state = dict(zip([f"widen.{kind}" for kind in KINDS], both, strict=True))
    for kind in KINDS:
        state |= {f"{name}.{kind}": theirs[f"{other}.{kind}"] for name, other in SAME_LAYERS.items()}
        state[f"attention.query_key_value.{kind}"] = theirs[f"multi_head_attn.in_proj_{kind}"]
    ours.load_state_dict(state)
    events, read = tensors({"events": found["events"], "read": found["read"]}).values()
    layout = Layout.of(torch.tensor([len(events)]))
    torch.testing.assert_close(ours(events, layout, None, None), read)


KINDS = ("weight", "bias")
SAME_LAYERS = {
    "attention.out": "multi_head_attn.out_proj",
    "attention_norm": "layer_norm_1",
    "inner_norm": "layer_norm_2",
    "attention_gate": "gating_linear_1",
    "inner_gate": "gating_linear_2",
    "narrow": "feed_forward.ff_linear_2",
}


@pytest.mark.parametrize("name", ["bce", "gbce", "sampled_softmax"])
def test_losses_with_negatives_are_rectools(name):
    found = golden("rectools")["losses"]
    user, positive, negative = (
        torch.tensor(found[part]).double() for part in ("user", "positive", "negative")
    )
    item = torch.cat([torch.zeros(1, 3).double(), positive, negative.flatten(0, 1)])
    assert len(item) == found["n_items"] + 1
    target, drawn = torch.arange(1, 5), torch.arange(5, 13).view(4, 2)
    match name:
        case "sampled_softmax":
            ours = losses.sampled_softmax(user, item, target, drawn)
        case "bce":
            ours = losses.generalised_bce(user, item, target, drawn, calibration=0.0)
        case "gbce":
            ours = losses.generalised_bce(user, item, target, drawn, calibration=found["calibration"])
    assert float(ours) == pytest.approx(found[name], rel=1e-6)
