"""The writer that beam search is measured with: what it is told of a history, and which items its titles name."""

from types import SimpleNamespace

import pytest
import torch
import transformers
from tiny_llm import configs, write_tiny_llm

from benchmarks import _title_writer
from benchmarks._title_writer import BEAMS, TitleWriter

TITLES = ["", "red car", "blue boat", "green sea", "red car"]  # the last one has the title of the first


@pytest.fixture
def writer(tmp_path):
    """A writer of random weights, told the items' titles."""
    write_tiny_llm(tmp_path, "t5")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    config = configs()["t5"]
    config.decoder_start_token_id = config.eos_token_id = 0
    torch.manual_seed(0)
    return TitleWriter(transformers.T5ForConditionalGeneration(config), tokenizer, TITLES, TITLES)


def test_a_text_names_the_item_of_its_title_or_of_the_most_alike_or_none(writer):
    assert writer.items([" blue boat ", "red car"]) == [2, 1], "of two items with one title the first"
    assert writer.items(["green seas", "blue bot"]) == [3, 2]
    assert writer.items(["a sunken wreck", ""]) == []
    assert writer.items(["blue boat", "blue boats", "red car"]) == [2, 1], "each once"


def test_a_history_is_told_by_its_newest_items(writer):
    writer.max_items = 2
    assert writer.prompt([1, 2, 3]) == "watched: blue boat ; green sea"


def test_where_a_prompt_is_too_long_its_oldest_items_fall_out(writer, monkeypatch):
    monkeypatch.setattr(_title_writer, "MAX_PROMPT", 5)
    read = []
    made = torch.zeros(BEAMS, 2, dtype=torch.long)
    writer.model.generate = lambda input_ids, **_: read.append(input_ids) or made
    writer.recommend([[1, 1, 1, 1, 2, 3]])
    (tokens,) = read
    assert writer.tokenizer.decode(tokens[0]).split()[-5:] == ["blue", "boat", "[UNK]", "green", "sea"]


def test_titles_that_are_taught_keep_their_beginning(writer, monkeypatch):
    monkeypatch.setattr(_title_writer, "LONGEST", 1)
    taught = []
    writer.model.forward = lambda labels, **_: (
        taught.append(labels) or SimpleNamespace(loss=torch.zeros((), requires_grad=True))
    )
    writer.fit([[1, 2]], [3], steps=1, batch_size=1)
    assert writer.tokenizer.decode(taught[0][0]) == "green"


def test_a_history_gets_items_and_the_tokens_that_were_written_are_counted(writer):
    lists, tokens = writer.recommend([[1, 2], [3]], length=2)
    assert len(lists) == 2 and all(set(found) <= {1, 2, 3} for found in lists)
    assert 0 < tokens <= 2 * BEAMS * 3
