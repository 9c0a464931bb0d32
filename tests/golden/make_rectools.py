"""Numbers of RecTools' LiGR layer, gBCE and sampled softmax, for ``tests/model/test_golden.py``.

``python tests/golden/make_rectools.py`` in an environment of its own with ``rectools[torch]==0.19.0`` (eSASRec is
of its authors). Nothing of theirs is kept here but the numbers that it gives for numbers of ours.
"""

import json
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import torch
from rectools.models.nn.transformers.lightning import TransformerLightningModule as Losses
from rectools.models.nn.transformers.ligr import LiGRLayer


def rounded(*shape):
    return torch.randn(*shape).mul(100).round() / 100


torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
layer = LiGRLayer(8, 2, 0.0, ff_factors_multiplier=2, bias_in_ff=True, ff_activation="swiglu").eval()
with torch.no_grad():
    for weight in layer.parameters():
        weight.copy_(rounded(*weight.shape))
events = rounded(1, 5, 8)
later = torch.ones(5, 5, dtype=torch.bool).triu(1)

user, positive, negative = rounded(1, 4, 3), rounded(1, 4, 1, 3), rounded(1, 4, 2, 3)
logits = torch.cat([positive, negative], 2) @ user[..., None]
target, weight = torch.ones(1, 4, dtype=torch.long), torch.ones(1, 4)
n_items, calibration = 12, 0.75
module = SimpleNamespace(  # what their methods read of their trainer
    gbce_t=calibration,
    data_preparator=SimpleNamespace(n_negatives=2),
    torch_model=SimpleNamespace(item_model=SimpleNamespace(n_items=n_items + 1)),
    item_extra_tokens=("PAD",),
    _calc_bce_loss=Losses._calc_bce_loss,
    _calc_softmax_loss=Losses._calc_softmax_loss,
)
module._get_reduced_overconfidence_logits = lambda *given: Losses._get_reduced_overconfidence_logits(
    module, *given
)
golden = {
    "source": f"RecTools {version('rectools')}, LiGRLayer and TransformerLightningModule",
    "torch": torch.__version__.split("+")[0],
    "ligr": {
        "events": events[0].tolist(),
        "weights": {name: value.tolist() for name, value in layer.state_dict().items()},
        "read": layer(events, later, None)[0].tolist(),
    },
    "losses": {
        "user": user[0].tolist(),
        "positive": positive[0, :, 0].tolist(),
        "negative": negative[0].tolist(),
        "n_items": n_items,
        "calibration": calibration,
        "bce": float(Losses._calc_bce_loss(logits[..., 0], target, weight)),
        "gbce": float(Losses._calc_gbce_loss(module, logits[..., 0], target, weight)),
        "sampled_softmax": float(
            Losses._calc_sampled_softmax_loss(module, logits[..., 0].clone(), target, weight)
        ),
    },
}
lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items())
Path(__file__).with_name("rectools.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
