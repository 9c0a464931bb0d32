"""A local model answers each request as if it were alone, whatever its neighbours and its own generation settings."""

import functools
import json
import shutil
import sys

import pytest

from recbole_llm.errors import BackendError, SettingError
from recbole_llm.llm.backend import Request, cut
from recbole_llm.llm.local import LocalBackend, _batches, _keeps_all

PROMPTS = [
    "Once upon a time",
    "The cat",
    "Lily and Ben went to the park. They saw a big dog and",
    "Tom",
    "One day, a little girl named Lucy found a red ball in the garden. She was very happy and",
]


@pytest.fixture(scope="module")
def stories(shared_data):
    return shared_data.parent / "models" / "stories260K"


@pytest.fixture(scope="module")
def model(stories):
    return LocalBackend(str(stories))


def asked(model, requests):
    found = dict(model.complete(requests))
    assert sorted(found) == list(range(len(requests)))
    return [found[n] for n in range(len(requests))]


def test_a_batch_says_what_each_request_says_alone(model):
    requests = [Request(prompt, max_tokens=20) for prompt in PROMPTS]
    together = asked(model, requests)
    assert together == [asked(model, [request])[0] for request in requests]
    assert all(
        answer.text and answer.answer_tokens == 20 and answer.finish == "length" for answer in together
    )
    assert len({answer.text for answer in together}) == len(PROMPTS)


def test_the_models_own_generation_settings_change_nothing(model, stories, tmp_path):
    twin = shutil.copytree(stories, tmp_path / "twin")
    own = {"do_sample": True, "temperature": 2.0, "repetition_penalty": 5.0, "num_beams": 4, "max_length": 9}
    said = json.loads((twin / "generation_config.json").read_text())
    (twin / "generation_config.json").write_text(json.dumps(said | own))
    request = Request(PROMPTS[0], max_tokens=15)
    assert asked(LocalBackend(str(twin)), [request]) == asked(model, [request])


def test_an_answer_ends_before_its_stop_text(model):
    (whole,) = asked(model, [Request(PROMPTS[0], max_tokens=40)])
    word = whole.text.split()[3]
    (short,) = asked(model, [Request(PROMPTS[0], max_tokens=40, stop=(word,))])
    assert short.text == whole.text[: whole.text.index(word)] and short.finish == "stop"
    assert short.answer_tokens < whole.answer_tokens


def test_a_seed_gives_one_answer_among_any_neighbours(model):
    drawn = [Request(PROMPTS[0], max_tokens=12, temperature=1.5, seed=seed) for seed in range(4)]
    alone = [asked(model, [request])[0].text for request in drawn]
    among = asked(model, [Request(PROMPTS[1], max_tokens=12), *drawn, Request(PROMPTS[3], max_tokens=12)])
    assert [answer.text for answer in among[1:5]] == alone and len(set(alone)) > 1


def test_batches_hold_requests_that_are_alike_and_no_more_tokens_than_allowed():
    requests = [Request("x", max_tokens=5)] * 6 + [Request("x", max_tokens=7)] * 2
    requests += [Request("x", max_tokens=5, temperature=1.0, seed=3)] * 2
    ids = [[0] * length for length in (10, 3, 4, 9, 20, 1, 5, 6, 2, 2)]
    batches = list(_batches(requests, ids, most_tokens=40))
    assert sorted(n for batch in batches for n in batch) == list(range(10))
    for batch in batches:
        assert len({(requests[n].max_tokens, requests[n].temperature) for n in batch}) == 1
        longest = max(len(ids[n]) for n in batch)
        assert len(batch) == 1 or len(batch) * (longest + requests[batch[0]].max_tokens) <= 40
    assert [8] in batches and [9] in batches


def test_a_prompt_that_is_too_long_is_refused_in_a_sentence(model):
    with pytest.raises(
        SettingError, match="are too long for stories260K, which reads 512; shorten the prompt"
    ):
        list(model.complete([Request("word " * 600, max_tokens=10)]))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"max_tokens": 0}, "max_tokens is 0, expected 1 or more"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"top_p": 0.0}, "top_p 0.0"),
        ({"temperature": 0.7}, "without a seed"),
        ({"stop": ("",)}, "stop has an empty text"),
    ],
)
def test_requests_that_cannot_be_are_refused(keys, message):
    with pytest.raises(SettingError, match=message):
        Request("x", **keys)


def test_a_text_is_cut_at_the_first_of_its_ends():
    assert cut("one two three", ["three", "two"]) == ("one ", True)
    assert cut("one", ["two"]) == ("one", False)


BEGINNING = (
    "Once upon a time there was a little girl named Lucy who lived in a big house with her mom and dad. "
)


def test_what_prompts_begin_with_is_read_once_and_changes_no_answer(model, monkeypatch):
    requests = [Request(BEGINNING + prompt, max_tokens=20) for prompt in PROMPTS]
    read, forward = [], type(model._model).forward

    @functools.wraps(forward)  # transformers looks at what it takes
    def counted(self, input_ids=None, **options):
        read.append(input_ids.numel())
        return forward(self, input_ids=input_ids, **options)

    monkeypatch.setattr(type(model._model), "forward", counted)
    together = asked(model, requests)
    beginning, rest = read[:2]
    lengths = [len(model._ids(request)) for request in requests]
    assert beginning >= len(model._ids(Request(BEGINNING))) - 1 and rest == 5 * (max(lengths) - beginning)
    assert together == [asked(model, [request])[0] for request in requests]
    assert [answer.prompt_tokens for answer in together] == lengths  # what was kept is counted still


def test_a_prompt_that_is_the_beginning_of_another_has_its_own_answer(model):
    requests = [Request(BEGINNING, max_tokens=9), Request(BEGINNING + "Tom", max_tokens=9)]
    assert asked(model, requests) == [asked(model, [request])[0] for request in requests]


def test_a_sliding_window_keeps_nothing():
    from transformers import GPT2Config, LlamaConfig, MambaConfig, MistralConfig, Qwen3Config

    kept = {LlamaConfig: {}, GPT2Config: {}, MistralConfig: {"sliding_window": None}, Qwen3Config: {}}
    assert all(_keeps_all(kind(**keys)) for kind, keys in kept.items())
    assert not _keeps_all(MistralConfig(sliding_window=64)) and not _keeps_all(MambaConfig())


def test_the_batches_are_known_without_the_model(stories):
    fresh = LocalBackend(str(stories), batch_tokens=60)
    batches = fresh.batches([Request(prompt, max_tokens=10) for prompt in PROMPTS])
    assert sorted(n for batch in batches for n in batch) == list(range(5)) and len(batches) > 1
    assert "_model" not in vars(fresh)


def test_weights_of_eight_bits_need_a_package(stories, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(BackendError, match="8bit need the package bitsandbytes; run: pip install"):
        asked(LocalBackend(str(stories), compute_dtype="8bit"), [Request("x")])
