"""RecBole on today's NumPy, SciPy, PyTorch and Ray, and what `import recbole_llm` promises."""

import inspect
import pickle
import subprocess
import sys
import warnings
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
import torch
from ray import tune
from recbole.config import Config
from recbole.evaluator.metrics import NDCG
from recbole.model.general_recommender import LightGCN, lightgcn
from recbole.quick_start import quick_start
from recbole.trainer import trainer
from shop import write

import recbole_llm
from recbole_llm import compat
from recbole_llm.compat import arrays, patching
from recbole_llm.data.dataset import train_counts
from recbole_llm.train.build import build, configure


def python(code, *flags):
    """What a fresh Python prints for ``code``."""
    done = subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_loads_neither_ray_nor_transformers_and_warns_of_nothing():
    code = "import recbole_llm, sys; print([m for m in ('ray', 'transformers', 'peft') if m in sys.modules])"
    assert python(code, "-W", "error") == "[]"


def test_importing_leaves_anomaly_detection_off():
    code = "import recbole.model.sequential_recommender, torch; print(torch.is_anomaly_enabled())"
    assert python(code) == "True"  # stock RecBole: its sine.py switches it on for every model
    assert python(f"import recbole_llm; {code}") == "False"


@pytest.mark.parametrize("batch_size", [3, 64])
def test_pop_counts_every_interaction_and_no_negative(tmp_path, batch_size):
    rows = [(f"u{u}", f"i{k % 4 if u else 9 - k}", k) for u in range(7) for k in range(6)]
    write(tmp_path, rows)
    given = {"model": "Pop", "dataset": "shop", "data_path": str(tmp_path), "train_batch_size": batch_size}
    order = {
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
    }
    parts, _, model = build(configure("Pop", given | order | {"topk": [3], "valid_metric": "MRR@3"}))
    dataset = parts[0]._dataset
    for batch in parts[0]:
        model.calculate_loss(batch)
    assert torch.equal(model.item_cnt[:, 0], train_counts(dataset)) and model.item_cnt.sum() == 7 * 4
    assert model.max_cnt.item() == train_counts(dataset).max()


def test_quick_start_needs_no_ray():
    hidden = "import sys; sys.modules['ray'] = None\n"
    assert (
        python(hidden + "import recbole_llm; from recbole.quick_start import run_recbole; print('ok')")
        == "ok"
    )
    attempt = "try:\n    import recbole.quick_start\nexcept ImportError as error:\n    print(error)"
    assert "ray" in python(hidden + attempt)  # stock RecBole


@pytest.mark.parametrize(("found", "said"), [("1.2.0", "1.2.0"), (None, "no RecBole")])
def test_a_missing_or_other_recbole_is_refused_with_the_command_to_run(found, said, monkeypatch):
    def version(name):
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(metadata, "version", version)
    message = (
        rf"extends RecBole 1\.2\.1, and {said} is installed: run `pip install --no-deps recbole==1\.2\.1`"
    )
    with pytest.raises(ImportError, match=message):
        recbole_llm.check_recbole()


def test_applying_twice_changes_nothing():
    def state():
        return (
            Config.compatibility_settings,
            trainer.torch,
            lightgcn.sp,
            quick_start.objective_function,
            np.float,
        )

    before = state()
    compat.apply()
    assert all(now is then for now, then in zip(state(), before, strict=True))
    assert not hasattr(Config.compatibility_settings.replaced, "replaced")
    assert not isinstance(trainer.torch.replaced, patching.StandIn)


def test_rebinding_reaches_a_script_that_imported_the_function_first(monkeypatch):
    def original():
        return "old"

    script = SimpleNamespace(run=original)
    library = SimpleNamespace(run=original)
    monkeypatch.setitem(sys.modules, "a_script", script)
    patching.rebind(library, "run", lambda run: lambda: run() + " and new")
    assert (
        library.run is original and script.run() == "old and new"
    )  # library itself is not among sys.modules
    assert script.run.replaced is original and script.run.__name__ == "original"


def test_numpy_gets_the_missing_aliases_and_no_other(monkeypatch):
    bool_type, long_type = np.bool, np.long
    monkeypatch.delattr(np, "float")
    with pytest.raises(AttributeError, match="float"):
        NDCG.metric_info(None, np.array([[True, False]]), np.array([1]))
    arrays.set_numpy_aliases()
    assert NDCG.metric_info(None, np.array([[False, True]]), np.array([1])).tolist() == [
        [0, pytest.approx(1 / np.log2(3))]
    ]
    assert (np.float, np.int, np.object, np.str, np.unicode) == (
        np.float64,
        np.int_,
        np.object_,
        np.str_,
        np.str_,
    )
    assert np.bool is bool_type and np.long is long_type and not hasattr(np, "float_")


def test_config_no_longer_reads_what_numpy_2_removed():
    with pytest.raises(AttributeError, match="float_"):
        Config.compatibility_settings.replaced(None)
    assert Config.compatibility_settings(None) is None


def two_users_three_items():
    """A LightGCN with no more than its interactions: user 1 with items 1 and 2, user 2 with item 2."""
    ratings = scipy.sparse.coo_matrix((np.ones(3), ([1, 1, 2], [1, 2, 2])), shape=(3, 3))
    return SimpleNamespace(n_users=3, n_items=3, interaction_matrix=ratings)


@pytest.mark.filterwarnings("ignore:torch.sparse.SparseTensor")
def test_the_graph_of_lightgcn_is_normalized_by_degrees(monkeypatch):
    graph = LightGCN.get_norm_adj_mat(two_users_three_items()).to_dense()
    half = 2**-0.5
    expected = torch.zeros(6, 6)
    for user, item, weight in ((1, 1, half), (1, 2, 0.5), (2, 2, half)):
        expected[user, 3 + item] = expected[3 + item, user] = weight
    assert torch.allclose(graph, expected, atol=1e-6)
    monkeypatch.setattr(lightgcn, "sp", lightgcn.sp.replaced)
    with pytest.raises(AttributeError, match="_update"):
        LightGCN.get_norm_adj_mat(two_users_three_items())


def test_all_seven_graph_models_and_nothing_else_get_the_old_dok_matrix():
    modules = [
        name
        for name, module in sys.modules.items()
        if isinstance(getattr(module, "sp", None), patching.StandIn)
    ]
    assert sorted(name.rsplit(".", 1)[1] for name in modules) == [
        "gcmc", "kgin", "lightgcn", "mcclk", "ncl", "ngcf", "spectralcf",
    ]  # fmt: skip
    assert not hasattr(scipy.sparse.dok_matrix, "_update")


def test_mixed_precision_is_asked_for_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaler, context = trainer.amp.GradScaler(enabled=False), trainer.amp.autocast(enabled=False)
    assert not scaler.is_enabled() and context.device == "cuda"
    with pytest.warns(FutureWarning, match="torch.amp.GradScaler"):
        trainer.amp.replaced.GradScaler(enabled=False)


def test_metrics_are_reported_to_ray_as_one_dict(monkeypatch):
    reported = []
    monkeypatch.setitem(sys.modules, "ray.tune", SimpleNamespace(report=reported.append))
    quick_start.tune.report(**{"ndcg@10": 0.5, "recall@10": 0.7})
    assert reported == [{"ndcg@10": 0.5, "recall@10": 0.7}]
    with pytest.raises(TypeError, match="missing a required argument: 'metrics'"):
        inspect.signature(tune.report).bind(**{"ndcg@10": 0.5})  # the form in which RecBole calls it


def test_the_objective_returns_its_metrics_where_ray_looks_for_them(monkeypatch):
    inner = {"best_valid_score": 0.4, "test_result": {"ndcg@10": 0.5}}
    monkeypatch.setattr(quick_start.objective_function, "replaced", lambda *given: {**inner, "given": given})
    result = quick_start.objective_function({"epochs": 1}, saved=False)
    assert result == {**inner, "given": ({"epochs": 1}, None, False), "ndcg@10": 0.5}


def test_without_ray_there_is_nobody_to_report_to(monkeypatch):
    monkeypatch.delitem(sys.modules, "ray.tune")
    assert quick_start.tune.report(ndcg=0.5) is None


def test_a_new_process_patches_recbole_before_it_runs_it():
    assert list(inspect.signature(quick_start.objective_function).parameters) == [
        "config_dict", "config_file_list", "saved",
    ]  # fmt: skip
    pickles = [
        pickle.dumps(function) for function in (quick_start.objective_function, quick_start.run_recboles)
    ]
    code = (
        f"import pickle, sys; functions = [pickle.loads(p) for p in {pickles}]\n"
        "from recbole.trainer import trainer\n"
        "print([f.__name__ for f in functions], hasattr(trainer.torch, 'replaced'))"
    )
    assert python(code) == "['objective_function', 'run_recboles'] True"


def test_a_full_softmax_gets_no_negatives_by_default_and_keeps_those_asked_for():
    from recbole.config import Config

    assert Config("SASRec", "ml-100k")["train_neg_sample_args"]["distribution"] == "none"
    assert (
        Config("SASRec", "ml-100k", config_dict={"loss_type": "BPR"})["train_neg_sample_args"]["sample_num"]
        == 1
    )
    with pytest.raises(ValueError, match="should be None"):
        Config(
            "SASRec",
            "ml-100k",
            config_dict={"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}},
        )
    stock = Config._set_default_parameters.replaced
    with pytest.MonkeyPatch.context() as undone, pytest.raises(ValueError, match="should be None"):
        undone.setattr(Config, "_set_default_parameters", stock)
        Config("SASRec", "ml-100k")
