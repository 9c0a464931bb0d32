"""A search on the carousel: what it tries, what it leaves, that its best can be trained again; and once with Ray."""

import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from carousel import TINY, write_carousel

from recbole_llm import cli
from recbole_llm.errors import SettingError
from recbole_llm.experiment import benchmark, ray_tune, sweep
from recbole_llm.experiment.plan import plan_from
from recbole_llm.train import run as road
from recbole_llm.train.build import configured

SMALL = {
    key: str(value) for key, value in TINY.items() if key not in ("learning_rate", "dropout", "show_progress")
}
SMALL |= {"fusion": "id_only", "epochs": "4", "eval_step": "1", "device_threads": "1"}
SPACE = {"learning_rate": {"log": [1e-4, 1e-1]}, "dropout": [0.0, 0.5]}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("shop"), n_items=40)


def given(shop, folder, varied=SPACE, **changes):
    file = folder / "space.yaml"
    file.write_text(yaml.safe_dump(varied))
    asked = {"dataset": "carousel", "data_path": str(shop), "space": str(file), "trials": "4"} | SMALL
    return {key: value for key, value in (asked | changes).items() if value is not None}


class Stopped(Exception):
    """What ASHA does to a trial."""


@pytest.fixture
def in_this_process(monkeypatch):
    """The second trial is stopped at its first report, the third fails; the others are whole."""

    def search(asked, points, train, home, epochs, address=None, again=True):
        tried = []
        for number, point in enumerate(points):
            reports, error = [], None

            def report(found, number=number, reports=reports):
                reports.append(found)
                if number == 1:
                    raise Stopped

            place = home / ray_tune.TRIALS / f"trial-{number}"
            try:
                if number == 2:
                    raise OSError("the disk is full")
                train(point, asked.given, place, report)
            except Stopped:
                pass
            except OSError as fault:
                error = str(fault)
            tried.append(ray_tune.Tried(point, place, reports[-1] if reports else {}, error))
        return tried

    monkeypatch.setattr(ray_tune, "search", search)


@pytest.fixture
def finished(shop, tmp_path, in_this_process):
    assert (
        sweep.run_sweep(sweep.plan_from(given(shop, tmp_path)), tmp_path / "tune")
        == tmp_path / "tune" / "best"
    )
    return tmp_path / "tune"


def test_the_table_says_how_each_trial_ended(finished):
    found = pd.read_csv(finished / "trials.csv").set_index("trial")
    assert found["ended"].to_dict() == {
        "trial-0": "whole",
        "trial-1": "early",
        "trial-2": "failed",
        "trial-3": "whole",
    }
    assert found["epochs"].to_dict() == {"trial-0": 4, "trial-1": 1, "trial-2": 0, "trial-3": 4}
    assert found["defaults"].to_dict() == {
        "trial-0": True,
        "trial-1": False,
        "trial-2": False,
        "trial-3": False,
    }
    assert found.loc["trial-2", "error"] == "the disk is full"
    assert list(found["validation"].dropna()) == sorted(found["validation"].dropna(), reverse=True)


def test_the_test_part_is_read_by_the_best_alone_and_its_weights_stay(finished):
    assert [path.parent.name for path in finished.rglob("metrics.json")] == ["best"]
    assert [path.parent.parent.name for path in finished.rglob("best.safetensors")] == ["best"]


def test_the_best_settings_train_the_same_model_again(finished, tmp_path):
    found = pd.read_csv(finished / "trials.csv")
    best = yaml.safe_load((finished / "best.yaml").read_text())
    assert best["learning_rate"] == found["learning_rate"][0] and best["dropout"] == found["dropout"][0]
    assert not set(best) & {"run_path", "run_name", "baseline", "resume"}
    assert f"{found['validation'][0]:.4f} on the validation part" in (finished / "best.yaml").read_text()
    again = road.main(
        [f"--config_files={finished / 'best.yaml'}", f"--run_path={tmp_path}", "--show_progress=False"]
    )
    frames = [pd.read_parquet(folder / "ranks.parquet") for folder in (finished / "best", again)]
    pd.testing.assert_frame_equal(*frames)


def test_a_search_that_is_finished_says_the_same_again(finished):
    before = (finished / "best" / "metrics.json").read_text()
    assert sweep.run_sweep(sweep.resumed(finished), finished) == finished / "best"
    assert (finished / "best" / "metrics.json").read_text() == before


def test_another_search_needs_another_folder(finished, shop, tmp_path):
    with pytest.raises(SettingError, match="holds another search; go on with it by --resume"):
        sweep.run_sweep(sweep.plan_from(given(shop, tmp_path, trials="5")), finished)


def test_where_all_trials_fail_the_first_error_is_said(shop, tmp_path, monkeypatch):
    failed = [ray_tune.Tried({}, tmp_path / "trial-0", {}, "the disk is full")]
    monkeypatch.setattr(ray_tune, "search", lambda *_, **__: failed)
    with pytest.raises(SettingError, match="none of 1 trials was finished; the first said: the disk is full"):
        sweep.run_sweep(sweep.plan_from(given(shop, tmp_path)), tmp_path / "tune")


def test_a_grid_has_every_combination_once_and_the_defaults_first(shop, tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(ray_tune, "search", lambda _, points, *__, **___: tried.extend(points) or [])
    space = {"dropout": [0.0, 0.2], "n_layers": [1, 3]}
    asked = sweep.plan_from(given(shop, tmp_path, space, search="grid"))
    with pytest.raises((SettingError, IndexError, KeyError)):  # nothing was tried
        sweep.run_sweep(asked, tmp_path / "tune")
    assert tried[0] == {"dropout": 0.2, "n_layers": 1}
    assert sorted((point["dropout"], point["n_layers"]) for point in tried) == [
        (0, 1),
        (0, 3),
        (0.2, 1),
        (0.2, 3),
    ]


@pytest.mark.parametrize(
    ("space", "changes", "message"),
    [
        ({"droput": [0.1]}, {}, "unknown config key `droput`; did you mean `dropout`?"),
        ({"dropout": 0.1}, {}, "the space of `dropout` is 0.1, expected a list of values"),
        ({}, {}, "there is nothing to vary"),
        (SPACE, {"search": "grid"}, "a grid needs lists, but learning_rate has a range"),
        (SPACE, {"search": "annealing"}, "search is annealing, expected one of random, grid, optuna"),
        (SPACE, {"trials": "0"}, "trials is 0, expected 1 or more"),
        (SPACE, {"gpus": "-1"}, "gpus is -1, expected 0 or more"),
        (SPACE, {"gpus": "nan"}, "gpus is nan, expected 0 or more, and a whole number above 1"),
        (SPACE, {"cpus": "1.5"}, "cpus is 1.5, expected more than 0, and a whole number above 1"),
        (SPACE, {"cpus": "0"}, "cpus is 0, expected more than 0"),
        (SPACE, {"seed": "abc"}, "config key `seed` is 'abc' (str), expected int"),
        (SPACE, {"seed": "-1"}, "config key `seed` is -1, expected 0 or more"),
        ([0.1, 0.3], {}, "space.yaml holds a list, expected lines such as `dropout: ...`"),
        ("dropout", {}, "space.yaml holds a str, expected lines"),
        (
            {"model": ["SASRec"], "seed": [1, 2]},
            {},
            "the space has model, seed, in which trials must be alike",
        ),
        (SPACE, {"workers": "two"}, "workers is 'two', expected a number"),
        (SPACE, {"grace": "20"}, "grace is 20, expected at most the 4 epochs of a trial"),
        (SPACE, {"eval_step": "0"}, "a search chooses by the validation part"),
        (SPACE, {"dataset": None}, "--dataset not given"),
        (SPACE, {"space": "nowhere.yaml"}, "space: no file nowhere.yaml"),
        (SPACE, {"epohcs": "3"}, "did you mean `epochs`"),
        (SPACE, {"space": None, "model": "SASRecc"}, "no model is called SASRecc; did you mean SASRec?"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_a_sentence(shop, tmp_path, space, changes, message):
    with pytest.raises(SettingError) as refusal:
        sweep.plan_from(given(shop, tmp_path, space, **changes))
    assert message in str(refusal.value)


@pytest.mark.parametrize("key", ["space", "config_files"])
@pytest.mark.parametrize(
    ("text", "message"), [("a: [1", "cannot be read as YAML"), ("- a\n", "holds a list")]
)
def test_a_file_that_holds_no_keys_is_refused_in_a_sentence(shop, tmp_path, key, text, message):
    (tmp_path / "broken.yaml").write_text(text)
    with pytest.raises(SettingError, match=f"broken.yaml {message}"):
        sweep.plan_from(given(shop, tmp_path, **{key: str(tmp_path / "broken.yaml")}))


def test_trials_may_share_a_core_and_a_gpu(shop, tmp_path):
    asked = sweep.plan_from(given(shop, tmp_path, cpus="0.5", gpus="0.25"))
    assert (asked.cpus, asked.gpus) == (0.5, 0.25)


def test_a_strong_sasrec_is_searched_as_it_stands_in_a_benchmark(shop, tmp_path):
    asked = sweep.plan_from(given(shop, tmp_path, {"hidden_dropout_prob": [0.1, 0.5]}, model="SASRec-strong"))
    assert asked.given["model"] == "SASRec" and asked.given["train_rows"] == "dense"
    assert int(asked.given["hidden_size"]) == 16 and asked.given["loss_type"] == "CE"


@pytest.mark.parametrize("model", ["LLMSeqRec", "SASRec-strong", "BPR"])
def test_a_search_trains_what_a_benchmark_trains(shop, tmp_path, model):
    asked = {"data_path": str(shop)} | ({} if model == "BPR" else {"fusion": "id_only"})
    plan = plan_from(asked | {"models": model, "datasets": "carousel", "strong": "False"})
    trained = configured(benchmark._settings(plan.entries[0], "carousel", plan))
    assert trained["eval_step"] > 1, "else nothing would be seen"
    space = {"learning_rate": [1e-3]}
    searched = sweep.plan_from(given(shop, tmp_path, space, model=model, **dict.fromkeys(SMALL)) | asked)
    found = pd.DataFrame({"validation": [0.5], "defaults": [True]})
    sweep._write_best(tmp_path / "best.yaml", searched.given, found, "NDCG@10")
    best = yaml.safe_load((tmp_path / "best.yaml").read_text())
    same = "epochs eval_step stopping_step train_batch_size train_rows learning_rate weight_decay learner".split()
    for config in map(configured, (searched.given, best)):
        assert {key: config[key] for key in same} == {key: trained[key] for key in same}


@pytest.mark.parametrize("dropout", [[0.0, 0.2], [0.3, 0.5]], ids=["inside", "outside"])
def test_optuna_tries_the_defaults_first(shop, tmp_path, dropout):
    pytest.importorskip("optuna")
    asked = sweep.plan_from(given(shop, tmp_path, {"dropout": dropout}, search="optuna"))
    points = sweep._points(asked, sweep.configured(asked.given))
    space, searcher = ray_tune._of_optuna(asked, points)
    searcher.set_search_properties(None, None, space)
    assert searcher.suggest("a") == {"dropout": 0.2}
    searcher.on_trial_result("a", {"validation": 0.5, "training_iteration": 1})
    assert searcher.suggest("b")["dropout"] in dropout
    for trial in "ab":
        searcher.on_trial_complete(trial, {"validation": 0.5})
    searcher.save(tmp_path / "searcher")  # as Ray does it, and restores it
    space, restored = ray_tune._of_optuna(asked, points)
    restored.restore(tmp_path / "searcher")
    assert {restored.suggest(f"c{number}")["dropout"] for number in range(9)} <= set(dropout)


def test_a_trial_that_failed_is_not_the_best(tmp_path):
    found = [
        ray_tune.Tried({}, tmp_path / "trial-0", {"validation": 0.9, "epochs": 1}, "Training loss is nan"),
        ray_tune.Tried({"dropout": 0.0}, tmp_path / "trial-1", {"validation": 0.1, "epochs": 4}, None),
    ]
    table = sweep._table(found, {}, epochs=4)
    assert list(table["trial"]) == ["trial-1", "trial-0"] and table["validation"].isna().tolist() == [
        False,
        True,
    ]


def test_a_trial_that_had_ended_says_so_again(shop, tmp_path):
    asked = sweep.plan_from(given(shop, tmp_path))
    first, again = [], []
    for reports in (first, again):
        sweep.trial({"dropout": 0.0}, asked.given, tmp_path / "trial", reports.append)
    assert len(first) == 4 and again == [first[-1]]


def test_a_trial_that_was_killed_before_it_was_heard_says_so_when_it_is_taken_up(shop, tmp_path):
    asked, heard = sweep.plan_from(given(shop, tmp_path)), []

    def killed_at_the_second(found):
        if heard:
            raise Stopped
        heard.append(found)

    with pytest.raises(Stopped):
        sweep.trial({"dropout": 0.0}, asked.given, tmp_path / "trial", killed_at_the_second)
    sweep.trial({"dropout": 0.0}, asked.given, tmp_path / "trial", heard.append)
    assert [found["epochs"] for found in heard] == [1, 2, 3, 4]


def test_a_file_of_settings_and_a_default_that_is_not_set_stand_in_the_best_settings(
    shop, tmp_path, in_this_process
):
    (tmp_path / "mine.yaml").write_text("hidden_size: 8\neval_step: 2\n")
    words = given(shop, tmp_path, {"warmup_steps": [0]}, config_files=str(tmp_path / "mine.yaml"), trials="1")
    del words["hidden_size"], words["eval_step"]
    asked = sweep.plan_from(words)
    assert asked.given["hidden_size"] == 8 and asked.given["eval_step"] == 2
    found = pd.DataFrame({"validation": [0.5], "defaults": [True]})
    sweep._write_best(tmp_path / "best.yaml", asked.given | {"average_decay": None}, found, "NDCG@3")
    best = yaml.safe_load((tmp_path / "best.yaml").read_text())
    assert best["hidden_size"] == 8 and "average_decay" not in best and "config_files" not in best


def test_there_is_nothing_to_go_on_with_where_nothing_was_begun(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.tune([f"--resume={tmp_path}"])
    assert "give the folder of a search, its --out" in capsys.readouterr().err


def test_a_search_that_goes_on_takes_no_other_keys(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.tune([f"--resume={tmp_path}", "--trials=20", "--out=elsewhere", "--ray_address=auto"])
    assert "as it was begun, found --trials --out beside --resume" in capsys.readouterr().err


def test_without_optuna_it_says_what_to_install(shop, tmp_path, monkeypatch):
    pytest.importorskip("ray.tune.search.optuna")
    monkeypatch.setattr("ray.tune.search.optuna.optuna_search.ot", None)
    asked = sweep.plan_from(given(shop, tmp_path, search="optuna"))
    with pytest.raises(SettingError, match="pip install optuna, or take --search=random"):
        ray_tune._of_optuna(asked, [{}])


def test_without_ray_it_says_what_to_install(shop, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingError, match="this needs Ray, which is not installed: pip install"):
        sweep.run_sweep(sweep.plan_from(given(shop, tmp_path)), tmp_path / "tune")


@pytest.mark.filterwarnings("ignore")
def test_ray_tune_walks_the_same_road(shop, tmp_path, capsys):
    import ray

    arguments = [f"--{key}={value}" for key, value in given(shop, tmp_path, trials="3", epochs="9").items()]
    try:
        cli.tune([*arguments, "--search=optuna", f"--out={tmp_path / 'tune'}"])
        found = pd.read_csv(tmp_path / "tune" / "trials.csv")
        assert len(found) == 3 and found["validation"].notna().all() and found["epochs"].max() == 9
        best = json.loads((tmp_path / "tune" / "best" / "validation.json").read_text())
        assert best["score"] == pytest.approx(found["validation"][0])
        whole = json.loads((tmp_path / "tune" / "trials" / found["trial"][0] / "validation.json").read_text())
        assert whole == best
        # a search whose process ended before the test goes on from Ray's state
        shutil.rmtree(tmp_path / "tune" / "best")
        (Path(tmp_path) / "tune" / "trials.csv").unlink()
        capsys.readouterr()
        cli.tune([f"--resume={tmp_path / 'tune'}"])
        assert len(pd.read_csv(tmp_path / "tune" / "trials.csv")) == 3
    finally:
        ray.shutdown()
