"""All items ranked in one pass, beside titles written by beam search: one machine, one run.

``python -m benchmarks.beam_search --tokenizer google-t5/t5-small [--dataset ml-1m] [--data_path FOLDER] [--users 20]``
``python -m benchmarks.beam_search --writer FOLDER --steps 2000 [--quality_users 1000]``

Ours is HierLLMRec with a T5 encoder for its Recommendation LLM, of random weights: time does not depend on them. Theirs
is a T5 that writes the next title: the pretrained one of ``--writer``, fine-tuned, or one of random weights. Such a one
has our layers in its encoder and as many in its decoder, as T5-small has beside its encoder alone (``--writer_layers
layers``), or as many as give it about our weights in all (``weights``; its words alone take most of them), or a given
number.

The prompt: both are told the same of the last 50 items, all fields that HierLLMRec is told by default (title and
attributes), ours as vectors made ahead, theirs as text of up to 2,048 tokens. Beside prompts of titles alone, which are
shorter, the writer is faster and the ratio smaller. The time of theirs is that of reading the prompt and writing ten
titles as long as the data's mean title; what it takes to find the items of these titles stands in a row of its own, and
is long where a writer that has learnt nothing writes none that there is.

After training (``--steps``) it is said how well the writer recommends; what the user has seen is left out, as in a
report's masked figures. Then our time for catalogues of a thousand to a million items.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch

from benchmarks import _rows, _writing_t5
from benchmarks._title_writer import BEAMS, TitleWriter
from recbole_llm.data.texts import attach_item_texts
from recbole_llm.evaluation.ranks import hide_seen
from recbole_llm.serving.index import nearest_items
from recbole_llm.train.build import build, configure

CATALOGUES = (1_000, 10_000, 100_000, 1_000_000)
K = 10
# users whose titles are written at once where time is not taken: each has ten copies of his prompt
TOGETHER = 4


def untaught(options, n_words, ours):
    """A T5 of random weights with the layers that were asked for, and what it is called."""
    layers = {"layers": options.layers}.get(options.writer_layers, options.writer_layers)
    if layers == "weights":
        layers = _writing_t5.layers_for(_writing_t5.weights(ours), options.width, n_words)
    model = _writing_t5.random(options.width, layers, n_words)
    return model, f"a T5 of random weights, {layers} + {layers} layers"


def built(options, n_words):
    """Titles, what is told of the items, the training and the test part, and our model."""
    given = {"model": "HierLLMRec", "dataset": options.dataset, "data_path": options.data_path}
    given |= {"artifact_path": options.artifact_path, "show_progress": False, "text_join": True}
    given |= {"rec_llm": "t5_encoder", "rec_init": "random", "train_rows": "prefix"}
    given |= {"pool_user": "mean", "MAX_ITEM_LIST_LENGTH": 50}
    with tempfile.TemporaryDirectory() as folder:
        _writing_t5.config_of(options.width, options.layers, n_words).save_pretrained(folder)
        config = configure("HierLLMRec", given | {"rec_llm_path": folder})
        (train, _, test), _, model = build(config)
    attach_item_texts(config, train._dataset)
    told = train._dataset.item_texts
    config["text_fields"] = ["title"]  # what the writer writes
    attach_item_texts(config, train._dataset)
    titles = [text.removeprefix("Title: ").removesuffix(".") for text in train._dataset.item_texts]
    return titles, told, train._dataset, test._dataset, model.eval()


@torch.no_grad()
def rank(model, test, rows):
    """(B, K): the best items of each row, without what it has seen, but for its own target."""
    scores_BI = model.full_sort_predict(rows)
    scores_BI[:, 0] = -torch.inf  # padding
    hide_seen(scores_BI, *test.history_of(rows), torch.arange(len(scores_BI)), rows[test.iid_field])
    return scores_BI.topk(min(K, scores_BI.shape[1] - 1), dim=1).indices


def without_seen(lists, test, rows):
    """Lists of item ids without what each row has seen, but for its own target: the writer's turn of the same."""
    seen = [set() for _ in lists]
    for row, item in zip(*(part.tolist() for part in test.history_of(rows)), strict=True):
        seen[row].add(item)
    targets = rows[test.iid_field].tolist()
    return [
        [item for item in found if item == target or item not in known]
        for found, known, target in zip(lists, seen, targets, strict=True)
    ]


def timed(work, pieces):
    """The median seconds of ``work`` over ``pieces``, after one to warm up, and what it made of each."""
    work(pieces[0])
    taken, made = [], []
    for piece in pieces:
        started = perf_counter()
        made.append(work(piece))
        taken.append(perf_counter() - started)
    return median(taken), made


def hit_rates(lists, targets):
    """Recall@10 and NDCG@10 of some lists with one target each."""
    places = [found[:K].index(t) if t in found[:K] else None for found, t in zip(lists, targets, strict=True)]
    gains = [0.0 if place is None else 1 / np.log2(place + 2) for place in places]
    return float(np.mean([place is not None for place in places])), float(np.mean(gains))


def histories_of(data, rows):
    """The item ids of each row's history, oldest first, as lists."""
    return [row[row > 0].tolist() for row in rows[data.item_id_list_field]]


def speed(model, writer, test, rows):
    """Both sides' time for the users of ``rows``, one at a time, as rows of the table."""
    ones = [rows[torch.tensor([number])] for number in range(len(rows))]
    ours, _ = timed(lambda one: rank(model, test, one), ones)
    length = writer.title_length()
    asked = [[history] for history in histories_of(test, rows)]
    theirs, written = timed(lambda histories: writer.write(histories, length), asked)
    mapping, _ = timed(writer.items, [titles for (titles,), _ in written])
    return [
        _rows.Row("users ranked a second, one at a time", 1 / ours, 1 / theirs, 50, "1/s"),
        _rows.Row("time for a user", 1000 * ours, 1000 * theirs, None, "ms"),
        _rows.Row("beside it, to find the items of the titles", None, 1000 * mapping, None, "ms"),
        _rows.Row("tokens written for a user", None, length * BEAMS, None, "tokens"),
    ]


def sizes(model, writer):
    """Both sides' weights, in all and those that read and write, as rows."""
    weights, words = _writing_t5.weights, _writing_t5.WORDS
    pairs = {
        "weights in all": (weights(model), weights(writer.model)),
        "weights of the language model, words aside": (weights(model.rec_llm), weights(writer.model, words)),
    }
    return [_rows.Row(name, *(n / 1e6 for n in pair), None, "million") for name, pair in pairs.items()]


def catalogues(model, rows):
    """Our seconds to rank catalogues of other sizes for one user: the pass that reads him, and the search; as rows."""
    found = []
    user_S = rank_user(model, rows[torch.tensor([0])])
    read, _ = timed(lambda one: rank_user(model, one), [rows[torch.tensor([0])]] * 5)
    for size in CATALOGUES:
        table = torch.nn.functional.normalize(torch.randn(size + 1, user_S.shape[1]), dim=1)
        search, _ = timed(lambda _, table=table: nearest_items(user_S, table, K), range(5))
        found.append(_rows.Row(f"time for a user, {size:,} items", 1000 * (read + search), None, None, "ms"))
    return found


@torch.no_grad()
def rank_user(model, row):
    """The user vector of one row."""
    return model.forward(row[model.ITEM_SEQ], row[model.ITEM_SEQ_LEN])


def fit(writer, train, steps, learning_rate):
    """Train the writer on so many batches of the training part; returns its loss at the end."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    taught = train[order[: 16 * steps]]
    targets = taught[train.iid_field].tolist()
    return writer.fit(histories_of(train, taught), targets, steps, learning_rate=learning_rate)


def quality(writer, test, rows):
    """How well the writer recommends to the users of ``rows``, as rows of the table."""
    histories, lists = histories_of(test, rows), []
    for first in range(0, len(histories), TOGETHER):
        lists += writer.recommend(histories[first : first + TOGETHER])[0]
    lists = without_seen(lists, test, rows)
    recall, ndcg = hit_rates(lists, rows[test.iid_field].tolist())
    found = {"Recall@10": recall, "NDCG@10": ndcg, "unseen items in a list": np.mean([*map(len, lists)])}
    return [
        _rows.Row(f"{name} of the writer, history masked, {len(rows):,} users", None, float(value), None, "")
        for name, value in found.items()
    ]


def number(text):
    """A whole number from 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def depth(text):
    """``weights``, ``layers`` or a number of layers."""
    return text if text in ("weights", "layers") else number(text)


def asked_for():
    """The options of the command line."""
    arguments = _rows.parser(__doc__)
    arguments.add_argument("--dataset", default="ml-1m")
    arguments.add_argument("--data_path", default="dataset")
    arguments.add_argument("--artifact_path", default="artifacts")
    arguments.add_argument("--tokenizer", help="folder or hub id of a T5 tokenizer (default: the writer's)")
    arguments.add_argument("--width", type=number, default=512, help="512 is T5-small's")
    arguments.add_argument("--layers", type=number, default=6, help="of our encoder")
    arguments.add_argument("--writer", help="folder of a pretrained T5 (default: random weights)")
    arguments.add_argument(
        "--writer_layers",
        type=depth,
        help="of a writer of random weights: layers (ours, the default), weights (our weights in all), or a number",
    )
    arguments.add_argument(
        "--steps", type=int, help="batches that the writer is trained on (default: 0; 1000 with --writer)"
    )
    arguments.add_argument("--users", type=number, default=20, help="for whom time is taken")
    arguments.add_argument(
        "--quality_users", type=number, default=1000, help="to whom a trained writer recommends"
    )
    options = arguments.parse_args()
    if not (options.tokenizer or options.writer):
        arguments.error("give --tokenizer, or --writer with a folder that has one")
    if options.writer and options.writer_layers:
        arguments.error(
            "--writer has its own layers; leave out --writer_layers, or set --layers, which is ours"
        )
    if options.writer and not Path(options.writer).is_dir():
        arguments.error(f"--writer: no folder {options.writer}")
    options.tokenizer = options.tokenizer or options.writer
    options.writer_layers = options.writer_layers or "layers"
    if options.steps is None:
        options.steps = 1000 if options.writer else 0
    if options.steps < 0:
        arguments.error(f"--steps is {options.steps}, expected 0 or more")
    return options


def main():
    """Build, train the writer if asked, measure both, print."""
    options = asked_for()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    t5 = _writing_t5.pretrained(options.writer, tokenizer) if options.writer else None
    titles, told, train, test, model = built(options, len(tokenizer))
    which = f"the pretrained T5 of {options.writer}"
    if t5 is None:
        t5, which = untaught(options, len(tokenizer), model)
    which += f", trained for {options.steps} batches" if options.steps else ", not trained"
    writer, found = TitleWriter(t5, tokenizer, titles, told), []
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(1))
    if options.steps:
        # what is learnt from nothing bears larger steps than what is known already
        loss = fit(writer, train, options.steps, learning_rate=3e-4 if options.writer else 1e-3)
        found = [_rows.Row(f"loss of the writer after {options.steps} batches", None, loss, None, "")]
        found += quality(writer, test, test[order[: options.quality_users]])
    rows = test[order[: options.users]]
    table = [*speed(model, writer, test, rows), *sizes(model, writer), *catalogues(model, rows), *found]
    _rows.show(f"{options.dataset}, {len(rows)} users, {BEAMS} beams; theirs: {which}", table, options.json)


if __name__ == "__main__":
    main()
