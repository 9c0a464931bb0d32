"""The files of a report: their numbers, their words, and that they are whole or absent."""

import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from recbole_llm.errors import DataError
from recbole_llm.evaluation import curve, manifest, report
from recbole_llm.evaluation.leaks import Leaks
from recbole_llm.evaluation.ranks import metrics_from

N = 120
LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": {"valid": "full", "test": "full"}}
ARTIFACT = {
    "made_from": {"encoder": {"name": "tiny-bert", "revision": "0123456789abcdef"}},
    "items_with_text": 1681,
    "rows": 1682,
    "dimension": 384,
    "key": "21d167db37c60ae7",
    "seconds": 65.4,
    "asked": {"backend": "small", "is_llm": True, "read": 90_210, "written": 1234},
}
MANIFEST = {
    "command": ["run_recbole_llm.py", "--model=LLMSeqRec", "--topk=[10, 20]"],
    "git": {"commit": "abc123", "dirty": True},
    "dataset": {"name": "shop", "files": {"shop.inter": {"bytes": 1234, "sha256": "f" * 64}}},
    "versions": {"python": "3.11.7", "recbole": "1.2.1"},
    "device": "cpu",
    "threads": 2,
    "platform": "Linux",
}


def outcome(name="LLMSeqRec", rank=1, **changes):
    """Every user of ``N`` has its target at ``rank``, 40 of them for an item without training event."""
    ranks = pd.DataFrame(
        {
            "user": [f"u{n}" for n in range(N)],
            "item": [f"i{n % 7}" for n in range(N)],
            "rank": rank + 8,
            "rank_masked": rank,
            "train_count": [0] * 40 + [3] * 29 + [10] * 51,
            "head": [False] * 69 + [True] * 51,
            "history_length": 9,
        }
    )
    both = (
        {key: round(float(value), 4) for key, value in metrics_from(ranks[column], [10]).items()}
        for column in ("rank", "rank_masked")
    )
    settings = {"model": name, "dataset": "shop", "seed": 7, "valid_metric": "NDCG@10", "mask_history": True}
    settings |= {"saved": True, "eval_args": LEAVE_ONE_OUT, "learning_rate": 0.001, "resume": None}
    scores = [0.1, 0.3, 0.2]
    curve = [
        {"epoch": e, "loss": 7.0 - e, "seconds": 30.0, "ndcg@10": score} for e, score in enumerate(scores)
    ]
    found = {
        "name": name,
        "settings": settings | changes.pop("settings", {}),
        "test": SimpleNamespace(unmasked=next(both), masked=next(both)),
        "valid": {"ndcg@10": np.float64(0.3)},
        "best_epoch": 1,
        "curve": curve,
        "seconds": 90.0,
        "parameters": 12345,
        "frozen": 678,
        "ranks": ranks,
        "items": pd.DataFrame({"train_count": [0, 3, 10]}),
        "beyond": {"coverage": 0.5, "gini": 0.25},
        "shortened": {},
        "disturbed": {},
        "remarks": ("its memory is short",),
        "leaks": Leaks(N, 0, N, 0, 0.2),
        "texts": {},
        "peak_memory_gib": 1.25,
    }
    return SimpleNamespace(**(found | changes))


@pytest.fixture
def pair():
    return [outcome(texts={"title": ARTIFACT}), outcome("SASRec", rank=3)]


def read(folder, name="report.md"):
    return (folder / name).read_text(encoding="utf-8")


# ------------------------------------------------------------------ metrics and ranks


def test_metrics_stand_in_json_by_outcome_and_convention(tmp_path, pair):
    report.write(tmp_path, pair, MANIFEST)
    ours, theirs = json.loads(read(tmp_path, "metrics.json"))["outcomes"]
    assert ours["name"] == "LLMSeqRec" and theirs["name"] == "SASRec"
    assert ours["test"]["masked"] == {"recall@10": 1.0, "ndcg@10": 1.0, "mrr@10": 1.0}
    assert ours["test"]["unmasked"]["ndcg@10"] == 0.301 and theirs["test"]["masked"]["ndcg@10"] == 0.5
    assert ours["conventions"] == {
        "masked": "history masked (the literature's convention)",
        "unmasked": "history not masked (RecBole's convention)",
    }
    assert ours["valid"] == {"ndcg@10": 0.3} and ours["best_epoch"] == 1
    assert (ours["seconds"], ours["peak_memory_gib"]) == (90.0, 1.25)
    assert (ours["parameters"], ours["frozen"]) == (12345, 678)


def test_the_difference_from_the_baseline_stands_in_json(tmp_path, pair):
    report.write(tmp_path, pair, MANIFEST)
    (test,) = json.loads(read(tmp_path, "metrics.json"))["differences"]
    masked = {"ours": 1.0, "theirs": 0.5, "mean": 0.5, "low": 0.5, "high": 0.5, "p": 1 / 10_001, "users": N}
    assert test["baseline"] == "SASRec"
    assert {key: test["masked"][key] for key in masked} == pytest.approx(masked)
    assert test["masked"]["effect"] is None and test["masked"]["wilcoxon_p"] < 1e-20, "all users gain alike"
    assert test["unmasked"]["mean"] == pytest.approx(1 / np.log2(10))  # rank 9 against rank 11


def test_ranks_come_back_from_parquet(tmp_path, pair):
    report.write(tmp_path, pair, MANIFEST)
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "ranks.parquet"), pair[0].ranks, check_dtype=False
    )
    assert (pd.read_parquet(tmp_path / "ranks-SASRec.parquet")["rank_masked"] == 3).all()


def test_the_manifest_is_written_last(tmp_path, pair, monkeypatch):
    order = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append(Path(b).name), replace(a, b)))
    report.write(tmp_path, pair, MANIFEST)
    assert order[-1] == "manifest.json" and set(order) == {path.name for path in tmp_path.iterdir()}
    assert json.loads(read(tmp_path, "manifest.json")) == MANIFEST


def test_a_report_that_fails_leaves_no_older_manifest(tmp_path, pair):
    report.write(tmp_path, pair, MANIFEST)
    pair[0].valid = {"ndcg@10": float("nan")}
    with pytest.raises(DataError, match=r"metrics\.json: outcomes: 0: valid: ndcg@10 is nan"):
        report.write(tmp_path, pair, MANIFEST)
    assert not (tmp_path / "manifest.json").exists()


def test_nothing_but_the_report_where_saving_is_off(tmp_path, pair):
    for one in pair:
        one.settings["saved"] = False
    report.write(tmp_path, pair, MANIFEST)
    names = {"metrics.json", "report.md", "learning_curve.png", "manifest.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert "parquet" not in read(tmp_path)


# ------------------------------------------------------------------ the page


def test_the_page_of_two_models_says_what_was_found(tmp_path, pair):
    report.write(tmp_path, pair, MANIFEST)
    text = read(tmp_path)
    for line in (
        "# LLMSeqRec on shop",
        "**NDCG@10 1.0000**, history masked (the literature's convention); +0.5000 against SASRec "
        "(95 % interval +0.5000 to +0.5000).",
        "| LLMSeqRec | **1.0000** | **1.0000** | **1.0000** |\n| SASRec | **1.0000** | 0.5000 | 0.3333 |",
        "| history masked (the literature's convention) | 1.0000 | 0.5000 | +0.5000 | +0.5000 to +0.5000 | < 0.001 |",
        "LLMSeqRec is higher under both conventions.",
        "the 120 users",
        "leave-one-out. Of each user's events in order of time, the last is the test target",
        "best NDCG@10 on the validation part, history masked.",
        "**Seed:** 7.",
        "| LLMSeqRec | 12,345 and 678 frozen | 3 | 1 | 1 min 30 s | 1.2 GiB |",
        "| **1** | 6.0000 | 0.3000 |",
        "| `title` | tiny-bert | `0123456789ab` | 1,681 of 1,682 (99.9 %) | 384 | `21d167db37c6` | 1 min 05 s | "
        "small: 90,210 tokens read, 1,234 written |",
        "learning_rate: 0.001",
        "python run_recbole_llm.py --model=LLMSeqRec '--topk=[10, 20]'",
        "commit `abc123`, **with changes that are not committed**",
        "`shop.inter`: 1,234 bytes",
        "`ranks.parquet`, `ranks-SASRec.parquet`: a row for each test target",
    ):
        assert line in text, line
    assert "resume:" not in text, "a setting that is not set"


def test_rare_items_stand_by_themselves_and_too_few_are_not_averaged(tmp_path, pair):
    report.write(tmp_path, pair, MANIFEST)
    text = read(tmp_path)
    assert "| 0 | 40 | 1.0000 | 1.0000 | 0.5000 | 1.0000 |" in text
    assert "| 1-5 | 29 | too few | too few | too few | too few |" in text
    assert "| 6-10 | 51 | 1.0000 | 1.0000 | 0.5000 | 1.0000 |" in text
    assert "| 11-20 | 0 | too few |" in text and "| > 50 | 0 | too few |" in text


def test_a_model_that_cannot_be_told_from_its_baseline_is_not_called_better(tmp_path):
    ours, theirs = outcome(), outcome("SASRec")
    ours.ranks.loc[:59, "rank_masked"], theirs.ranks.loc[60:, "rank_masked"] = 3, 3
    report.write(tmp_path, [ours, theirs], MANIFEST)
    text = read(tmp_path)
    row = re.search(
        r"\| history masked .* \| 0\.7500 \| 0\.7500 \| \+0\.0000 \| -0\.\d{4} to \+0\.\d{4} \| 1\.000 \|",
        text,
    )
    assert row and "LLMSeqRec cannot be told apart from its baseline under both conventions." in text


def test_of_one_user_nothing_is_claimed(tmp_path, pair):
    for one in pair:
        one.ranks = one.ranks[:1]
    report.write(tmp_path, pair, MANIFEST)
    text = read(tmp_path)
    assert (
        "Not tested: one user alone was tested; nothing is said of differences over users." in text
        and "is higher" not in text
        and "95 % interval" not in text
    )


def test_a_few_users_who_all_gain_are_no_more_than_chance(tmp_path, pair):
    for users, claim in ((5, "cannot be told apart from its baseline"), (12, "is higher")):
        few = [SimpleNamespace(**vars(one) | {"ranks": one.ranks[:users]}) for one in pair]
        report.write(tmp_path, few, MANIFEST)
        text = read(tmp_path)
        assert "| +0.5000 | +0.5000 to +0.5000 |" in text and f"LLMSeqRec {claim} under both" in text


def test_a_refit_stands_under_its_own_name_and_is_not_tested(tmp_path, pair):
    name = "LLMSeqRec (refit on training + validation)"
    refit = outcome(name, settings={"model": "LLMSeqRec"})
    report.write(tmp_path, [pair[0], refit], MANIFEST)
    text = read(tmp_path)
    assert (
        f"| {name} | 1.0000 | 1.0000 | 1.0000 |" in text
        and "A refit was trained on the validation targets too" in text
    )
    assert "more than chance" not in text and json.loads(read(tmp_path, "metrics.json"))["differences"] == []
    assert (tmp_path / "ranks-LLMSeqRec-refit-on-training-validation.parquet").is_file()


def test_ties_that_move_a_metric_are_told(tmp_path, pair):
    report.write(tmp_path, pair, MANIFEST)
    assert "Here both give the same NDCG@10 to four digits." in read(tmp_path)
    pair[1].test.masked["ndcg@10"] = 0.45
    report.write(tmp_path, pair, MANIFEST)
    assert "This moves NDCG@10 (SASRec, history masked: 0.5000, not 0.4500)." in read(tmp_path)


def test_nothing_is_claimed_of_ties_where_ndcg_at_10_was_not_measured(tmp_path, pair):
    for one in pair:
        one.test = SimpleNamespace(unmasked={"recall@3": 0.25}, masked={"recall@3": 0.5})
        one.curve = [entry | {"recall@3": 0.1} for entry in one.curve]
        one.settings["valid_metric"] = "Recall@3"
    report.write(tmp_path, pair, MANIFEST)
    text = read(tmp_path)
    assert "**Recall@3 0.5000**, history masked (the literature's convention).\n" in text
    assert "RecBole's metrics break ties arbitrarily.\n" in text


def test_without_ranks_there_is_a_report_without_test(tmp_path, pair):
    bare = {"ranks": None, "test": SimpleNamespace(unmasked={"ndcg@10": 0.25}, masked=None, ranks=None)}
    pop = outcome(
        "Pop",
        **bare,
        settings={"eval_args": {"split": {"RS": [8, 1, 1]}, "order": "RO", "mode": "uni100"}},
        beyond={},
    )
    report.write(tmp_path, [pop], {})
    text = read(tmp_path)
    assert "**NDCG@10 0.2500**, RecBole's own evaluation of this kind of model." in text
    assert (
        "all events, drawn at random, in parts of 8 : 1 : 1" in text
        and "sampled candidates, `uni100`" in text
    )
    assert "history masked" not in text and "Rare and new" not in text
    assert json.loads(read(tmp_path, "metrics.json"))["outcomes"][0]["test"] == {
        "masked": None,
        "unmasked": {"ndcg@10": 0.25},
    }
    assert not list(tmp_path.glob("*.parquet"))
    report.write(tmp_path, [pair[0], pop], {})
    assert "Not tested: its protocol, or the baseline's, gives no ranks." in read(tmp_path)


def test_a_split_is_told_as_it_was_made(tmp_path, pair):
    at_random = LEAVE_ONE_OUT | {"order": "RO"}
    for settings, words in (
        ({"eval_args": at_random}, "leave-one-out. Of each user's events in random order, the last is"),
        ({"split_column": "clean"}, "column `clean` says which events are targets of training"),
        ({"benchmark_filename": ["a", "b", "c"]}, "ready-made files for training, validation and test"),
    ):
        one = outcome(settings=settings)
        report.write(tmp_path, [one], MANIFEST)
        assert f"- **Split:** {words}" in read(tmp_path)
        assert ("**Warning:** training events were drawn at random" in read(tmp_path)) == (
            "RO" in str(settings)
        )
    kept = json.loads(read(tmp_path, "metrics.json"))["outcomes"][0]["protocol"]
    assert kept == {"eval_args": LEAVE_ONE_OUT, "split_column": None, "benchmark_filename": ["a", "b", "c"]}


def test_a_model_without_repeats_is_named_with_its_history(tmp_path, pair):
    report.write(tmp_path, pair, MANIFEST)
    assert "no_repeats" not in read(tmp_path)
    pair[0].settings["no_repeats"] = True
    report.write(tmp_path, pair, MANIFEST)
    assert "With `no_repeats` (LLMSeqRec) what the model has read of it has no chance" in read(tmp_path)


def test_the_number_of_items_is_told_where_it_is_known(tmp_path, pair):
    pair[0].n_items = 1682
    report.write(tmp_path, pair, MANIFEST)
    assert "**Ranking:** all 1,682 items are ranked, none is sampled." in read(tmp_path)


def test_a_resumed_run_tells_the_command_that_began_it(tmp_path, pair):
    given = {"model": "LLMSeqRec", "dataset": "shop", "resume": "runs/x", "run_name": "x"}
    report.write_json(tmp_path / "settings.json", given)
    report.write(tmp_path, pair, MANIFEST)
    assert "\npython run_recbole_llm.py --model=LLMSeqRec --dataset=shop\n" in read(tmp_path)


# ------------------------------------------------------------------ the picture


def pixels(folder):
    from matplotlib.image import imread

    assert (folder / "learning_curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    return imread(folder / "learning_curve.png")


def holds(picture, colour):
    wanted = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return bool((np.abs(picture[..., :3] - wanted).max(-1) < 0.02).any())


def test_the_picture_has_its_size_and_a_colour_for_each_model(tmp_path, pair):
    report.write(tmp_path, pair, MANIFEST)
    picture = pixels(tmp_path)
    assert picture.shape == (800, 1280, 4)
    assert [holds(picture, colour) for colour in curve.COLOURS[:3]] == [True, True, False]


def test_one_epoch_without_validation_can_be_drawn(tmp_path):
    report.write(
        tmp_path, [outcome(curve=[{"epoch": 0, "loss": 0.0, "seconds": 1.0}], best_epoch=0)], MANIFEST
    )
    assert pixels(tmp_path).shape == (800, 1280, 4) and holds(pixels(tmp_path), curve.COLOURS[0])
    assert "the weights after the last epoch, for nothing was validated" in read(tmp_path)


def test_labels_keep_their_order_and_distance():
    assert curve.spread([0.5, 0.1], 0.2) == pytest.approx([0.5, 0.1])
    assert curve.spread([0.5, 0.5, 0.5], 0.2) == pytest.approx([0.3, 0.5, 0.7])
    assert curve.spread([0.0, 0.05], 0.2) == pytest.approx([0.0, 0.2])
    assert curve.spread([1.0, 0.95], 0.2) == pytest.approx([1.0, 0.8])
    assert len(curve.spread([], 0.2)) == 0


# ------------------------------------------------------------------ files that are whole or absent


def test_json_takes_numbers_of_numpy_and_paths(tmp_path):
    value = {
        "a": np.float32(0.5),
        "b": np.int64(3),
        "c": np.arange(2),
        "d": (1, None, True),
        5: Path("x") / "y",
    }
    report.write_json(tmp_path / "v.json", value)
    assert json.loads(read(tmp_path, "v.json")) == {
        "a": 0.5,
        "b": 3,
        "c": [0, 1],
        "d": [1, None, True],
        "5": "x/y",
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"a": [1.0, np.float32("nan")]},
            r"v\.json: a: 1 is nan, expected a finite number; look for a loss or score",
        ),
        ({"a": float("inf")}, r"v\.json: a is inf, expected a finite number"),
        ({"a": {1}}, r"v\.json: a is a set, expected text, number, list or dict"),
    ],
)
def test_json_refuses_what_it_cannot_hold_and_leaves_the_file_as_it_was(tmp_path, value, message):
    report.write_json(tmp_path / "v.json", {"old": 1})
    with pytest.raises(DataError, match=message):
        report.write_json(tmp_path / "v.json", value)
    assert json.loads(read(tmp_path, "v.json")) == {"old": 1} and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    report.write_json(tmp_path / "v.json", {"old": 1})

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(os, call, fail)
        report.write_json(tmp_path / "v.json", {"new": 2})
    assert json.loads(read(tmp_path, "v.json")) == {"old": 1} and len(list(tmp_path.iterdir())) == 1


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path):
    report.write_json(tmp_path / "v.json", {"old": 1})
    alone = inspect.getsource(manifest.write_bytes)  # without torch: a fast start
    program = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        f"{alone}\nos.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)\nwrite_bytes(sys.argv[1], b'new')"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path / "v.json")], check=False)
    assert ended.returncode == -9 and json.loads(read(tmp_path, "v.json")) == {"old": 1}
    report.write_json(tmp_path / "v.json", {"new": 2})  # what the killed one left is taken away by the next
    assert [path.name for path in tmp_path.iterdir()] == ["v.json"]


# ------------------------------------------------------------------ the manifest


def test_the_manifest_tells_where_the_numbers_come_from(tmp_path, pair, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hidden")
    monkeypatch.setattr(sys, "argv", ["/some/where/run_recbole_llm.py", "--model=LLMSeqRec"])
    for name in ("shop.inter", "shop.item", "shop.user", "shop2.inter", "prep.json"):
        (tmp_path / name).write_bytes(name.encode())
    config = {"dataset": "shop", "data_path": str(tmp_path), "seed": 7, "device": "cpu"}
    found = manifest.manifest_of(config, pair, started=datetime(2026, 1, 2, tzinfo=UTC))
    digest = hashlib.sha256(b"shop.inter").hexdigest()
    assert found["dataset"]["name"] == "shop" and list(found["dataset"]["files"]) == [
        "shop.inter",
        "shop.item",
    ]
    assert found["dataset"]["files"]["shop.inter"] == {"bytes": 10, "sha256": digest}
    assert found["texts"] == {"LLMSeqRec": {"title": ARTIFACT}}
    assert found["command"] == ["run_recbole_llm.py", "--model=LLMSeqRec"]
    assert (found["seed"], found["device"]) == (7, "cpu") and found["threads"] >= 1
    assert found["started"] == "2026-01-02T00:00:00+00:00" < found["ended"]
    assert found["versions"]["recbole"] == "1.2.1" and {"python", "torch", "recbole-llm"} <= set(
        found["versions"]
    )
    assert "sk-hidden" not in json.dumps(found)


def test_the_commit_is_that_of_the_code_and_says_whether_it_was_changed(tmp_path):
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(
            ["git", "-C", tmp_path, *who, *words], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    code = tmp_path / "recbole_llm" / "__init__.py"
    code.parent.mkdir()
    code.write_text("one\n")
    git("init", "-q")
    assert manifest.commit(tmp_path) is None, "nothing is tracked yet"
    git("add", "."), git("commit", "-qm", "one")
    head = git("rev-parse", "HEAD")
    (tmp_path / "notes.txt").write_text("no code")
    assert manifest.commit(tmp_path) == {"commit": head, "dirty": False}
    code.write_text("two\n")
    assert manifest.commit(tmp_path) == {"commit": head, "dirty": True}


def test_outside_git_there_is_no_commit(tmp_path):
    assert manifest.commit(tmp_path) is None
