"""Does a language model know this data set by heart? Then a gain on it may be memory, not skill.

    recbole-llm probe --dataset=ml-1m --llm=<folder or hub id> [--questions=200] [--out=probe]
    recbole-llm probe --dataset=ml-1m --backend=openai --llm=<name> --llm_url=http://localhost:8000/v1

Three kinds of question, each after a few solved ones: the title of an item by its id, the rest of a title by its
beginning, the next title of a user's history, of the training part alone. After Dario Di Palma et al., "Do LLMs
Memorize Recommendation Datasets? A Preliminary Study on MovieLens-1M", SIGIR 2025, https://arxiv.org/abs/2505.10212.
The keys of who answers are those of ``properties/llm.yaml``. With ``--dry_run`` the prompts are written to
``questions.jsonl`` and nothing is asked; ``--backend=recorded`` takes such a file with an ``answer`` in every line.
Chance is measured by the same answers held against the solutions of other questions: popular titles are right by luck.
"""

import json
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from scipy import stats

from ..config import PROPERTIES, literal, read_yaml, settings_from
from ..data.subjects import users
from ..errors import DataError, SettingError
from ..evaluation.manifest import write_bytes, write_json
from ..evaluation.markdown import table
from ..llm.backend import ABSENT, Request
from ..llm.cache import Cache
from ..llm.wording import NEXT_OF_HISTORY, REST_OF_TITLE, TITLE_OF_ID
from ..text.templates import read_columns, title_column
from ..train.build import configured, training_part
from ..train.generation import Settings, backend_of

NUMBERS = {  # of a probe, unless the command line says otherwise
    "questions": 200,  # of each kind
    "examples": 5,  # questions shown with their solutions
    "history": 10,  # titles of a history that are told
}
WHO = """
    backend llm llm_revision llm_url llm_file llm_file_key llm_file_answer llm_device llm_dtype batch_tokens
    concurrency timeout_seconds requests_per_minute most_tokens price_in price_out most_cost
"""  # keys of ``properties/llm.yaml``: who answers
OWN = ("out", "title", "cache", "dry_run", *NUMBERS)
WORDS = {
    TITLE_OF_ID.name: "title of an item by its id",
    REST_OF_TITLE.name: "rest of a title by its beginning",
    NEXT_OF_HISTORY.name: "next title of a history",
}


@dataclass(frozen=True)
class Question:
    """A prompt, what it is asked with, and what the data set says."""

    template: object
    prompt: str
    solution: str


@dataclass(frozen=True)
class Rate:
    """How often a kind of question was answered as the data set says.

    Attributes
    ----------
    kind : str
    questions, right : int
    low, high : float
        The 95 % interval of the share (Wilson).
    chance : float
        The share of all other questions' solutions that an answer would have met: what luck gives.
    p : float
        Of as many right answers by chance alone (binomial, one-sided).
    """

    kind: str
    questions: int
    right: int
    low: float
    high: float
    chance: float
    p: float


def run(given):
    """Ask what a command line asks for, and write the page; returns its path."""
    own = {key: given[key] for key in OWN if key in given}
    rest = {key: value for key, value in given.items() if key not in (*OWN, *WHO.split())}
    if "dataset" not in rest:
        raise SettingError("probe needs --dataset, and --llm or the other keys of who answers")
    numbers = {key: str(own.get(key, number)) for key, number in NUMBERS.items()}
    for key, number in numbers.items():
        if not number.isdigit() or not int(number):
            raise SettingError(f"{key} is {number}, expected 1 or more")
    home, dry = Path(own.get("out", "probe")), literal(own.get("dry_run", False)) is True
    backend = None if dry else _backend({key: given[key] for key in WHO.split() if key in given})
    config = configured({"model": "SASRec"} | rest)
    titles, histories = read(config, own.get("title"))
    counts = {key: int(number) for key, number in numbers.items()}
    questions = ask(config["dataset"], titles, histories, seed=config["seed"], **counts)
    if dry:
        lines = [json.dumps({"prompt": question.prompt}, ensure_ascii=False) for question in questions]
        write_bytes(home / "questions.jsonl", "\n".join([*lines, ""]).encode())
        return home / "questions.jsonl"
    with Cache(own.get("cache", home / "answers.sqlite")) as cache:
        answers = answer(questions, backend, cache)
    return write(home, config["dataset"], backend, questions, answers)


def _backend(given):
    """The language model that is asked, as ``generate`` makes it; a local one unless ``backend`` says otherwise."""
    settings = read_yaml(PROPERTIES / "llm.yaml") | {"backend": "transformers"}
    settings = settings_from(settings | {key: literal(value) for key, value in given.items()}, Settings)
    if settings.backend == "extractive":
        raise SettingError(
            "backend is extractive, which is no language model; give transformers, openai or recorded"
        )
    return backend_of(settings, ())


def read(config, column=None):
    """The title of each item by its token, and the titles of each user's training events, in order of time.

    Raises
    ------
    DataError
        If the data set has no ``.item`` file or no column of titles.
    """
    path = Path(config["data_path"]) / f"{config['dataset']}.item"
    if not path.is_file():
        raise DataError(f"no {path}: without titles there is nothing that a model could know by heart")
    columns = read_columns(path)
    name = column or title_column(columns)
    if name not in columns:
        raise DataError(
            f"{path} has no column {name or 'of titles'}; there are {', '.join(columns)}; give --title"
        )
    titles = {token: _without_year(text) for token, text in columns[name].items() if plain(text)}
    dataset = training_part(config)
    told = (one.lines for one in users(dataset, titles, len(dataset.events)))
    histories = [[title for title in lines if title] for lines in told]
    return titles, [titles_of_user for titles_of_user in histories if titles_of_user]


def ask(dataset, titles, histories, *, seed, questions, examples, history):
    """At most so many questions of each kind, drawn by ``seed``, as a list of ``Question``.

    Parameters
    ----------
    titles : dict of str to str
        Item token -> title.
    histories : list of list of str
    questions, examples, history : int
        As in ``NUMBERS``.

    Raises
    ------
    DataError
        If the examples leave nothing to ask.
    """
    rng, count = np.random.default_rng(seed), questions + examples
    names = [name for name in dict.fromkeys(titles.values()) if plain(_halves(name)[1])]
    long = [whole for whole in histories if len(whole) > history]
    kinds = [
        (TITLE_OF_ID, "id", [(token, titles[token]) for token in _some(list(titles), count, rng)], " |"),
        (REST_OF_TITLE, "begin", [_halves(name) for name in _some(names, count, rng)], " //"),
        (
            NEXT_OF_HISTORY,
            "history",
            [_stretch(whole, history, rng) for whole in _some(long, count, rng)],
            " |",
        ),
    ]
    asked = []
    for template, blank, pairs, mark in kinds:
        shown = [f"{told}{mark} {solution}" for told, solution in pairs[:examples]]
        for told, solution in pairs[examples:]:
            prompt = template.fill(dataset=dataset, examples=shown, **{blank: told})
            asked.append(Question(template, prompt, solution))
    if not asked:
        raise DataError(
            f"{dataset} has {len(titles):,} titles and {len(long):,} histories of more than {history}, and with "
            f"{examples} examples of each kind no question is left; give fewer --examples"
        )
    return asked


def _without_year(title):
    return re.sub(r"\s*\(\d{4}\)\s*$", "", title.strip())


def _some(values, count, rng):
    return [values[place] for place in rng.permutation(len(values))[:count]]


def _halves(title):
    words = title.split()
    middle = (len(words) + 1) // 2
    return " ".join(words[:middle]), " ".join(words[middle:])


def _stretch(titles, length, rng):
    begin = int(rng.integers(len(titles) - length))
    return " | ".join(titles[begin : begin + length]), titles[begin + length]


def answer(questions, backend, cache):
    """The text of every answer, in the order of the questions; what the cache knows is not asked for again.

    Raises
    ------
    DataError
        If recorded answers lack some: a question that was not asked says nothing.
    """
    found, absent = {}, 0
    for template in dict.fromkeys(question.template for question in questions):
        numbers = [n for n, question in enumerate(questions) if question.template is template]
        prompts = [questions[n].prompt for n in numbers]
        requests = [Request(prompt, max_tokens=32, stop=("\n",), about=prompt) for prompt in prompts]
        for place, said in cache.complete(requests, backend, template.label):
            found[numbers[place]] = said.text
            absent += said.finish == ABSENT
    if absent:
        raise DataError(
            f"{backend.name} has no answer to {absent:,} of {len(questions):,} questions; the prompts are those that "
            "the same command writes with --dry_run"
        )
    return [found[n] for n in range(len(questions))]


def plain(text):
    """Text without accents, case, punctuation and a year at its end: what two spellings of a title share.

    >>> plain("Les Misérables (1995)")
    'les miserables'
    """
    text = unicodedata.normalize("NFKD", _without_year(text))
    letters = "".join(letter for letter in text if not unicodedata.combining(letter)).casefold()
    return " ".join(re.findall(r"\w+", letters))


def rate(kind, said, solutions):
    """The ``Rate`` of one kind of question."""
    said, solutions = [plain(text) for text in said], [plain(text) for text in solutions]
    right = sum(a == b for a, b in zip(said, solutions, strict=True))
    total = len(said)
    others = sum(solutions.count(text) - (text == own) for text, own in zip(said, solutions, strict=True))
    chance = others / (total * (total - 1)) if total > 1 else 0.0
    low, high = stats.binomtest(right, total).proportion_ci(method="wilson")
    p = float(stats.binomtest(right, total, max(chance, 1 / (total + 1)), alternative="greater").pvalue)
    return Rate(kind, total, right, float(low), float(high), chance, p)


def write(home, dataset, backend, questions, answers):
    """Write the rates to ``probe.md``, every question with its answer to ``probe.json``; returns the first's path."""
    rates = []
    for kind in WORDS:
        of_kind = [
            (said, q.solution) for said, q in zip(answers, questions, strict=True) if q.template.name == kind
        ]
        if of_kind:
            rates.append(rate(kind, *zip(*of_kind, strict=True)))
    rows = [
        [
            WORDS[found.kind],
            f"{found.questions:,}",
            f"{100 * found.right / found.questions:.1f} %",
            f"{100 * found.low:.1f} to {100 * found.high:.1f} %",
            f"{100 * found.chance:.1f} %",
            "< 0.001" if found.p < 0.001 else f"{found.p:.3f}",
        ]
        for found in rates
    ]
    head = ["", "questions", "as the data set says", "95 % interval", "by chance", "p"]
    text = (
        f"# Does {backend.name} know {dataset} by heart?\n\n{table(head, rows)}\n\n"
        f"Revision `{backend.revision}`. An answer counts if it is the solution but for case, accents, punctuation and "
        "year. By chance: the same answers held against other questions' solutions; p is of as many right answers by "
        "that chance alone. Where the first line is well above chance, results of this model on this data set say "
        "little of others.\n"
    )
    Console(highlight=False, soft_wrap=True).print(text, markup=False)
    write_json(
        home / "probe.json",
        {
            "dataset": dataset,
            "backend": {"name": backend.name, "revision": backend.revision},
            "rates": [vars(found) for found in rates],
            "questions": [
                {"kind": q.template.name, "prompt": q.prompt, "solution": q.solution, "answer": said}
                for q, said in zip(questions, answers, strict=True)
            ],
        },
    )
    write_bytes(home / "probe.md", text.encode())
    return home / "probe.md"
