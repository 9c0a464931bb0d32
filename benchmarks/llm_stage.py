"""The LLM stage: batched answers beside one call each, encoding beside plain sentence-transformers, a busy cache.

``python -m benchmarks.llm_stage --llm FOLDER [--items FOLDER/ml-1m.item] [--prompts 2000] [--max_tokens 24]``

Prompts are the beginnings of item descriptions, of mixed length, with and without an instruction before them. Theirs is
the same model with one ``complete`` call for each prompt, and ``SentenceTransformer.encode`` on the same texts.
"""

import multiprocessing
import tempfile
from pathlib import Path
from time import perf_counter

from benchmarks import _rows
from recbole_llm.llm.backend import Answer, Request
from recbole_llm.llm.cache import Cache, key_of
from recbole_llm.llm.fake import FakeBackend
from recbole_llm.llm.local import LocalBackend
from recbole_llm.text.encoder import DEFAULT_MODEL, make_encoder
from recbole_llm.text.location import locate
from recbole_llm.text.templates import field_texts, read_columns

INSTRUCTION = (
    "Once upon a time there was a man who told everybody about the films that he had seen. One day he said: "
)
WRITERS, WRITES = 8, 10_000


def timed(work):
    """Seconds and result of a call."""
    started = perf_counter()
    found = work()
    return perf_counter() - started, found


def answers(options, prompts):
    """Prompts a second, batched and one by one; and how many texts are the same."""
    backend = LocalBackend(options.llm)
    requests = [Request(prompt, max_tokens=options.max_tokens) for prompt in prompts]
    list(backend.complete(requests[:2]))  # loads the model
    together, found = timed(lambda: dict(backend.complete(requests)))
    alone, single = timed(lambda: [next(iter(backend.complete([request])))[1] for request in requests])
    same = sum(found[n].text == one.text for n, one in enumerate(single))
    return len(prompts) / together, len(prompts) / alone, same


def encoding(texts):
    """Texts a second of our encoder and of plain sentence-transformers, longest first both."""
    from sentence_transformers import SentenceTransformer

    texts = sorted(texts, key=len, reverse=True)
    ours, theirs = make_encoder(), SentenceTransformer(str(locate(DEFAULT_MODEL).folder), device="cpu")
    theirs.max_seq_length = ours.max_tokens
    for encoder in (ours, theirs):
        encoder.encode(texts[:8])
    seconds = [timed(lambda e=e: e.encode(texts))[0] for e in (ours, theirs)]
    return [len(texts) / each for each in seconds]


def _write(path, number):
    with Cache(path) as cache:
        requests = [Request(f"{number} {n}") for n in range(WRITES)]
        list(cache.complete(requests, FakeBackend(str.upper), "t@1"))


def busy_cache():
    """Answers that are not there, or not as they were given, after all writers are done; and seconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answers.sqlite"
        Cache(path).close()
        context = multiprocessing.get_context("spawn")
        writers = [context.Process(target=_write, args=(path, number)) for number in range(WRITERS)]
        started = perf_counter()
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        seconds, lost = perf_counter() - started, 0
        with Cache(path) as cache:
            for number in range(WRITERS):
                for n in range(WRITES):
                    prompt = f"{number} {n}"
                    found = cache.find(key_of("fake", "1", "t@1", Request(prompt)))
                    lost += found != Answer(prompt, 2, 2, "stop")
        return lost, seconds


def main():
    """Measure everything and print it."""
    parser = _rows.parser(__doc__)
    parser.add_argument("--llm", required=True)
    parser.add_argument("--items", type=Path, required=True)
    parser.add_argument("--column", default="llm_description")
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--max_tokens", type=int, default=24)
    options = parser.parse_args()
    table = read_columns(options.items)
    texts = [text for (text,) in filter(None, field_texts(table, options.column).values())]
    # beginnings of 3 to 42 words: some as they are, some after one instruction
    prompts = [" ".join(text.split()[: 3 + 7 * n % 40]) for n, text in enumerate(texts)][: options.prompts]
    rows = []
    for name, given in (("", prompts), (", after one instruction", [INSTRUCTION + p for p in prompts])):
        ours, theirs, same = answers(options, given)
        rows.append(_rows.Row(f"prompts a second{name}", ours, theirs, 5.0, "1/s"))
        rows.append(_rows.Row(f"the same text{name}", same, len(given), 1.0, "answers"))
    rows.append(_rows.Row(f"{len(texts):,} texts encoded a second", *encoding(texts), 1.0, "1/s"))
    lost, seconds = busy_cache()
    rows.append(_rows.Row(f"{WRITERS} processes, {WRITES:,} answers each: lost", lost, None, None, "answers"))
    rows.append(_rows.Row("the same: stored a second", WRITERS * WRITES / seconds, None, None, "1/s"))
    _rows.show("the LLM stage", rows, options.json)


if __name__ == "__main__":
    main()
