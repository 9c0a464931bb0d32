"""Search spaces: what they may hold, what is drawn from them, and the files that come with the package."""

import pytest
import yaml

from recbole_llm.config import PROPERTIES
from recbole_llm.errors import SettingError
from recbole_llm.experiment.space import Entry, check, draws, entry
from recbole_llm.train.build import configure

SPACE = {"dropout": [0.1, 0.3], "learning_rate": {"log": [1e-4, 1e-2]}, "n_layers": {"int": [1, 3]}}


def test_the_first_draw_is_the_defaults_and_the_others_lie_in_the_space():
    found = draws(SPACE, 20, seed=3)
    assert found[0] == {} and len(found) == 20 == len({str(drawn) for drawn in found})
    for drawn in found[1:]:
        assert drawn["dropout"] in SPACE["dropout"] and 1e-4 <= drawn["learning_rate"] <= 1e-2
        assert drawn["n_layers"] in (1, 2, 3)


def test_the_seed_decides_the_draws_and_a_longer_search_begins_with_the_shorter():
    assert draws(SPACE, 5, seed=1) == draws(SPACE, 9, seed=1)[:5] != draws(SPACE, 5, seed=2)


def test_powers_of_ten_are_alike():
    rates = [drawn["learning_rate"] for drawn in draws({"learning_rate": {"log": [1e-4, 1e-2]}}, 400, 0)[1:]]
    assert 0.4 < sum(rate < 1e-3 for rate in rates) / len(rates) < 0.6


def test_a_small_space_gives_what_it_has():
    assert draws({"dropout": [0.1]}, 9, seed=0) == [{}, {"dropout": 0.1}]
    assert draws({}, 9, seed=0) == [{}]


@pytest.mark.parametrize(
    "values",
    [
        *(3, [], {"log": [0, 1]}, {"log": [2, 1]}, {"normal": [0, 1]}, {"int": [1]}, {"int": ["a", "b"]}),
        *({"int": [1.5, 3.5]}, {"uniform": [0, float("inf")]}),
    ],
)
def test_what_is_no_space_is_refused(values):
    with pytest.raises(
        SettingError, match="the space of `dropout` is .*, expected a list of values, or one of"
    ):
        check({"dropout": values})


@pytest.mark.parametrize(
    "key",
    """
    mask_history valid_users cold_share cold_by split_column load_col user_inter_num_interval item_inter_num_interval
    val_interval topk metrics valid_metric eval_args use_query_time shorten_histories disturb_histories legacy_mrr
    eval_step stopping_step data_path seed
    """.split(),
)
def test_a_search_never_varies_what_is_measured(key):
    with pytest.raises(SettingError, match=f"the space has {key}, in which trials must be alike"):
        check({"dropout": [0.1], key: [1, 2]})


def test_a_search_may_vary_how_much_of_a_history_is_read():
    check({"MAX_ITEM_LIST_LENGTH": [20, 50], "text_fields": [["title"], ["genre"]], "epochs": [10, 20]})


def test_a_model_without_a_file_is_not_searched():
    assert entry("EASE") == Entry("EASE", "EASE")


def test_a_wrapper_is_searched_as_what_it_wraps():
    inner, outer = entry("GRU4Rec"), entry("LLM4SBR-shuffled-GRU4Rec")
    assert outer.model == "LLM4SBR" and outer.over == "GRU4Rec" and inner.over is None
    assert outer.keys == inner.keys | {"intent_control": "shuffled", "backbone": "GRU4Rec"}
    assert inner.space and draws(outer.space, 4, seed=1) == draws(inner.space, 4, seed=1)
    assert entry("RecBole-SRGNN").over is None, "RecBole is no wrapper"
    for wrapped in ("RecBole-SRGNN", "SASRec-strong"):
        assert entry(f"LLM4SBR-{wrapped}").over == wrapped


@pytest.mark.parametrize("name", sorted(path.stem for path in (PROPERTIES / "sweep").glob("*.yaml")))
def test_every_key_of_every_file_is_one_that_its_model_knows(name, tmp_path):
    one = entry(name)
    drawn = {key: value for found in draws(one.space, 3, 0) for key, value in found.items()}
    given = {"model": one.model, "dataset": "ml-100k", "data_path": str(tmp_path)}
    config = configure(one.model, given | one.keys | drawn)
    assert all(config[key] == value for key, value in drawn.items())


def test_a_file_with_another_key_is_refused(tmp_path, monkeypatch):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "X.yaml").write_text(yaml.safe_dump({"spaec": {}}))
    monkeypatch.setattr("recbole_llm.experiment.space.PROPERTIES", tmp_path)
    with pytest.raises(SettingError, match=r"X\.yaml has spaec; expected model, keys, like, space, over"):
        entry("X")
