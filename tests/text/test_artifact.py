"""Artifacts: built once, resumed after any accident, aligned by token, refused when damaged."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch_file

from recbole_llm.errors import ArtifactError, SettingError
from recbole_llm.text.artifact import Artifact, build_artifact, import_vectors
from recbole_llm.text.journal import Journal
from recbole_llm.text.manifest import content_key
from recbole_llm.text.templates import Template

sys.path.insert(0, str(Path(__file__).parent))  # tests are no package
from fake_encoder import LETTERS, MANY, FakeEncoder  # noqa: E402

TEMPLATE = Template("column", 1, ("title",))
TEXTS = {"b": ("cab",), "a": ("ba",), "c": (), "d": ("ba",), "e": ("aa", "b")}
BATCHES = 8  # of 30 distinct texts, four at a time


def build(root, texts=TEXTS, encoder=None, template=TEMPLATE, **options):
    return build_artifact(
        root, "title", texts, encoder or FakeEncoder(), template, show_progress=False, **options
    )


def letters(text):
    return [text.count(letter) for letter in LETTERS]


def edit_manifest(directory, **changes):
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# -- what is built


def test_each_item_has_the_vector_of_its_text(tmp_path):
    artifact = build(tmp_path)
    assert artifact.tokens == ("a", "b", "c", "d", "e")
    assert artifact.present.tolist() == [True, True, False, True, True]
    expected = [
        letters("ba"),
        letters("cab"),
        [0] * 26,
        letters("ba"),
        (np.add(letters("aa"), letters("b")) / 2),
    ]
    assert np.array_equal(artifact.vectors, np.array(expected, dtype=np.float32))


def test_the_manifest_says_what_made_the_vectors(tmp_path):
    artifact = build(tmp_path)
    said = artifact.manifest
    assert artifact.directory == tmp_path / f"title@{artifact.fingerprint[:12]}"
    assert (said["rows"], said["dimension"], said["items_with_text"], said["distinct_texts"]) == (5, 26, 4, 4)
    assert said["made_from"]["encoder"] == FakeEncoder().describe()
    assert said["made_from"]["template"] == {"name": "column", "version": 1}
    assert said["template"]["columns"] == ["title"]
    assert said["versions"]["numpy"] == np.__version__
    assert said["created"][:2] == "20" and said["texts_per_second"] > 0
    assert sorted(path.name for path in artifact.directory.iterdir()) == [
        "manifest.json",
        "tokens.txt",
        "vectors.safetensors",
    ]


def test_identical_texts_are_asked_once_the_longest_first(tmp_path):
    encoder = FakeEncoder(batch_size=3)
    build(tmp_path, encoder=encoder)
    assert encoder.batches == [["cab", "aa", "ba"], ["b"]]


def test_a_complete_artifact_asks_nothing_again(tmp_path):
    first, again = build(tmp_path), FakeEncoder()
    second = build(tmp_path, dict(reversed(TEXTS.items())), again)
    assert again.asked == [] and second.fingerprint == first.fingerprint


def test_half_precision_is_stored_and_aligned_as_single(tmp_path):
    artifact = build(tmp_path, dtype="float16")
    assert artifact.vectors.dtype == np.float16
    assert artifact.align(["[PAD]", "b"]).vectors.dtype == np.float32
    with pytest.raises(
        SettingError, match="dtype of an artifact is `int8`, expected one of float32, float16"
    ):
        build(tmp_path, dtype="int8")


def test_texts_that_say_nothing_are_a_mask(tmp_path):
    assert build(tmp_path, {"a": ("x",), "b": (" \n",), "c": ("", "y")}).present.tolist() == [
        True,
        False,
        True,
    ]
    with pytest.raises(ArtifactError, match="text field `title` has no text for any of 2 items"):
        build(tmp_path, {"a": (), "b": ("",)})


def test_tokens_that_cannot_stand_one_a_line_are_refused(tmp_path):
    with pytest.raises(
        ArtifactError, match=r"2 item tokens are empty or hold a tab or line break, e.g. '', 'a\\n'"
    ):
        build(tmp_path, {"a\n": ("x",), "": ("y",), "b": ("z",)})


@pytest.mark.parametrize(
    ("value", "said"), [(np.nan, "1 not finite, 0 all"), (np.inf, "1 not finite"), (0, "1 all")]
)
def test_unusable_vectors_are_refused_with_the_item_they_belong_to(tmp_path, value, said):
    class Broken(FakeEncoder):
        def encode(self, texts):
            vectors = super().encode(texts)
            vectors[[text == "cab" for text in texts]] = value
            return vectors

    with pytest.raises(
        ArtifactError, match=f"letters gave 1 unusable vectors for field `title`.*{said}.*items b;"
    ):
        build(tmp_path, encoder=Broken())
    assert not list(tmp_path.glob("title@*"))


def test_numbers_too_large_for_half_precision_are_refused(tmp_path):
    with pytest.raises(
        ArtifactError, match=r"1 unusable vectors .* \(1 not finite, 0 all zeros\), e.g. of items a"
    ):
        build(tmp_path, {"a": ("a" * 70_000,), "b": ("b",)}, dtype="float16")


# -- the key

INGREDIENTS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["column", "attributes"]),
        "version": st.integers(1, 2),
        "text": st.sampled_from(["x", "xy"]),
        "token": st.sampled_from(["t", "tt"]),
        "encoder": st.sampled_from(["m1", "m2"]),
        "revision": st.sampled_from([None, "r1"]),
        "pooling": st.sampled_from(["mean", "cls"]),
        "max_tokens": st.sampled_from([64, 128]),
        "dtype": st.sampled_from(["float32", "float16"]),
    }
)


def key_of(root, made):
    description = {"name": made["encoder"]} | {
        key: made[key] for key in ("revision", "pooling", "max_tokens")
    }
    template = Template(made["name"], made["version"])
    return build(
        root, {made["token"]: (made["text"],)}, FakeEncoder(**description), template, dtype=made["dtype"]
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(INGREDIENTS, INGREDIENTS)
def test_any_change_of_an_ingredient_changes_the_key(tmp_path, one, other):
    first = key_of(tmp_path, one).fingerprint
    for changed in INGREDIENTS_ORDER:
        mixed = one | {changed: other[changed]}
        assert (key_of(tmp_path, mixed).fingerprint == first) == (one[changed] == other[changed])


INGREDIENTS_ORDER = (
    "name",
    "version",
    "text",
    "token",
    "encoder",
    "revision",
    "pooling",
    "max_tokens",
    "dtype",
)


def test_the_key_tells_apart_how_texts_are_shared_out(tmp_path):
    shared = [
        {"a": ("x", "y"), "b": ()},
        {"a": ("x",), "b": ("y",)},
        {"a": ("y",), "b": ("x",)},
        {"a": ("y", "x")},
    ]
    assert len({build(tmp_path, texts).fingerprint for texts in shared}) == 4


def test_the_code_format_is_part_of_the_key(tmp_path):
    made_from = build(tmp_path).manifest["made_from"]
    assert content_key(made_from | {"format": 2}) != content_key(made_from)


# -- accidents


@pytest.mark.parametrize("stop", [1, 2, 5, BATCHES])
def test_an_interrupted_run_goes_on_and_repeats_one_batch_at_most(tmp_path, stop):
    whole = build(tmp_path / "whole", MANY)
    stopped, resumed = FakeEncoder(stop_in_batch=stop), FakeEncoder()
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, MANY, stopped)
    artifact = build(tmp_path, MANY, resumed)
    assert len(stopped.asked) + len(resumed.asked) - len(stopped.batches[-1]) == len(MANY)
    assert resumed.asked[: len(stopped.batches[-1])] == stopped.batches[-1]
    assert artifact.manifest["resumed_texts"] == 4 * (stop - 1)
    assert (artifact.directory / "vectors.safetensors").read_bytes() == (
        whole.directory / "vectors.safetensors"
    ).read_bytes()
    assert not list(tmp_path.glob(".*.journal"))


def test_a_run_killed_by_the_system_goes_on(tmp_path):
    script = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "from fake_encoder import MANY, FakeEncoder\n"
        "from recbole_llm.text.artifact import Template, build_artifact\n"
        "kill = lambda: len(encoder.batches) == 3 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "encoder = FakeEncoder(before=kill)\n"
        "build_artifact(sys.argv[2], 'title', MANY, encoder, Template('column', 1), show_progress=False)\n"
    )
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": str(here.parents[1])}
    killed = subprocess.run([sys.executable, "-c", script, str(here), str(tmp_path)], env=environment)
    assert killed.returncode == -signal.SIGKILL
    encoder = FakeEncoder()
    artifact = build(tmp_path, MANY, encoder)
    assert len(encoder.asked) == 30 - 4 * 2  # all but the two batches that were done
    assert np.array_equal(artifact.vectors, build(tmp_path / "whole", MANY).vectors)


@pytest.mark.parametrize("step", ["write_files", "os"])  # while files are written; at the last rename
def test_a_run_killed_after_the_last_batch_encodes_nothing_again(tmp_path, monkeypatch, step):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        replacement = killed if step == "write_files" else SimpleNamespace(replace=killed)
        patch.setattr(f"recbole_llm.text.build.{step}", replacement)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path, MANY)
    encoder = FakeEncoder()
    assert len(build(tmp_path, MANY, encoder).tokens) == 30
    assert encoder.asked == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 400), st.binary(max_size=40))
def test_a_journal_cut_anywhere_keeps_whole_batches_only(tmp_path, length, garbage):
    path, key = tmp_path / "journal", "k" * 64
    path.unlink(missing_ok=True)
    batches = [np.arange(6, dtype=np.float32).reshape(3, 2) + number for number in range(5)]
    with Journal(path, key) as journal:
        for batch in batches:
            journal.append(batch)
    whole = path.read_bytes()
    path.write_bytes(whole[:length] + garbage)
    with Journal(path, key) as journal:
        kept = len(journal.batches)
        assert all(np.array_equal(*pair) for pair in zip(journal.batches, batches, strict=False))
        for batch in batches[kept:]:
            journal.append(batch)
    assert path.read_bytes() == whole
    if not garbage:
        assert kept == min(5, max(0, length - 64) // 36)


def test_a_journal_of_another_key_is_begun_anew(tmp_path):
    with Journal(tmp_path / "journal", "a" * 64) as journal:
        journal.append(np.ones((2, 3), dtype=np.float32))
    with Journal(tmp_path / "journal", "b" * 64) as journal:
        assert len(journal) == 0


def test_two_builders_at_once_share_the_work(tmp_path):
    encoders = [FakeEncoder(before=lambda: time.sleep(0.01)) for _ in range(3)]
    threads = [threading.Thread(target=build, args=(tmp_path, MANY, encoder)) for encoder in encoders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(text for encoder in encoders for text in encoder.asked) == sorted(
        text for (text,) in MANY.values()
    )
    assert len(list(tmp_path.glob("title@*"))) == 1


def test_a_builder_that_waits_says_so_and_bars_tell_the_rate(tmp_path, capsys):
    artifact = build(tmp_path / "other", MANY)
    lock = FileLock(tmp_path / f".{artifact.directory.name}.lock")
    with lock:
        waiting = threading.Thread(
            target=build_artifact, args=(tmp_path, "title", MANY, FakeEncoder(), TEMPLATE)
        )
        waiting.start()
        while "waiting" not in (said := capsys.readouterr().out):
            time.sleep(0.01)
    waiting.join()
    assert said == f"waiting for another process that makes {tmp_path / artifact.directory.name}\n"
    bar = capsys.readouterr().err
    assert "embedding title" in bar and "30/30 texts" in bar and "a second, 0:00:00 left" in bar


# -- loading


def test_what_is_loaded_is_what_was_built(tmp_path):
    built = build(tmp_path, MANY)
    loaded = Artifact.load(built.directory)
    assert loaded.tokens == built.tokens and loaded.manifest == built.manifest
    assert np.array_equal(loaded.vectors, built.vectors) and np.array_equal(loaded.present, built.present)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\n\r\t"), min_size=1), st.just(("a",))
    )
)
def test_any_token_of_one_line_survives_the_disk(tmp_path, texts):
    texts = {**texts, "x": ("b",)}
    artifact = build(tmp_path, texts)
    assert artifact.tokens == tuple(sorted(texts))
    assert artifact.align(["[PAD]", *texts]).present.tolist() == [False] + [True] * len(texts)


def test_a_half_written_artifact_is_refused_and_made_again(tmp_path):
    artifact = build(tmp_path)
    (artifact.directory / "manifest.json").unlink()
    with pytest.raises(
        ArtifactError, match=r"title@.* is not complete: no manifest.json. Run `recbole-llm embed`"
    ):
        Artifact.load(artifact.directory)
    assert build(tmp_path).fingerprint == artifact.fingerprint
    with pytest.raises(ArtifactError, match="nowhere is not there: no manifest.json"):
        Artifact.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (
            "rows",
            6,
            "shape of vectors is [5, 26], expected [6, 26]; shape of present is [5], expected [6]; number of",
        ),
        ("dimension", 8, "shape of vectors is [5, 26], expected [5, 8]"),
        ("items_with_text", 5, "items with text is 4, expected 5"),
        ("key", "0" * 64, "expected 000000000000…"),
        ("format", 9, "has format 9, this version reads 1"),
    ],
)
def test_a_manifest_that_says_otherwise_is_named(tmp_path, name, change, said):
    directory = build(tmp_path).directory
    edit_manifest(directory, **{name: change})
    with pytest.raises(ArtifactError) as error:
        Artifact.load(directory)
    assert said in str(error.value)
    assert str(error.value).endswith(f"Remove {directory} and run `recbole-llm embed` again.")


def test_a_changed_vector_or_token_is_found(tmp_path):
    directory = build(tmp_path).directory
    path = directory / "vectors.safetensors"
    arrays = load_file(path)
    arrays["vectors"][1, 1] += 1
    save_file(arrays, path)
    with pytest.raises(
        ArtifactError, match="differs from its manifest: hash of vectors.safetensors is .*…, expected"
    ):
        Artifact.load(directory)
    (directory / "tokens.txt").write_text("a\nb\nc\nd\nz\n")
    with pytest.raises(
        ArtifactError, match="hash of tokens is .*hash of vectors.safetensors.*hash of tokens.txt"
    ):
        Artifact.load(directory)


@pytest.mark.parametrize("garbage", [b"", b"\x80\x04pickle", b"\xff" * 100])
def test_garbage_is_refused_by_name(tmp_path, garbage):
    directory = build(tmp_path).directory
    (directory / "vectors.safetensors").write_bytes(garbage)
    with pytest.raises(ArtifactError, match="cannot be read .SafetensorError"):
        Artifact.load(directory)
    (directory / "manifest.json").write_bytes(b"{")
    with pytest.raises(ArtifactError, match="cannot be read .JSONDecodeError"):
        Artifact.load(directory)


# -- aligning


def test_rows_come_in_the_order_of_item_ids(tmp_path):
    aligned = build(tmp_path).align(np.array(["[PAD]", "d", "c", "b"]))
    assert aligned.vectors.tolist() == [[0] * 26, letters("ba"), [0] * 26, letters("cab")]
    assert aligned.present.tolist() == [False, True, False, True]


def test_items_without_a_vector_are_counted_and_named(tmp_path):
    artifact = build(tmp_path)
    with pytest.raises(ArtifactError) as error:
        artifact.align(["[PAD]", "a", "n1", "n2", "b", "n3", "n4"])
    assert str(error.value).startswith(
        f"{artifact.directory} has no vector for 4 of 6 items, e.g. n1, n2, n3; it was made for items "
    )
    assert str(error.value).endswith("…. Run `recbole-llm embed` again.")
    aligned = artifact.align(["[PAD]", "n1", "a"], missing="mask")
    assert aligned.present.tolist() == [False, False, True] and not aligned.vectors[:2].any()


def test_ids_without_padding_and_other_wishes_are_refused(tmp_path):
    artifact = build(tmp_path)
    with pytest.raises(ArtifactError, match=r"item id 0 is `a`, expected `\[PAD\]`"):
        artifact.align(["a", "b"])
    with pytest.raises(SettingError, match="missing is `zero`, expected `error` or `mask`"):
        artifact.align(["[PAD]"], missing="zero")
    assert artifact.align(["[PAD]"]).vectors.tolist() == [[0] * 26]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(5)), st.permutations("abcde"))
def test_the_order_of_rows_on_disk_does_not_matter(tmp_path, order, asked):
    artifact = build(tmp_path)
    tokens = tuple(artifact.tokens[row] for row in order)
    moved = Artifact(
        artifact.directory, tokens, artifact.vectors[order], artifact.present[order], artifact.manifest
    )
    here, there = artifact.align(["[PAD]", *asked]), moved.align(["[PAD]", *asked])
    assert np.array_equal(here.vectors, there.vectors) and np.array_equal(here.present, there.present)


# -- ready-made vectors

READY = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32)


def test_ready_made_vectors_come_from_three_kinds_of_files(tmp_path):
    np.save(tmp_path / "v.npy", READY)
    (tmp_path / "tokens.txt").write_text("x\ny\nz\n")
    save_torch_file(
        {"vectors": torch.tensor(READY).bfloat16()}, tmp_path / "v.safetensors", {"tokens": '["x","y","z"]'}
    )
    pq.write_table(pa.table({"item_id": ["x", "y", "z"], "vector": READY.tolist()}), tmp_path / "v.parquet")
    found = [
        import_vectors(tmp_path / "art", "image", tmp_path / f"v.{kind}")
        for kind in ("npy", "safetensors", "parquet")
    ]
    assert len({artifact.fingerprint for artifact in found}) == 1  # same content, same key
    assert found[0].align(["[PAD]", "z", "x"]).vectors.tolist() == [[0, 0], [5, 6], [1, 2]]
    assert found[0].manifest["source"] == "v.npy" and found[0].manifest["items_with_text"] == 3


def test_swapped_tokens_make_another_artifact(tmp_path):
    np.save(tmp_path / "v.npy", READY)
    keys = set()
    for order in ("x\ny\nz", "y\r\nx\r\nz\r\n"):
        (tmp_path / "names.txt").write_bytes(order.encode())
        artifact = import_vectors(tmp_path, "image", tmp_path / "v.npy", token_file=tmp_path / "names.txt")
        keys.add(artifact.fingerprint)
        assert artifact.tokens == ("x", "y", "z")
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("vectors", "tokens", "said"),
    [
        (READY, "x\ny\n", "has 3 rows, but there are 2 item tokens"),
        (READY, "x\ny\nx\n", "1 item tokens stand more than once, e.g. x; keep one"),
        (READY[0], "x\ny\n", r"has shape \(2,\) of float32, expected \(items, D\) numbers"),
        (np.array([["a"], ["b"]]), "x\ny\n", "of <U1, expected"),
        (
            np.array([[1.0], [0.0]]),
            "x\ny\n",
            r"v.npy gave 1 unusable vectors .*\(0 not finite, 1 all zeros\).*items y",
        ),
        (np.array([[1.0], [1e300]]), "x\ny\n", r"\(1 not finite, 0 all zeros\).*items y"),
        (np.array([[1], [None]]), "x\ny\n", "cannot be read .*allow_pickle=False"),
    ],
)
def test_ready_made_vectors_are_checked(tmp_path, vectors, tokens, said):
    np.save(tmp_path / "v.npy", vectors)
    (tmp_path / "tokens.txt").write_text(tokens)
    with pytest.raises(ArtifactError, match=said):
        import_vectors(tmp_path, "image", tmp_path / "v.npy")


def test_ready_made_files_that_say_too_little_are_refused(tmp_path):
    np.save(tmp_path / "v.npy", READY)
    with pytest.raises(ArtifactError, match=r"v.npy has no item tokens: no .*tokens.txt"):
        import_vectors(tmp_path, "image", tmp_path / "v.npy")
    save_file({"a": READY, "b": READY}, tmp_path / "v.safetensors")
    with pytest.raises(ArtifactError, match="has tensors a, b; call the right one `vectors`"):
        import_vectors(tmp_path, "image", tmp_path / "v.safetensors")
    pq.write_table(pa.table({"asin": ["x", None], "vector": [[1.0], [1.0, 2.0]]}), tmp_path / "v.parquet")
    with pytest.raises(
        ArtifactError, match="has no column `item_id`; there are asin, vector. Name it by token_column"
    ):
        import_vectors(tmp_path, "image", tmp_path / "v.parquet")
    with pytest.raises(ArtifactError, match=r"of widths \[1, 2\] and `asin` has 1 empty cells"):
        import_vectors(tmp_path, "image", tmp_path / "v.parquet", token_column="asin")
    with pytest.raises(ArtifactError, match="expected a .npy, .safetensors or .parquet file"):
        import_vectors(tmp_path, "image", tmp_path / "v.csv")


def test_an_artifact_may_be_moved(tmp_path):
    artifact = build(tmp_path)
    shutil.move(artifact.directory, tmp_path / "elsewhere")
    assert Artifact.load(tmp_path / "elsewhere").fingerprint == artifact.fingerprint
