"""One pass beside beam search: the benchmark runs to its rows, and its figures are those of a report."""

import json
from math import log2

import pytest
import torch
import transformers
from carousel import N_ITEMS, SHORT, write_carousel
from tiny_llm import WORDS, write_tiny_llm

from benchmarks import _title_writer, _writing_t5, beam_search
from benchmarks._title_writer import BEAMS, TitleWriter
from recbole_llm.errors import ArtifactError

TOLD = ["Horse", "horse", "number", "watched", "title", "Title", ".", ":", ";", *map(str, range(N_ITEMS))]
SIZE = ["--width=32", "--layers=2", "--users=2", "--quality_users=3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The carousel, the tiny model that reads its texts, and a pretrained T5 of two layers with its tokenizer."""
    folder = write_carousel(tmp_path_factory.mktemp("beam"))
    write_tiny_llm(folder / "bert", "bert", [*WORDS, *TOLD])
    write_tiny_llm(folder / "t5", "t5", [*WORDS, *TOLD])
    _writing_t5.random(32, 2, len(WORDS) + len(TOLD)).save_pretrained(folder / "t5")
    return folder


@pytest.fixture
def small(folder, monkeypatch):
    """The carousel's model and catalogues are small, and its items have a title alone."""
    keys = SHORT | {"text_fields": ["title"], "text_encoder": str(folder / "bert"), "whiten_dim": 4}
    keys |= {"text_fallback": None, "text_max_tokens": 16}
    configure = beam_search.configure
    monkeypatch.setattr(beam_search, "configure", lambda model, given: configure(model, given | keys))
    monkeypatch.setattr(beam_search, "CATALOGUES", (50,))
    monkeypatch.setattr(_title_writer, "LONGEST", 4)


def options(folder, monkeypatch, *more):
    given = [f"--data_path={folder}", f"--artifact_path={folder / 'artifacts'}", "--dataset=carousel"]
    monkeypatch.setattr("sys.argv", ["beam_search", *given, *SIZE, *more])
    return beam_search.asked_for()


@pytest.fixture
def world(folder, small, monkeypatch):
    """Titles, what is told, the parts of the data, the model."""
    return beam_search.built(options(folder, monkeypatch, f"--tokenizer={folder / 't5'}"), 40)


def test_a_pretrained_writer_is_trained_and_both_sides_are_measured(
    folder, small, tmp_path, monkeypatch, capsys
):
    options(folder, monkeypatch, f"--writer={folder / 't5'}", "--steps=1", f"--json={tmp_path / 'rows.json'}")
    beam_search.main()
    rows = {row["measure"]: row for row in json.loads((tmp_path / "rows.json").read_text())}
    speed = rows["time for a user"]
    assert speed["ratio"] == pytest.approx(speed["ours"] / speed["theirs"])
    assert rows["beside it, to find the items of the titles"]["theirs"] > 0
    assert rows["tokens written for a user"]["theirs"] == 3 * BEAMS  # Horse number 7
    assert rows["weights in all"]["ours"] > rows["weights of the language model, words aside"]["ours"] > 0
    assert "time for a user, 50 items" in rows and "loss of the writer after 1 batches" in rows
    assert 0 <= rows["Recall@10 of the writer, history masked, 3 users"]["theirs"] <= 1
    said = " ".join(capsys.readouterr().out.split())
    assert "carousel, 2 users, 10 beams; theirs: the pretrained T5 of" in said
    assert "trained for 1 batches" in said


def test_a_writer_of_random_weights_has_the_layers_that_were_asked_for(folder, world, monkeypatch):
    *_, ours = world
    found = {}
    for layers in ("weights", "layers", "3"):
        asked = options(folder, monkeypatch, f"--tokenizer={folder}", f"--writer_layers={layers}")
        model, which = beam_search.untaught(asked, 40, ours)
        found[layers] = model.config.num_layers
        assert model.config.num_decoder_layers == found[layers]
        assert which == f"a T5 of random weights, {found[layers]} + {found[layers]} layers"
    assert found == {"weights": 1, "layers": 2, "3": 3}


def test_layers_are_those_with_the_nearest_number_of_weights():
    for layers in (1, 2, 5):
        n_weights = _writing_t5.weights(_writing_t5.random(32, layers, 40))
        assert _writing_t5.layers_for(n_weights + 5000, 32, 40) == layers  # one more has 28,672 more
    assert _writing_t5.layers_for(10, 32, 40) == 1


def test_words_are_set_aside_whether_they_are_read_and_written_by_one_table_or_two():
    config = _writing_t5.config_of(32, 2, 40)
    tied = transformers.T5ForConditionalGeneration(config)
    config.tie_word_embeddings = False
    apart = transformers.T5ForConditionalGeneration(config)
    inner = [_writing_t5.weights(model, _writing_t5.WORDS) for model in (tied, apart)]
    assert inner[0] == inner[1] == _writing_t5.weights(tied) - 40 * 32


def test_a_pretrained_writer_keeps_its_weights_and_one_without_a_decoder_is_refused(folder, tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "t5")
    model = _writing_t5.pretrained(folder / "t5", tokenizer)
    assert torch.equal(model.shared.weight, _writing_t5.random(32, 2, len(tokenizer)).shared.weight)
    encoder = transformers.T5EncoderModel.from_pretrained(folder / "t5")
    encoder.save_pretrained(tmp_path / "encoder")
    with pytest.raises(ArtifactError, match=r"encoder lacks \d+ weights of a T5, e.g. decoder"):
        _writing_t5.pretrained(tmp_path / "encoder", tokenizer)
    with pytest.raises(ArtifactError, match="bert holds a model of kind bert; give the folder of a T5"):
        _writing_t5.pretrained(folder / "bert", tokenizer)
    with pytest.raises(
        ArtifactError, match="no T5 in .*; give a folder with its config.json and model.safetensors"
    ):
        _writing_t5.pretrained(tmp_path, tokenizer)
    _writing_t5.random(32, 1, 8).save_pretrained(tmp_path / "few")
    with pytest.raises(ArtifactError, match=f"has {len(tokenizer)} words, the T5 of .*few 8; give its own"):
        _writing_t5.pretrained(tmp_path / "few", tokenizer)


def test_hits_are_counted_among_the_first_ten():
    lists = [[5, 6], [6, 5], [7], [], [*range(20)]]
    recall, ndcg = beam_search.hit_rates(lists, [5, 5, 5, 5, 10])
    assert recall == 2 / 5
    assert ndcg == pytest.approx((1 + 1 / log2(3)) / 5)


def test_both_sides_leave_out_what_a_user_has_seen_but_for_his_target(world):
    _, _, _, test, model = world
    rows = test[torch.arange(len(test))]
    targets = rows[test.iid_field].tolist()
    seen = [set() for _ in targets]
    for row, item in zip(*(part.tolist() for part in test.history_of(rows)), strict=True):
        seen[row].add(item)
    everything = [[*range(1, N_ITEMS + 1)]] * len(targets)
    theirs = beam_search.without_seen(everything, test, rows)
    assert [set(found) for found in theirs] == [
        set(everything[0]) - known | {target} for known, target in zip(seen, targets, strict=True)
    ]
    assert any(target in known for known, target in zip(seen, targets, strict=True)), "some ride twice"
    scores = model.full_sort_predict(rows)
    scores[:] = torch.arange(N_ITEMS + 1)
    model.full_sort_predict = lambda rows: scores.clone()
    for best, allowed in zip(beam_search.rank(model, test, rows).tolist(), theirs, strict=True):
        some = min(len(allowed), beam_search.K)
        assert best[:some] == sorted(allowed, reverse=True)[: beam_search.K]


def test_titles_that_are_written_right_are_the_items_of_the_list(world, folder):
    titles, told, _, test, _ = world
    assert titles[1].startswith("Horse number ") and len(titles) == N_ITEMS + 1
    writer = TitleWriter(None, None, titles, told)
    assert writer.items([title.lower() for title in titles[1:]]) == [*range(1, N_ITEMS + 1)]

    rows = test[torch.arange(3)]
    targets = rows[test.iid_field].tolist()
    writer.write = lambda histories, length=None: ([[titles[targets.pop(0)]] for _ in histories], 0)
    found = {row.measure.split()[0]: row.theirs for row in beam_search.quality(writer, test, rows)}
    assert found == {"Recall@10": 1, "NDCG@10": 1, "unseen": 1}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "give --tokenizer, or --writer with a folder that has one"),
        (["--writer=nowhere"], "--writer: no folder nowhere"),
        (["--writer=.", "--writer_layers=2"], "--writer has its own layers; leave out --writer_layers"),
        (["--tokenizer=t", "--writer_layers=many"], "'many' is no whole number from 1"),
        (["--tokenizer=t", "--users=0"], "'0' is no whole number from 1"),
        (["--tokenizer=t", "--steps=-1"], "--steps is -1, expected 0 or more"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(folder, monkeypatch, capsys, more, said):
    with pytest.raises(SystemExit):
        options(folder, monkeypatch, *more)
    assert said in capsys.readouterr().err


def test_a_pretrained_writer_is_trained_by_default(folder, monkeypatch):
    asked = options(folder, monkeypatch, f"--writer={folder / 't5'}")
    assert (asked.steps, asked.tokenizer) == (1000, asked.writer)
    assert options(folder, monkeypatch, "--tokenizer=t").steps == 0
