"""Controls that take the sense out of the texts and leave all else as it is."""

from types import SimpleNamespace

import numpy as np
import pytest

from recbole_llm.data.texts import _take_the_sense_out, _written
from recbole_llm.errors import SettingError
from recbole_llm.text.artifact import AlignedVectors

N_ITEMS, WITHOUT = 301, 7


@pytest.fixture
def shop():
    """A data set whose vectors tell their row: item i has (i, 10 i); one item has no text."""
    present = np.arange(N_ITEMS) > 0
    present[WITHOUT] = False
    vectors = np.where(present[:, None], np.arange(N_ITEMS)[:, None] * [1.0, 10.0], 0).astype(np.float32)
    fields = {name: AlignedVectors(vectors * scale, present) for name, scale in (("title", 1), ("plot", 3))}
    return SimpleNamespace(
        item_num=N_ITEMS, text_vectors=fields, text_fingerprints=dict.fromkeys(fields, "f")
    )


def test_shuffled_items_have_all_texts_of_one_other_item(shop):
    before = shop.text_vectors["title"]
    _take_the_sense_out(shop, "shuffled", seed=1)
    title, plot = shop.text_vectors["title"], shop.text_vectors["plot"]
    assert sorted(title.vectors[:, 0]) == sorted(before.vectors[:, 0])
    assert (title.vectors[:, 0] != before.vectors[:, 0]).mean() > 0.95
    np.testing.assert_allclose(plot.vectors, 3 * title.vectors)
    assert not title.present[0] and title.present.sum() == before.present.sum()
    np.testing.assert_array_equal(title.present, title.vectors[:, 0] > 0)
    assert shop.text_fingerprints == {"title": "f-shuffled-1", "plot": "f-shuffled-1"}


def test_noise_is_as_wide_as_the_texts_and_has_nothing_of_them(shop):
    before = shop.text_vectors["title"]
    _take_the_sense_out(shop, "random", seed=1)
    noise = shop.text_vectors["title"]
    assert noise.vectors.dtype == np.float32 and not noise.vectors[[0, WITHOUT]].any()
    spread = noise.vectors[noise.present].std(0) / before.vectors[before.present].std(0)
    assert np.abs(spread - 1).max() < 0.15
    assert abs(np.corrcoef(noise.vectors[:, 0], before.vectors[:, 0])[0, 1]) < 0.2


@pytest.mark.parametrize(
    ("fields", "expected"), [(["reviews"], ["reviews"]), (["title", "reviews"], ["item", "reviews"])]
)
def test_reviews_are_no_part_of_a_joined_text_and_may_stand_alone(tmp_path, monkeypatch, fields, expected):
    (tmp_path / "shop.item").write_text("item_id:token\ttitle:token_seq\nA\tRed car\n")
    monkeypatch.setattr("recbole_llm.data.texts.training_reviews", lambda *_: {"A": [("fast", 1.0)]})
    config = {"text_generated": None, "data_path": tmp_path, "dataset": "shop", "text_join": True}
    found = {field: texts for field, texts, _ in _written(config, None, fields)}
    assert list(found) == expected and "fast" in found["reviews"]["A"][0]


def test_a_control_is_drawn_by_the_seed_and_an_unknown_one_is_refused(shop):
    fields = dict(shop.text_vectors)
    drawn = []
    for seed in (1, 1, 2):
        shop.text_vectors = dict(fields)
        _take_the_sense_out(shop, "shuffled", seed)
        drawn.append(shop.text_vectors["title"].vectors)
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    with pytest.raises(SettingError, match="text_control is 'mixed', expected shuffled or random"):
        _take_the_sense_out(shop, "mixed", 1)
