"""All items ranked in one pass, beside titles written by beam search: equal size, one machine, one run.

``python -m benchmarks.beam_search --tokenizer google-t5/t5-small [--dataset ml-1m] [--data_path FOLDER] [--users 20]``

Ours is HierLLMRec with a T5 encoder for its Recommendation LLM, theirs the T5 with that encoder and a decoder as deep.
Both are told the same of the last 50 items, ours as vectors, theirs as text, and start from random weights: time does
not depend on them, but for the length of what is written, which is that of the data's mean title. With ``--steps`` the
writer is trained, and it is said how well it recommends. Then our time for catalogues of a thousand to a million items.
"""

import tempfile
from statistics import median
from time import perf_counter

import numpy as np
import torch

from benchmarks import _rows
from benchmarks._title_writer import BEAMS, TitleWriter
from recbole_llm.data.texts import attach_item_texts
from recbole_llm.serving.index import nearest_items
from recbole_llm.train.build import build, configure

CATALOGUES = (1_000, 10_000, 100_000, 1_000_000)
K = 10


def t5_config(options, n_words):
    """A T5 of the size that was asked for."""
    from transformers import T5Config

    return T5Config(
        vocab_size=n_words,
        d_model=options.width,
        d_kv=64,
        num_heads=options.width // 64,
        d_ff=4 * options.width,
        num_layers=options.layers,
        num_decoder_layers=options.layers,
        decoder_start_token_id=0,
    )


def built(options, folder):
    """Titles, what is told of the items, the data, and our model on the encoder of ``folder``."""
    given = {"model": "HierLLMRec", "dataset": options.dataset, "data_path": options.data_path}
    given |= {"artifact_path": options.artifact_path, "show_progress": False, "text_join": True}
    given |= {"rec_llm": "t5_encoder", "rec_llm_path": folder, "rec_init": "random", "train_rows": "prefix"}
    given |= {"pool_user": "mean", "MAX_ITEM_LIST_LENGTH": 50, "baseline": None}
    config = configure("HierLLMRec", given)
    (train, _, test), _, model = build(config)
    attach_item_texts(config, train._dataset)
    told = train._dataset.item_texts
    config["text_fields"] = ["title"]  # what the writer writes
    attach_item_texts(config, train._dataset)
    titles = [text.removeprefix("Title: ").removesuffix(".") for text in train._dataset.item_texts]
    return titles, told, train._dataset, test._dataset, model.eval()


@torch.no_grad()
def rank(model, rows):
    """The best K items of each row, seen or not."""
    return model.full_sort_predict(rows).topk(K, dim=1).indices


def seconds_each(work, pieces):
    """The median seconds of ``work`` over ``pieces``, after one to warm up."""
    work(pieces[0])
    taken = []
    for piece in pieces:
        started = perf_counter()
        work(piece)
        taken.append(perf_counter() - started)
    return median(taken)


def hit_rates(lists, targets):
    """Recall@10 and NDCG@10 of some lists with one target each."""
    places = [found.index(t) if t in found else None for found, t in zip(lists, targets, strict=True)]
    gains = [0.0 if place is None else 1 / np.log2(place + 2) for place in places]
    return float(np.mean([place is not None for place in places])), float(np.mean(gains))


def catalogues(model, rows):
    """Seconds to rank catalogues of other sizes for one user, by size: the pass that reads him, and the search."""
    found = {}
    user_S = model.forward(rows[model.ITEM_SEQ][:1], rows[model.ITEM_SEQ_LEN][:1]).detach()
    read = seconds_each(lambda one: rank_user(model, one), [rows[torch.tensor([0])]] * 5)
    for size in CATALOGUES:
        table = torch.nn.functional.normalize(torch.randn(size + 1, user_S.shape[1]), dim=1)
        found[size] = read + seconds_each(lambda _, table=table: nearest_items(user_S, table, K), range(5))
    return found


@torch.no_grad()
def rank_user(model, row):
    """The user vector of one row."""
    return model.forward(row[model.ITEM_SEQ], row[model.ITEM_SEQ_LEN])


def main():
    """Build, train the writer a little, measure both, print."""
    arguments = _rows.parser(__doc__)
    arguments.add_argument("--dataset", default="ml-1m")
    arguments.add_argument("--data_path", default="dataset")
    arguments.add_argument("--artifact_path", default="artifacts")
    arguments.add_argument("--tokenizer", required=True, help="folder or hub id of a T5 tokenizer")
    arguments.add_argument("--width", type=int, default=512, help="512 is T5-small's")
    arguments.add_argument("--layers", type=int, default=6, help="of the encoder, and of the decoder")
    arguments.add_argument(
        "--steps", type=int, default=0, help="batches that the writer is trained on (default: 0)"
    )
    arguments.add_argument("--users", type=int, default=20)
    options = arguments.parse_args()
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    torch.manual_seed(0)
    config = t5_config(options, len(tokenizer))
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        titles, told, train, test, model = built(options, folder)
    writer = TitleWriter(T5ForConditionalGeneration(config), tokenizer, titles, told)

    rows = test[torch.randperm(len(test), generator=torch.Generator().manual_seed(1))[: options.users]]
    ones = [rows[torch.tensor([number])] for number in range(options.users)]
    asked = [[row[row > 0].tolist()] for row in rows[train.item_id_list_field]]
    ours = seconds_each(lambda one: rank(model, one), ones)
    length = writer.title_length()
    theirs = seconds_each(lambda histories: writer.recommend(histories, length), asked)
    weights = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (model.rec_llm, writer.model)]

    table = [
        _rows.Row("users ranked a second, one at a time", 1 / ours, 1 / theirs, 50, "1/s"),
        _rows.Row("time for a user", 1000 * ours, 1000 * theirs, None, "ms"),
        _rows.Row("tokens written for a user", 0, length * BEAMS, None, "tokens"),
        _rows.Row("weights", *weights, None, "million"),
    ]
    table += [
        _rows.Row(f"time for a user, {size:,} items", 1000 * taken, None, None, "ms")
        for size, taken in catalogues(model, rows).items()
    ]
    if options.steps:
        table += quality(writer, train, rows, asked, options.steps)
    _rows.show(f"{options.dataset}, {options.users} users, {BEAMS} beams", table, options.json)


def quality(writer, train, rows, asked, steps):
    """How well the writer recommends after so many batches of training, as rows."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    taught = train[order[: 16 * steps]]
    histories = [row[row > 0].tolist() for row in taught[train.item_id_list_field]]
    loss = writer.fit(histories, taught[train.iid_field].tolist(), steps)
    lists, _ = writer.recommend([history for (history,) in asked])
    recall, ndcg = hit_rates(lists, rows[train.iid_field].tolist())
    found = {"loss": loss, "Recall@10": recall, "NDCG@10": ndcg, "items": sum(map(len, lists)) / len(lists)}
    return [
        _rows.Row(f"the writer after {steps} batches: {name}", value, None, None, "")
        for name, value in found.items()
    ]


if __name__ == "__main__":
    main()
