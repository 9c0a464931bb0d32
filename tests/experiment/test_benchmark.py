"""A benchmark on the carousel: what it trains, what it chooses by, what its page says, and that it can be killed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from carousel import TINY, write_carousel
from shop import write

from recbole_llm import cli
from recbole_llm.errors import SettingError
from recbole_llm.evaluation.ranks import metrics_from
from recbole_llm.experiment import ablation, benchmark, page, results, sections, study
from recbole_llm.experiment.plan import plan_from
from recbole_llm.experiment.space import Entry

SMALL = {
    key: str(value) for key, value in TINY.items() if key not in ("topk", "valid_metric", "learning_rate")
}
SMALL |= {"fusion": "id_only", "epochs": "3", "eval_step": "1", "device_threads": "1"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("shop"), n_items=40)


def run_here(folder, threads):
    """A training without a new process."""
    try:
        study.work(folder)
    except Exception as error:
        return str(error)


@pytest.fixture
def in_this_process(monkeypatch):
    """Spare the tests a new process for each training."""
    monkeypatch.setattr(study, "run_in_process", run_here)


def plan_on(shop, **changes):
    given = {"models": "Pop,LLMSeqRec", "datasets": "carousel", "seeds": "1,2", "trials": "2"}
    given["strong"] = "False"
    return plan_from(given | {"data_path": str(shop)} | SMALL | changes)


@pytest.fixture(scope="module")
def made(shop, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "run_in_process", run_here)
        home = tmp_path_factory.mktemp("made")
        benchmark.run(plan_on(shop), home, workers=1)
    return home


@pytest.fixture
def finished(made, tmp_path, in_this_process):
    """A benchmark that came to its end; each test has a copy, which it may change."""
    return shutil.copytree(made, tmp_path, dirs_exist_ok=True)


def test_each_model_is_searched_on_validation_and_tested_with_every_seed(finished):
    cells = {str(path.parent.relative_to(finished)) for path in finished.rglob(study.ASKED)}
    ours = [f"carousel/LLMSeqRec/{cell}" for cell in ("trial-0", "trial-1", "seed-1", "seed-2")]
    assert cells == {*ours, "carousel/Pop/seed-1", "carousel/Pop/seed-2"}
    for trial in finished.glob("*/*/trial-*"):
        assert (trial / study.VALIDATED).is_file() and not (trial / "metrics.json").exists()
        assert not (trial / "checkpoint").exists()
    scores = [json.loads((finished / cell / study.VALIDATED).read_text())["score"] for cell in ours[:2]]
    best = json.loads((finished / ours[scores.index(max(scores))] / study.ASKED).read_text())["given"]
    tested = json.loads((finished / ours[2] / study.ASKED).read_text())["given"]
    assert {key: tested.get(key) for key in best if key != "seed"} == {
        k: v for k, v in best.items() if k != "seed"
    }


def test_the_page_and_its_tables_say_the_same(finished):
    shown, text = ((finished / f"benchmark.{kind}").read_text() for kind in ("html", "md"))
    rows = pd.read_csv(finished / "benchmark.csv")
    assert len(rows) == 2 * 2 * 2 * 2  # models, seeds, conventions, metrics
    chosen = (rows["model"] == "LLMSeqRec") & (rows["history"] == "masked") & (rows["metric"] == "ndcg@10")
    mean = f"{rows['value'][chosen].mean():.4f}"
    assert "<tr><th></th><th>NDCG@10 masked</th><th>Recall@10 masked</th>" in shown
    assert mean in text and mean in shown and shown.count("data:image/png;base64,") == 3
    assert "times in training" in shown and "Gini index" in shown and "What the texts cost" not in text
    assert "| events | targets | Pop | LLMSeqRec |\n" in text and "| up to 5 | " in text
    ranks = [pd.read_parquet(finished / f"carousel/LLMSeqRec/seed-{seed}/ranks.parquet") for seed in (1, 2)]
    assert [len(frame) for frame in ranks] == [40, 40]
    (against,) = [
        d
        for d in json.loads((finished / "benchmark.json").read_text())["differences"]
        if d["history"] == "masked"
    ]
    assert (against["model"], against["against"]) == ("LLMSeqRec", "Pop") and "| LLMSeqRec less Pop |" in text
    assert against["users"] == 40 and against["holm"] == against["p"]
    assert "| Wilcoxon | d |" in text and page._chance(against["wilcoxon_p"]) in text
    assert "Not searched, for they have no search space or all of it was given: Pop. " in text
    assert (
        text.count("- **Split:** leave-one-out. Of each user's events in order of time, the last is the test")
        == 1
    )
    assert text.count("- **History:** where it is masked,") == 1
    assert "| training events later than a test target, in the mean | " in text and "**Warning" not in text
    assert "Seeds 1, 2: " in text and "Trials on the validation part: LLMSeqRec 2. " in text


def test_the_page_says_what_the_texts_cost_and_how_items_made_new_are_ranked(shop, tmp_path, in_this_process):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "made.npy", rng.normal(size=(40, 12)).astype(np.float32))
    (tmp_path / "tokens.txt").write_text("\n".join(f"i{number}" for number in range(40)))
    texts = {"text_fields": "[]", "text_vectors": str({"made": str(tmp_path / "made.npy")})}
    keys = texts | {"models": "LLMSeqRec,SASRec-strong", "trials": "1", "fusion": "gate", "cold_share": "0.2"}
    keys |= {"shorten_histories": "[1,3]"}
    plan = plan_on(shop, artifact_path=str(tmp_path / "artifacts"), **keys)
    text = benchmark.run(plan, tmp_path / "out", workers=1).with_suffix(".md").read_text()
    assert "| `made` | LLMSeqRec | ready-made | 40 | 0 s | none |" in text
    ranks = [
        pd.read_parquet(tmp_path / f"out/carousel/LLMSeqRec/seed-{seed}/ranks.parquet") for seed in (1, 2)
    ]
    new = [int((frame["rank_cold"] > 0).sum()) for frame in ranks]
    cut = [
        json.loads((tmp_path / f"out/carousel/LLMSeqRec/seed-{seed}/metrics.json").read_text())
        for seed in (1, 2)
    ]
    cut = [one["outcomes"][0]["shortened"]["3"]["masked"]["ndcg@10"] for one in cut]
    row = re.search(
        r"\| events told \| 1 \| 3 \| as trained \|\n.*\n\| LLMSeqRec \| (\S+) \| (\S+) \| (\S+) \|", text
    )
    assert float(row[2]) == pytest.approx(np.mean(cut), abs=6e-5)
    whole = np.mean([metrics_from(frame["rank_masked"], [10])["ndcg@10"] for frame in ranks])
    assert float(row[3]) == pytest.approx(whole, abs=6e-5)
    assert f"| all items | {new[0]} | " in text and f"| new items alone | {new[0]} | " in text


def test_what_is_finished_is_not_repeated_and_what_failed_is_tried_again(finished, shop, monkeypatch):
    (finished / "carousel/Pop/seed-2/manifest.json").unlink()
    (finished / "carousel/Pop/seed-2/error.txt").write_text("OSError: no space left")
    trained, work = [], study.work
    monkeypatch.setattr(study, "work", lambda folder: (trained.append(folder.name), work(folder)))
    before = (finished / "benchmark.csv").read_text()
    benchmark.run(plan_on(shop), finished, workers=1)
    assert trained == ["seed-2"] and (finished / "benchmark.csv").read_text() == before


def plain_plan(folder, **changes):
    """Of models that know none of LLMSeqRec's keys."""
    given = {"datasets": "carousel", "seeds": "1", "trials": "1", "strong": "False", "epochs": "1"}
    return plan_from(given | {"data_path": str(folder), "eval_step": "1", "device_threads": "1"} | changes)


AT_RANDOM = str({"split": {"RS": [8, 1, 1]}, "order": "RO", "group_by": "user", "mode": "full"})


def test_a_split_drawn_at_random_is_warned_of_and_leaks_that_were_not_kept_are_unknown(
    shop, tmp_path, in_this_process
):
    plan = plain_plan(shop, models="Pop", eval_args=AT_RANDOM)
    text = benchmark.run(plan, tmp_path, workers=1).with_suffix(".md").read_text()
    assert "- **Split:** each user's events, drawn at random, in parts of 8 : 1 : 1." in text
    drawn = "**Warning:** training events were drawn at random (eval_args' order: RO)"
    assert drawn in text and "unknown: no times that compare between users" in text
    assert drawn in (tmp_path / "carousel/Pop/seed-1/report.md").read_text()
    kept = tmp_path / "carousel/Pop/seed-1/metrics.json"
    older = json.loads(kept.read_text())
    del older["outcomes"][0]["protocol"], older["outcomes"][0]["leaks"]
    kept.write_text(json.dumps(older))
    text = benchmark.run(plan, tmp_path, workers=1).with_suffix(".md").read_text()
    assert "- **Split:** each user's events, drawn at random, in parts of 8 : 1 : 1." in text
    assert "What the training part knew of the test part is unknown." in text
    assert drawn in text


def test_a_sequential_model_refuses_events_in_random_order_before_anything_is_trained(shop, tmp_path):
    said = "eval_args has order RO, but SASRec predicts what comes next; set order to TO, the order of time"
    with pytest.raises(SettingError, match=said):
        benchmark.run(plain_plan(shop, models="Pop,SASRec", eval_args=AT_RANDOM), tmp_path, workers=1)
    assert not list(tmp_path.rglob(study.ASKED))


def test_a_training_that_fails_stops_nothing_and_is_named(shop, tmp_path, in_this_process, monkeypatch):
    work = study.work

    def failing(folder):
        if "Pop" in str(folder):
            (folder / study.ERROR).write_text("OSError: the disk is full")
            raise OSError("the disk is full")
        work(folder)

    monkeypatch.setattr(study, "work", failing)
    text = benchmark.run(plan_on(shop, trials="1"), tmp_path, workers=1).with_suffix(".md").read_text()
    assert "Pop, seed-1: OSError: the disk is full" in text and "| Pop | failed |" in text
    assert "- LLMSeqRec and Pop: no seed was tested with both" in text


def finding(name, ranks):
    """A finding of so many ranks by seed."""
    empty = dict.fromkeys(results.Finding.__dataclass_fields__)
    return results.Finding(**empty | {"name": name, "seeds": tuple(ranks), "ranks": list(ranks.values())})


def test_what_models_have_to_say_of_themselves_stands_on_the_page_once():
    two = [replace(finding(name, {}), remarks=("one said", f"{name} said")) for name in ("A", "B")]
    none = replace(finding("C", {}), remarks=())
    assert sections.remarks([*two, none]).splitlines() == [
        "- A, B: one said.",
        "- A: A said.",
        "- B: B said.",
    ]
    assert sections.remarks([none]) == ""


def ranks_of(items, ranks):
    users = [f"u{number}" for number in range(len(items))]
    return pd.DataFrame({"user": users, "item": items, "rank": ranks, "rank_masked": ranks})


def test_what_was_tested_on_other_targets_is_left_out_and_said():
    ours = finding("A", {1: ranks_of(["i", "j", "k"], [1, 2, 3])})
    other = finding("B", {1: ranks_of(["i", "k", "k"], [1, 2, 3])})
    fewer = finding("C", {1: ranks_of(["i", "j"], [1, 2])})
    untested, pairs = finding("D", {}), (("A", "B"), ("A", "C"), ("A", "D"))
    assert not len(results.differences([ours, other, fewer, untested], pairs, "ndcg@10"))
    text = page.not_compared([ours, other, fewer, untested], pairs)
    assert (
        "- A and B: they were tested on other targets: of 3 and 3, 2 are the same; of 3 and 3 users, 3"
        in text
    )
    assert (
        "- A and C: they were tested on other targets: of 3 and 2, 2 are the same; of 3 and 2 users, 2"
        in text
    )
    assert "- A and D: no seed was tested with both" in text


def test_two_models_are_compared_on_the_seeds_that_both_have():
    items = ["i", "j", "k"]
    ours = finding("A", {1: ranks_of(items, [1, 1, 2]), 2: ranks_of(items, [99, 99, 99])})
    other = finding("B", {1: ranks_of(items, [1, 2, 3])})
    (row,) = results.differences([ours, other], (("A", "B"),), "recall@1").to_dict("records")
    assert row["mean"] == pytest.approx(1 / 3) and not results.left_out([ours, other], (("A", "B"),))


def test_two_entries_that_rank_alike_have_a_page(finished, shop):
    for seed in (1, 2):
        names = ("LLMSeqRec", "Pop")
        ours, theirs = (finished / f"carousel/{name}/seed-{seed}/ranks.parquet" for name in names)
        theirs.write_bytes(ours.read_bytes())
    text = benchmark.run(plan_on(shop), finished, workers=1).with_suffix(".md").read_text()
    assert "Every user has the same NDCG@10 with both: LLMSeqRec and Pop." in text
    tests = json.loads((finished / "benchmark.json").read_text())["differences"]
    assert [row["effect"] for row in tests] == [None, None]


def test_a_training_whose_process_was_killed_is_named(finished, shop, monkeypatch):
    (finished / "carousel/Pop/seed-2/manifest.json").unlink()
    monkeypatch.setattr(study, "run_in_process", lambda folder, threads: "the process ended with status -9")
    text = benchmark.run(plan_on(shop), finished, workers=1).with_suffix(".md").read_text()
    assert "- Pop, seed-2: its process ended without a word; see " in text and "log.txt" in text


def page_of(folder, rows, **keys):
    """The page of a benchmark on a shop of these rows."""
    write(folder, rows)
    plan = plan_on(folder, models="LLMSeqRec,SASRec", datasets="shop", trials="1", seeds="1", **keys)
    return benchmark.run(plan, folder / "out", workers=1).with_suffix(".md").read_text()


def test_one_user_and_one_seed_say_nothing_of_users_and_seeds(tmp_path, in_this_process):
    text = page_of(tmp_path, [("u", f"i{k}", k) for k in range(28)])
    assert "One user alone was tested: nothing is said of differences over users." in text
    assert (
        "Seed 1 alone: nothing is said of seeds." in text and "LLMSeqRec less" not in text and "±" not in text
    )


def test_where_every_metric_is_zero_nothing_is_compared(tmp_path, in_this_process):
    popular = [(f"u{u}", f"p{k}", 1000 + k) for u in range(30) for k in range(16)]
    write(
        tmp_path,
        popular
        + [(f"u{u}", f"{last}{u}", time) for u in range(30) for last, time in (("v", 2000), ("t", 3000))],
    )
    page_file = benchmark.run(
        plain_plan(tmp_path, models="Pop,ItemKNN", datasets="shop"), tmp_path / "out", workers=1
    )
    text = page_file.with_suffix(".md").read_text()
    assert "all are 0, and nothing can be compared" in text and "| Pop | 0.0000 | 0.0000 |" in text
    assert "ItemKNN less Pop" not in text and "95 % interval |" not in text
    assert json.loads(page_file.with_suffix(".json").read_text())["differences"] == []


def test_a_text_model_without_texts_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(
        SettingError, match="text_fields names title, but there is no .*shop.item; write the items"
    ):
        page_of(tmp_path, [(f"u{u}", f"i{u + k}", k) for u in range(4) for k in range(9)], fusion="gate")


def test_a_ranking_longer_than_the_catalogue_is_refused_in_a_sentence(tmp_path, in_this_process, capsys):
    page_of(tmp_path, [(f"u{u}", f"i{(k + u) % 8}", k) for u in range(9) for k in range(5)])
    said = " ".join(capsys.readouterr().out.split())
    assert "failed: topk asks for 10 items, and `shop` has 8; set topk to fewer" in said


def test_other_settings_need_another_folder(finished, shop):
    with pytest.raises(SettingError, match="was begun with epochs '3', now it is '4'; give another --out"):
        benchmark.run(plan_on(shop, epochs="4"), finished, workers=1)


def test_a_default_that_is_given_as_a_key_is_the_same_training(finished, shop):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("metrics.json")}
    benchmark.run(plan_on(shop, no_repeats="False"), finished, workers=1)
    assert before and before == {path: path.stat().st_mtime_ns for path in finished.rglob("metrics.json")}


def rewritten(path, change):
    """Let ``change`` alter what a JSON file says."""
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def refused(plan, home, monkeypatch):
    """What is said where a benchmark is refused, with nothing trained before and nothing deleted."""
    before = sorted(home.rglob("*"))
    monkeypatch.setattr(study, "run_in_process", lambda *_: pytest.fail("something was trained"))
    with pytest.raises(SettingError) as refusal:
        benchmark.run(plan, home, workers=1)
    assert sorted(home.rglob("*")) == before
    return str(refusal.value)


def test_what_was_trained_on_other_data_is_refused(tmp_path, in_this_process, monkeypatch):
    file = write_carousel(tmp_path, n_items=40) / "carousel/carousel.inter"
    given = {
        "datasets": "carousel",
        "seeds": "1",
        "trials": "1",
        "strong": "False",
        "data_path": str(tmp_path),
    }
    both, one = (plan_from(given | {"models": models, "epochs": "1"}) for models in ("Pop,BPR", "BPR"))
    benchmark.run(both, tmp_path / "out", workers=1)
    cells = tmp_path / "out/carousel"
    (cells / "Pop/seed-1" / study.TESTED).unlink()
    file.write_text(file.read_text() + "u0\ti1\t5000\n")
    said = refused(both, tmp_path / "out", monkeypatch)
    assert "carousel/Pop/seed-1 was begun with other settings or data: carousel.inter was " in said
    assert said.endswith("; give another --out, or delete that folder")
    with pytest.raises(SettingError, match="Pop/seed-1 was begun with other settings or data"):
        study.work(cells / "Pop/seed-1")
    # an older version left the hashes of the data in the manifest alone
    rewritten(
        cells / "BPR/seed-1" / study.ASKED, lambda asked: [asked.pop(key) for key in ("settings", "data")]
    )
    said = refused(one, tmp_path / "out", monkeypatch)
    assert "carousel/BPR/seed-1 was begun with other settings or data: carousel.inter was " in said


def test_what_other_presets_trained_is_refused(finished, shop, monkeypatch):
    (finished / "carousel/Pop/seed-1" / study.TESTED).unlink()
    cell, others = finished / "carousel/LLMSeqRec/seed-2", {"learner": "sgd", "kappa": 1.5, "loss": "bce"}
    rewritten(cell / study.ASKED, lambda asked: asked["settings"].update(others, time_mode="bias"))
    said = refused(plan_on(shop), finished, monkeypatch)
    assert "LLMSeqRec/seed-2 was begun with other settings or data: kappa was 1.5, now 5.0; " in said
    assert "learner was 'sgd', now 'adamw'; loss was 'bce', now 'ce' and 1 more; give another --out" in said


def test_the_page_says_what_was_not_recorded_and_which_commits_there_were(finished, shop):
    text = (finished / "benchmark.md").read_text()
    assert "older version" not in text and "at commits" not in text
    settings = text[text.index("<summary>LLMSeqRec: settings") :]
    assert (
        'learner: "adamw"' in settings and "hidden_size: 16" in settings and "\nlearning_rate: " in settings
    )
    manifest = finished / "carousel/Pop/seed-2/manifest.json"
    rewritten(manifest, lambda found: found.update(git={"commit": "0123456789abcdef", "dirty": True}))
    for name in ("Pop/seed-1", "LLMSeqRec/trial-0"):
        cell = finished / "carousel" / name / study.ASKED
        rewritten(cell, lambda asked: [asked.pop(key) for key in ("settings", "data")])
    text = benchmark.run(plan_on(shop), finished, workers=1).with_suffix(".md").read_text()
    assert "is not known (carousel, Pop: seed-1; carousel, LLMSeqRec: trial-0)." in text
    assert "The 4 trainings that read the test part were made at commits " in text
    assert "0123456 with changes (1)." in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": "SASRecc"}, "no model is called SASRecc; did you mean SASRec?"),
        ({"models": ""}, "models is '', expected names with commas between"),
        ({"models": "Pop,Pop"}, "each once"),
        ({"seeds": "1,x"}, "seeds is '1,x', expected whole numbers"),
        ({"trials": "0"}, "trials is 0, expected 1 or more"),
        ({"trials": "LLMSeqRec:0"}, "trials is LLMSeqRec:0, expected 1 or more"),
        ({"trials": "LLMSeqRec:x"}, "trials is 'x', expected whole numbers"),
        ({"trials": "Pop:2"}, "trials names Pop, expected each model that has a space: LLMSeqRec"),
        ({"ours": "SASRec"}, "ours is SASRec, expected one of the models, Pop, LLMSeqRec"),
        ({"models": "SRGNN,LLM4SBR-SRGNN", "ours": "Pop"}, "ours is Pop, expected one of the models"),
        ({"seed": "3"}, "a benchmark takes --seeds"),
        ({"model": "Pop"}, "model is that of one training; a benchmark takes --models"),
        ({"dataset": "shop"}, "dataset is that of one training; a benchmark takes --datasets"),
        ({"baseline": "Pop"}, "name it among --models"),
        ({"resume": "runs/a"}, "the same command with the same --out goes on where it was"),
        ({"refit": "True"}, "give it to `recbole-llm train`"),
        ({"run_path": "a"}, "a benchmark takes --out"),
        ({"run_name": "a"}, "a benchmark takes --out"),
        ({"trials": "4,5"}, "trials is 4,5, expected one number"),
        ({"metrics": "5"}, "metrics is '5', expected names"),
        ({"topk": "[]"}, "topk is '[]', expected whole numbers above 0"),
        ({"seeds": "²"}, "seeds is '²', expected whole numbers"),
        ({"seeds": "1,01"}, "seeds is '1,01', expected each number once"),
        ({"config_files": "none.yaml"}, "config_files: no file none.yaml"),
        ({"models": "SRGNN,LLM4SBR-SRGN"}, "no model is called SRGN; did you mean SRGNN?"),
        ({"compare": "mrr@10"}, "compare is mrr@10; expected one of recall@10, ndcg@10"),
        ({"compare": "NDGC@10"}, "compare is NDGC@10; did you mean ndcg@10?"),
        (
            {"metrics": "['Hit','Precision']"},
            "metrics names Hit, Precision, but models are compared by what ranks",
        ),
    ],
)
def test_plans_that_cannot_be_are_refused_in_a_sentence(shop, changes, message):
    with pytest.raises(SettingError) as refusal:
        plan_on(shop, **changes)
    assert message in str(refusal.value)


def test_a_wrapper_is_compared_with_what_it_wraps_by_the_metric_that_is_asked_for(
    shop, tmp_path, in_this_process
):
    asked = {"metrics": "['Recall','MRR']", "topk": "[5,10]", "valid_metric": "MRR@10", "compare": "Recall@5"}
    asked |= {"models": "SRGNN,LLM4SBR-SRGNN,GRU4Rec", "trials": "1", "seeds": "1", "views": "{}"}
    asked |= {"train_rows": "prefix", "hidden_size": "16", "epochs": "2", "data_path": str(shop)}
    plan = plan_from(asked | {"datasets": "carousel", "strong": "False"})
    assert plan.metrics == ("recall@5", "recall@10", "mrr@5", "mrr@10")
    assert plan.pairs == (("LLM4SBR-SRGNN", "SRGNN"),)
    text = benchmark.run(plan, tmp_path, workers=1).with_suffix(".md").read_text()
    (row,) = [
        d
        for d in json.loads((tmp_path / "benchmark.json").read_text())["differences"]
        if d["history"] == "masked"
    ]
    ranks = {
        name: pd.read_parquet(tmp_path / f"carousel/{name}/seed-1/ranks.parquet")["rank_masked"]
        for name in ("SRGNN", "LLM4SBR-SRGNN")
    }
    assert row["theirs"] == pytest.approx((ranks["SRGNN"] <= 5).mean())
    assert row["mean"] == pytest.approx((ranks["LLM4SBR-SRGNN"] <= 5).mean() - row["theirs"])
    assert (
        "|  | Recall@5 masked | Recall@10 masked | MRR@5 masked |" in text
        and "|  | Recall@5 | of it |" in text
    )
    assert "| LLM4SBR-SRGNN less SRGNN |" in text


@pytest.mark.parametrize(
    "backbone", ["SRGNN", "TAGNN", "GCEGNN", "DHCN", "GRU4Rec", "SASRec", "NARM", "STAMP"]
)
def test_a_wrapper_is_trained_as_what_it_wraps(shop, backbone):
    given = {
        "models": f"{backbone},LLM4SBR-{backbone}",
        "datasets": "carousel",
        "strong": "False",
        "seeds": "1",
    }
    own = {"GRU4Rec": {"dropout_prob": "0.7"}, "NARM": {"n_layers": "2"}, "SASRec": {"inner_size": "32"}}
    plan = plan_from(
        given | {"data_path": str(shop), "train_rows": "prefix", "views": "{}"} | own.get(backbone, {})
    )
    inner, outer = (
        benchmark.configure(one.model, benchmark._settings(one, "carousel", plan)) for one in plan.entries
    )
    same = "train_rows train_batch_size epochs stopping_step learner learning_rate warmup_steps weight_decay enable_amp"
    same = [
        *same.split(),
        *own.get(backbone, {}),
        *(["hidden_size"] if backbone != "STAMP" else []),
    ]  # it has none
    assert {key: outer[key] for key in same} == {key: inner[key] for key in same}
    assert outer["backbone"] == backbone


def test_a_wrapper_of_what_is_trained_on_dense_rows_is_refused(shop, tmp_path):
    given = {"models": "GRU4Rec,LLM4SBR-GRU4Rec", "datasets": "carousel", "strong": "False", "seeds": "1"}
    plan = plan_from(given | {"data_path": str(shop), "views": "{}"})
    with pytest.raises(
        SettingError, match="train_rows: dense needs a model that reads left to right, but LLM4SBR"
    ):
        benchmark.run(plan, tmp_path, workers=1)


def test_a_page_has_the_metrics_that_ranks_tell_and_one_at_least(shop):
    with pytest.raises(
        SettingError, match="metrics names Precision, but models are compared by what ranks tell"
    ):
        plan_on(shop, metrics="['Precision']")
    assert plan_on(shop, metrics="['Precision', 'Recall']").metrics == ("recall@10",)
    assert plan_on(shop, metrics="NDCG", topk="5").metrics == ("ndcg@5",)


def test_each_model_may_have_a_budget_of_its_own(shop):
    plan = plan_on(shop, models="Pop,LLMSeqRec,SASRec-strong", trials="LLMSeqRec:1,SASRec-strong:3")
    assert plan.trials == {"Pop": 1, "LLMSeqRec": 1, "SASRec-strong": 3}
    assert "Trials on the validation part: LLMSeqRec 1, SASRec-strong 3. " in page.protocol(plan)


def test_an_unknown_key_or_metric_is_refused_before_anything_is_trained(shop, tmp_path):
    refused = [
        ({"epohcs": "3"}, "did you mean `epochs`"),
        ({"metrics": "['NDGC']"}, "no metric is called NDGC; did you mean ndcg?"),
        ({"saved": "False"}, "a benchmark compares the ranks of all items"),
        (
            {"eval_args": "{'split': {'LS': 'valid_and_test'}, 'order': 'TO', 'mode': 'uni100'}"},
            "mode to full",
        ),
    ]
    for changes, message in refused:
        with pytest.raises(SettingError, match=message):
            benchmark.run(plan_on(shop, **changes), tmp_path, workers=1)
    assert not list(tmp_path.rglob(study.ASKED))


def test_a_strong_sasrec_stands_in_every_table_unless_it_is_unwanted(shop):
    asked = [
        plan_on(shop, strong=strong, models=models) for strong, models in (("True", "Pop"), ("False", "Pop"))
    ]
    assert [[one.name for one in plan.entries] for plan in asked] == [["Pop", "SASRec-strong"], ["Pop"]]
    assert [plan.ours for plan in asked] == ["Pop", "Pop"]
    with pytest.raises(SettingError, match="strong is 'yes', expected True or False"):
        plan_on(shop, strong="yes")


def test_strong_sasrec_takes_over_our_size_and_rows(shop):
    (one,) = [e for e in plan_on(shop, models="SASRec-strong,LLMSeqRec").entries if e.name == "SASRec-strong"]
    settings = benchmark._settings(one, "carousel", plan_on(shop))
    assert settings["model"] == "SASRec" and settings["train_rows"] == "dense"
    assert settings["hidden_size"] in (16, "16") and settings["loss_type"] == "CE"


def test_over_seeds_there_are_a_mean_and_a_deviation():
    assert results.spread([0.1, 0.2, 0.6]) == (pytest.approx(0.3), pytest.approx(0.07**0.5))
    assert results.spread([0.25]) == (0.25, None)


def test_the_switches_of_llmseqrec_are_settings_that_it_takes(shop):
    plan = ablation.plan_from({"datasets": "carousel", "data_path": str(shop), "seeds": "1"})
    names = [one.name for one in plan.entries]
    assert names[0] == plan.ours == "LLMSeqRec" and len(names) == len(set(names)) > 30
    assert {"without text", "text alone", "plain", "shuffled texts", "random vectors"} <= set(names)
    for one in plan.entries:
        benchmark.configure("LLMSeqRec", {"dataset": "carousel", "data_path": str(shop)} | one.keys)


def test_a_part_alone_stands_on_the_model_without_the_others():
    parts = {"text": {"fusion": "id_only"}, "cosine": {"score": "dot"}}
    found = ablation.entries_of("M", {"parts": parts})
    assert found["parts"] == [
        Entry("without text", "M", parts["text"]),
        Entry("without cosine", "M", parts["cosine"]),
    ]
    assert [one.keys for one in found["alone"]] == [
        {"fusion": "id_only", "score": "dot"},
        {"score": "dot"},
        {"fusion": "id_only"},
    ]


def test_switches_may_be_chosen_by_name_or_kind(shop):
    given = {"datasets": "carousel", "data_path": str(shop), "seeds": "1"}
    plan = ablation.plan_from(given | {"switches": "controls,gbce"})
    assert [one.name for one in plan.entries] == ["LLMSeqRec", "gbce", "shuffled texts", "random vectors"]
    with pytest.raises(SettingError, match="no switch is called gcbe; did you mean gbce?"):
        ablation.plan_from(given | {"switches": "gcbe"})
    with pytest.raises(
        SettingError,
        match="SASRec has no switches in properties/ablation; those of HierLLMRec, LLM4SBR, LLMSeqRec",
    ):
        ablation.plan_from(given | {"model": "SASRec"})
    with pytest.raises(SettingError, match=r"no model is called LLMSeqRecc; did you mean LLMSeqRec\?"):
        ablation.plan_from(given | {"model": "LLMSeqRecc"})


def test_an_ablation_comes_to_its_page_and_a_switch_goes_before_the_command_line(
    shop, tmp_path, in_this_process
):
    given = {"datasets": "carousel", "data_path": str(shop), "seeds": "1", "switches": "learned positions"}
    plan = ablation.plan_from(given | SMALL | {"epochs": "1", "position": "relative"})
    text = benchmark.run(plan, tmp_path, workers=1).with_suffix(".md").read_text()
    assert "| LLMSeqRec less learned positions |" in text and "No model was tuned." in text
    for name, position in (("LLMSeqRec", "relative"), ("learned positions", "learned")):
        asked = json.loads((tmp_path / f"carousel/{name}/seed-1" / study.ASKED).read_text())
        assert asked["given"]["position"] == position


def test_a_text_encoder_is_taken_where_it_is_at_hand_or_named(shop, monkeypatch):
    given = {"datasets": "carousel", "data_path": str(shop), "seeds": "1", "text_encoder": "/models/large"}

    def names(**asked):
        return {one.name for one in ablation.plan_from(given | asked).entries}

    encoders = {"MiniLM of 3 layers", "MiniLM of 6 layers", "MPNet of 12 layers"}
    monkeypatch.setattr(ablation, "is_here", lambda name: "L6" in name)
    for asked in ({}, {"switches": "text_encoders"}):
        assert names(**asked) & encoders == {"MiniLM of 6 layers"}
    assert not names(text_pooling="cls") & encoders, "which was meant for the full model's"
    assert names(switches="MPNet of 12 layers") == {"LLMSeqRec", "MPNet of 12 layers"}
    monkeypatch.setattr(ablation, "is_here", lambda name: False)
    with pytest.raises(SettingError, match="switches is text_encoders, of which nothing is left"):
        names(switches="text_encoders")


def test_blocks_are_compared_at_equal_positions(shop):
    given = {"datasets": "carousel", "data_path": str(shop), "seeds": "1"}
    plan = ablation.plan_from(given | {"switches": "learned positions,without encoder"})
    assert ("learned positions", "without encoder") in plan.pairs and len(plan.pairs) == 3
    assert len(ablation.plan_from(given | {"switches": "learned positions"}).pairs) == 1


def test_reviews_are_left_out_under_their_own_name():
    for fields, names in (
        (["title", "reviews"], ["without reviews", "reviews alone"]),
        (["title", "brand"], ["title alone", "brand alone"]),
    ):
        found = ablation._of_fields("LLMSeqRec", [{"text_fields": fields}])
        assert [one.name for one in found] == names
        assert [one.keys["text_fields"] for one in found] == [[field] for field in fields]
    found = ablation._of_fields("LLMSeqRec", [{"text_fields": ["title", "brand", "reviews"]}])
    assert "without reviews" in [one.name for one in found] and len(found) == 6


def test_a_switch_that_the_full_model_has_already_is_left_out(shop):
    given = {"datasets": "carousel", "data_path": str(shop), "seeds": "1", "score": "dot"}
    names = [one.name for one in ablation.plan_from(given).entries]
    assert "cosine score" in names and "dot product" not in names
    with pytest.raises(SettingError, match="dot product: the full model has that already"):
        ablation.plan_from(given | {"switches": "dot product,gbce"})


def test_an_ablation_takes_no_keys_of_a_benchmark(shop):
    with pytest.raises(SettingError, match="trials is a benchmark's; an ablation takes one --model"):
        ablation.plan_from({"datasets": "carousel", "data_path": str(shop), "trials": "2"})


def test_the_keys_of_a_file_reach_every_model_but_not_before_the_command_line(shop, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("hidden_size: 8\nn_layers: 3\nn_heads: 4\ntopk: [5]\nvalid_metric: NDCG@5\n")
    plan = plan_on(shop, models="SASRec-strong,LLMSeqRec", config_files=str(file))
    assert plan.metrics == ("recall@5", "ndcg@5")
    for one in plan.entries:
        settings = benchmark._settings(one, "carousel", plan)
        sizes = [str(settings[key]) for key in ("n_layers", "hidden_size", "n_heads", "valid_metric")]
        assert sizes == ["1", "16", "4", "NDCG@5"], "SMALL stands on the command line"
    file.write_text("model: Pop\n")
    with pytest.raises(SettingError, match="model is that of one training"):
        plan_on(shop, config_files=str(file))


def test_no_search_varies_what_is_given(shop):
    plan = plan_on(shop, dropout="0.1", models="Pop,LLMSeqRec,SASRec-strong", warmup_steps="0")
    assert [list(one.space) for one in plan.entries] == [
        [],
        ["learning_rate", "score"],
        ["learning_rate", "hidden_dropout_prob"],
    ]


def test_a_search_needs_the_validation_part_and_a_folder(shop, tmp_path):
    with pytest.raises(SettingError, match="eval_step is 0, but a search chooses by the validation part"):
        benchmark.run(plan_on(shop, eval_step="0"), tmp_path, workers=1)
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match="file, which is a file; give a folder"):
        benchmark.run(plan_on(shop), tmp_path / "file", workers=1)


def test_a_trial_that_is_finished_late_does_not_change_what_the_seeds_are_trained_with(finished, shop):
    folder = finished / "carousel/LLMSeqRec"
    chosen = json.loads((folder / benchmark.CHOSEN).read_text())["given"]
    loser = folder / f"trial-{0 if chosen else 1}" / study.VALIDATED
    loser.write_text(json.dumps(json.loads(loser.read_text()) | {"score": 9.0}))
    benchmark.run(plan_on(shop), finished, workers=1)
    assert json.loads((folder / benchmark.CHOSEN).read_text())["given"] == chosen


def test_the_time_left_is_that_of_what_follows_too(shop, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(study, "complete", lambda *_, later=0: said.append(later))
    monkeypatch.setattr(page, "write", lambda home, found, plan: home)
    benchmark.run(plan_on(shop), tmp_path, workers=1)
    assert said == [4, 0]  # two models with two seeds each


def words_of(shop, folder, **changes):
    given = {
        "models": "Pop,LLMSeqRec",
        "datasets": "carousel",
        "seeds": "1",
        "trials": "1",
        "strong": "False",
    }
    given |= SMALL | {"data_path": str(shop), "epochs": "30", "workers": "1", "out": str(folder)} | changes
    return [f"--{key}={value}" for key, value in given.items()]


def begun(words):
    """A benchmark in a process group of its own."""
    code = f"from recbole_llm.cli import benchmark; benchmark({words!r})"
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.DEVNULL)


def assert_same_tables(*folders):
    pd.testing.assert_frame_equal(*(pd.read_csv(folder / "benchmark.csv") for folder in folders))


def test_killed_within_a_training_it_gives_the_same_table(shop, tmp_path, in_this_process):
    process = begun(words_of(shop, tmp_path / "a"))
    progress = tmp_path / "a/carousel/LLMSeqRec/seed-1/checkpoint/last.safetensors"
    while not progress.exists() and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (progress.parents[1] / "manifest.json").exists(), "it was killed within a training"
    for name in "ab":
        cli.benchmark(words_of(shop, tmp_path / name))
    assert_same_tables(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
def test_killed_at_ten_random_points_it_gives_the_same_table(shop, tmp_path):
    longer = {"seeds": "1,2", "trials": "3", "epochs": "60", "workers": "2", "models": "Pop,BPR,LLMSeqRec"}
    kills, rng = 0, np.random.default_rng(0)
    while kills < 10:
        process = begun(words_of(shop, tmp_path / "a", **longer))
        try:
            process.wait(timeout=rng.uniform(6, 16))
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
    assert kills == 10, f"it ended after {kills} kills: give it more to do"
    for name in "ab":
        assert begun(words_of(shop, tmp_path / name, **longer)).wait() == 0
    assert_same_tables(tmp_path / "a", tmp_path / "b")
