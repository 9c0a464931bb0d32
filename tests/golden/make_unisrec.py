"""Numbers of the authors' own adaptor, for ``tests/model/test_golden.py``.

``python tests/golden/make_unisrec.py CHECKOUT``, a checkout of https://github.com/RUCAIBox/UniSRec at ed0bfbc; RecBole
1.2.1 and this package are installed. Nothing of theirs is kept here but the numbers that it gives for numbers of ours.
"""

import json
import sys
from pathlib import Path

import torch

import recbole_llm  # noqa: F401 - their file imports RecBole, which needs it on today's stack

sys.path.insert(0, sys.argv[1])
from unisrec import MoEAdaptorLayer  # noqa: E402

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
layer = MoEAdaptorLayer(3, [5, 4]).eval()
with torch.no_grad():
    for weight in layer.parameters():
        weight.copy_(torch.randn(weight.shape).mul(100).round() / 100)
texts = torch.randn(6, 5).mul(100).round() / 100
golden = {
    "source": "https://github.com/RUCAIBox/UniSRec ed0bfbc, MoEAdaptorLayer",
    "torch": torch.__version__.split("+")[0],
    "texts": texts.tolist(),
    "weights": {name: weight.tolist() for name, weight in layer.state_dict().items()},
    "adapted": layer(texts).tolist(),
}
lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items())
Path(__file__).with_name("unisrec.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
