"""A cache is counted, carried and thinned out, and nothing that is no answer is brought in."""

import json

import pytest

from recbole_llm import cli
from recbole_llm.errors import ArtifactError
from recbole_llm.llm.backend import Request
from recbole_llm.llm.cache import Cache
from recbole_llm.llm.fake import FakeBackend
from recbole_llm.llm.shelf import bring_in, counts, export, prune


@pytest.fixture
def full(tmp_path):
    cache = Cache(tmp_path / "answers.sqlite")
    for name, prompts in (("m", "abc"), ("n", "ab")):
        list(cache.complete([Request(p) for p in prompts], FakeBackend(str.upper, name), "t@1"))
    yield cache
    cache.close()


def test_answers_are_counted_by_who_gave_them(full):
    assert list(counts(full)) == [("m", "1", "t@1", 3, 3, 3), ("n", "1", "t@1", 2, 2, 2)]


def test_what_is_exported_is_brought_in_elsewhere_once(full, tmp_path):
    assert export(full, tmp_path / "all.jsonl") == 5
    with Cache(tmp_path / "other.sqlite") as other:
        assert bring_in(other, tmp_path / "all.jsonl") == (5, 5)
        assert bring_in(other, tmp_path / "all.jsonl") == (0, 5)
        backend = FakeBackend(str.lower, "m")
        found = dict(other.complete([Request("a")], backend, "t@1"))
        assert found[0].text == "A" and not backend.asked
        export(other, tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "all.jsonl").read_bytes()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda row: "{",
        lambda row: json.dumps({**row, "revision": "2"}),
        lambda row: json.dumps({**row, "request": "{}"}),
        lambda row: json.dumps({**row, "answer": '{"text": "x"}'}),
        lambda row: json.dumps({key: value for key, value in row.items() if key != "asked_at"}),
        lambda row: "[]",
    ],
)
def test_a_line_that_is_no_answer_brings_in_nothing(full, tmp_path, spoil):
    export(full, tmp_path / "all.jsonl")
    first, *rest = (tmp_path / "all.jsonl").read_text().splitlines()
    (tmp_path / "all.jsonl").write_text("\n".join([*rest, spoil(json.loads(first))]) + "\n")
    with Cache(tmp_path / "other.sqlite") as other:
        with pytest.raises(ArtifactError, match="line 5 is no answer .*; nothing was brought in"):
            bring_in(other, tmp_path / "all.jsonl")
        assert len(other) == 0


def test_only_what_is_named_is_removed(full):
    assert prune(full) == 0 and prune(full, older_than_days=1) == 0 and len(full) == 5
    assert prune(full, older_than_days=0, backend="n") == 2
    assert [row[0] for row in counts(full)] == ["m"]
    assert prune(full, older_than_days=0) == 3 and len(full) == 0


def test_the_command(full, tmp_path, capsys):
    place = f"--cache={full.path}"
    cli.cache(["stats", place])
    assert "m (1)  t@1  3 answers, 3 tokens read, 3 written\n" in capsys.readouterr().out
    cli.cache(["export", place, f"--file={tmp_path / 'a.jsonl'}"])
    cli.cache(["import", f"--cache={tmp_path / 'new.sqlite'}", f"--file={tmp_path / 'a.jsonl'}"])
    cli.cache(["prune", place, "--backend=m"])
    out = capsys.readouterr().out
    assert "5 answers in" in out and "5 new of 5 answers" in out and "3 answers removed, 2 left" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "found none"),
        (["empty"], "found empty"),
        (["prune"], "found prune"),
        (["stats", "--file=x"], "found stats --file"),
        (["prune", "--older_than_days=soon", "--cache=x"], "older_than_days is soon, expected a number"),
        (["stats", "--cache=/none"], "no cache /none; give --cache"),
        (["import", "--cache=x", "--file=/none"], "no file /none"),
    ],
)
def test_what_the_command_cannot_do_is_one_sentence(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").touch()
    with pytest.raises(SystemExit) as end:
        cli.cache(words)
    assert end.value.code == 2 and said in capsys.readouterr().err
