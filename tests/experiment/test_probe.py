"""A model that knows a data set by heart is found out; one that guesses what is popular is not taken for it."""

import json
import sys
from pathlib import Path

import pytest
from shop import write

from recbole_llm import cli
from recbole_llm.config import read_arguments
from recbole_llm.errors import DataError, SettingError
from recbole_llm.experiment import probe
from recbole_llm.llm.cache import Cache
from recbole_llm.llm.fake import FakeBackend
from recbole_llm.train.build import configured

sys.path.insert(0, str(Path(__file__).parents[1] / "llm"))  # tests are no package
from faulty_server import FaultyServer  # noqa: E402


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Sixty titles of three words; forty users who see twenty items each in an order of their own."""
    folder = tmp_path_factory.mktemp("shop")
    write(
        folder,
        [
            (f"u{u}", f"i{(u * 7 + k * (u % 5 + 1) + u // 5 * k * k) % 60}", k)
            for u in range(40)
            for k in range(20)
        ],
    )
    rows = ["item_id:token\ttitle:token_seq", *(f"i{n}\tThe{n} {_word(n)} Story{n}" for n in range(60))]
    (folder / "shop" / "shop.item").write_text("\n".join(rows) + "\n")
    return folder


def _word(number):
    return ["Red", "Blue", "Green"][number % 3]


@pytest.fixture
def asked(shop):
    config = configured({"model": "SASRec", "dataset": "shop", "data_path": str(shop)})
    return probe.ask("shop", *probe.read(config), seed=1, questions=30, examples=5, history=10)


def rates(asked, say, folder):
    with Cache(folder / "answers.sqlite") as cache:
        path = probe.write(folder, "shop", say, asked, probe.answer(asked, say, cache))
    return {found["kind"]: found for found in json.loads((path.parent / "probe.json").read_text())["rates"]}


def test_a_model_that_knows_all_is_found_out(asked, tmp_path):
    solutions = {question.prompt: question.solution for question in asked}
    found = rates(
        asked, FakeBackend(lambda prompt: f" {solutions[prompt].upper()} (1995)\nand more"), tmp_path
    )
    assert set(found) == set(probe.WORDS)
    for of_kind in found.values():
        assert of_kind["right"] == of_kind["questions"] == 30 and of_kind["low"] > 0.85
        assert of_kind["p"] < 1e-6 and of_kind["chance"] < 0.1
    text = (tmp_path / "probe.md").read_text()
    assert "| next title of a history | 30 | 100.0 % |" in text


def test_a_model_that_knows_nothing_has_no_right_answer(asked, tmp_path):
    found = rates(asked, FakeBackend(lambda prompt: "What a nice list"), tmp_path)
    assert [of_kind["right"] for of_kind in found.values()] == [0, 0, 0]
    assert all(of_kind["low"] == 0 and of_kind["p"] == 1 for of_kind in found.values())


def test_a_lucky_guess_is_told_from_knowledge():
    solutions = ["Star Wars"] * 40 + [f"Film {n}" for n in range(60)]
    lucky = probe.rate("next_of_history", ["Star Wars (1977)"] * 100, solutions)
    assert lucky.right == 40 and lucky.chance == pytest.approx(0.4) and lucky.p > 0.3


def test_a_year_is_nothing_to_be_known():
    titles = {"1": "Toy Story (1995)", "2": "Heat (1995)", "3": "Babe", "4": "A Bug's Life"}
    asked = probe.ask(
        "shop",
        {k: probe._without_year(v) for k, v in titles.items()},
        [],
        seed=0,
        questions=9,
        examples=1,
        history=3,
    )
    halves = {q.solution for q in asked if q.template.name == "rest_of_title"}
    assert halves <= {"Story", "Life"}


def test_histories_stop_before_what_is_held_out(shop, asked):
    config = configured({"model": "SASRec", "dataset": "shop", "data_path": str(shop)})
    titles, histories = probe.read(config)
    assert len(titles) == 60 and [len(history) for history in histories] == [18] * 40


def test_no_question_is_its_own_example(asked):
    for question in asked:
        assert f" {question.solution}\n" not in question.prompt.rpartition("\n")[2]
    by_id = [question for question in asked if question.template.name == "title_of_id"]
    assert all(question.solution not in question.prompt for question in by_id)


def test_a_probe_that_was_stopped_asks_for_the_rest(asked, tmp_path):
    backend = FakeBackend(str)
    with Cache(tmp_path / "answers.sqlite") as cache:
        probe.answer(asked[:20], backend, cache)
        probe.answer(asked, backend, cache)
    assert len(backend.asked) == len({question.prompt for question in asked}) == len(asked)


def test_a_real_model_walks_the_road(shop, shared_data, tmp_path, capsys):
    model = shared_data.parent / "models" / "stories260K"
    words = [
        "--dataset=shop",
        f"--data_path={shop}",
        f"--llm={model}",
        "--questions=4",
        "--examples=1",
        "--history=3",
        f"--out={tmp_path / 'out'}",
    ]
    cli.probe(words)
    found = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert found["backend"]["name"] == "stories260K" and len(found["questions"]) == 12
    assert all(one["answer"] for one in found["questions"]) and "by heart?" in capsys.readouterr().out


def words_of(shop, folder, **keys):
    given = {"dataset": "shop", "data_path": shop, "out": folder, "questions": 4, "examples": 1, "history": 3}
    return [f"--{key}={value}" for key, value in (given | keys).items()]


def test_a_server_is_asked_as_generate_asks_it(shop, tmp_path):
    pytest.importorskip(
        "openai", reason="the server extra is not installed: pip install 'recbole-llm[server]'"
    )
    with FaultyServer(say=lambda prompt: "What a nice list") as server:
        cli.probe(words_of(shop, tmp_path, backend="openai", llm="big", llm_url=server.url, concurrency=2))
        assert len(server.asked) == 12
    found = json.loads((tmp_path / "probe.json").read_text())
    assert found["backend"]["name"] == "big" and found["questions"][0]["answer"] == "What a nice list"


def test_prompts_are_written_down_and_their_answers_read_back(shop, tmp_path):
    cli.probe(words_of(shop, tmp_path, dry_run=True))
    prompts = [json.loads(line)["prompt"] for line in (tmp_path / "questions.jsonl").read_text().splitlines()]
    assert len(prompts) == 12 and {path.name for path in tmp_path.iterdir()} == {"questions.jsonl"}
    answers = tmp_path / "answers.jsonl"
    answers.write_text("\n".join(json.dumps({"prompt": prompt, "answer": "A"}) for prompt in prompts))
    recorded = words_of(shop, tmp_path, backend="recorded", llm_file=answers)
    cli.probe(recorded)
    found = json.loads((tmp_path / "probe.json").read_text())
    assert [one["answer"] for one in found["questions"]] == ["A"] * 12
    with pytest.raises(DataError, match=r"recorded in answers.jsonl has no answer to 3 of 15 questions"):
        probe.run(read_arguments(recorded) | {"questions": "5"})


def test_where_the_examples_leave_no_question_it_says_so(shop, tmp_path):
    with pytest.raises(DataError, match="shop has 60 titles and 40 histories of more than 10, and with 60"):
        probe.run({"dataset": "shop", "data_path": str(shop), "dry_run": "True", "examples": "60"})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"llm": "x"}, "probe needs --dataset"),
        ({"dataset": "shop"}, "backend: transformers needs --llm"),
        ({"dataset": "shop", "backend": "openai", "llm": "x"}, "backend: openai needs --llm_url"),
        ({"dataset": "shop", "backend": "extractive"}, "extractive, which is no language model"),
        (
            {"dataset": "shop", "backend": "telepathy"},
            "`backend` is 'telepathy', expected one of transformers",
        ),
        ({"dataset": "shop", "llm": "x", "questions": "many"}, "questions is many, expected 1 or more"),
    ],
)
def test_what_cannot_be_asked_is_refused(keys, message):
    with pytest.raises(SettingError, match=message):
        probe.run(keys)


def test_without_titles_there_is_nothing_to_know(tmp_path, shop):
    write(tmp_path, [(f"u{u}", f"i{k}", k) for u in range(4) for k in range(9)])
    config = configured({"model": "SASRec", "dataset": "shop", "data_path": str(tmp_path)})
    with pytest.raises(DataError, match="without titles there is nothing that a model could know"):
        probe.read(config)
    config = configured({"model": "SASRec", "dataset": "shop", "data_path": str(shop)})
    with pytest.raises(DataError, match="has no column colour; there are title; give --title"):
        probe.read(config, "colour")
