"""The step with a large Recommendation LLM: small here, its products against those counted by hand."""

import json

import pytest

from benchmarks import decoder_step

WIDTH, INNER, LAYERS, BATCH, LENGTH, ITEMS = 32, 64, 2, 4, 20, 300


def rows(tmp_path, *more):
    """The rows of the JSON file, by measure."""
    sizes = {"width": WIDTH, "inner": INNER, "layers": LAYERS, "heads": 4, "key_heads": 2}
    sizes |= {"batch": BATCH, "length": LENGTH, "items": ITEMS, "steps": 3, "square": 256}
    words = [f"--{name}={value}" for name, value in sizes.items()]
    decoder_step.main([*words, f"--json={tmp_path / 'rows.json'}", *more])
    return {row["measure"]: row for row in json.loads((tmp_path / "rows.json").read_text())}


def test_the_products_of_a_step_are_those_of_its_weights(tmp_path):
    found = rows(tmp_path)
    layer = 2 * WIDTH**2 + 2 * WIDTH * WIDTH // 2 + 3 * WIDTH * INNER  # key and value have half of the heads
    biases_and_norms = WIDTH + 2 * WIDTH // 2 + 2 * WIDTH
    last_norm_and_unread_embedding = 2 * WIDTH
    weights = LAYERS * (layer + biases_and_norms) + last_norm_and_unread_embedding
    assert found["weights of the Recommendation LLM"]["ours"] * 1e6 == pytest.approx(weights)
    operations = found["products; theirs: one product of bfloat16"]
    assert 0 < operations["ratio"] < 1.5
    step = found["a step"]["ours"] / 1000
    # forth once, back twice, of each event of full windows; attention, head and loss beside it
    least = 6 * BATCH * LENGTH * LAYERS * layer
    assert least < operations["ours"] * 1e12 * step < 4 * least
    assert found["events read"]["ours"] == pytest.approx(BATCH * LENGTH / step, rel=0.3)


def test_adapters_alone_learn(tmp_path):
    full, lora = (rows(tmp_path, f"--mode={mode}") for mode in ("full", "lora"))
    name = "weights that learn, head and items included"
    assert lora[name]["ours"] < full[name]["ours"]
