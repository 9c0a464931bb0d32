"""Answers without a language model: what stands in the data, counted and picked out, the same every time.

For machines without a model, and as what stands in where a model's answer cannot be used. Reports call it "no LLM".
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from recbole_llm.llm.answers import Choice, written
from recbole_llm.llm.backend import ABSENT, STOP, Answer, Request
from recbole_llm.llm.wording import VIEWS

MOST = 5  # values of an attribute, terms and recent lines that are named
_ATTRIBUTE = re.compile(
    r"(\w[\w ]{0,30}): ([^.:]+)\."
)  # as text/templates.py writes them: "Genre: Drama, War."


class ExtractiveBackend:
    """Picks out of a request's facts; a yes or no it cannot say.

    Parameters
    ----------
    corpus : iterable of str
        The text of every item: which words are rare there decides which are telling.
    """

    name, revision, is_llm, by_prompt = "extractive (no LLM)", "1", False, False

    def __init__(self, corpus: Iterable[str]):
        self.terms = TfidfVectorizer(stop_words="english", token_pattern=r"(?u)\b[^\W\d]{3,}\b")
        try:
            self.terms.fit(corpus)
        except ValueError:  # not a word in it
            self.terms = None

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answers in the order of the requests."""
        for number, request in enumerate(requests):
            text = self._said(request.facts, request.schema)
            if text:
                yield number, Answer(written(text, request.schema), 0, 0, STOP)
            else:
                yield number, Answer("", 0, 0, ABSENT)

    def _said(self, facts, schema):
        if "candidate" in facts:
            return ""
        if schema == Choice.schema_text():
            return self._chosen(facts["history"], facts.get("view"))
        if "summaries" in facts:
            return self._joined(facts["summaries"])
        if "summary" in facts:
            return f"{self._summary(facts['history'])} Before: {facts['summary']}"[:1000]
        if "history" in facts:
            return self._summary(facts["history"])
        return " ".join(facts["facts"])

    def _summary(self, lines):
        """Counted attributes, the most telling words, the most recent lines."""
        if not lines:
            return ""
        said = [f"{len(lines)} in all."]
        counts = {}
        for line in lines:
            for label, values in _ATTRIBUTE.findall(line):
                counts.setdefault(label, Counter()).update(map(str.strip, values.split(",")))
        for label, counter in sorted(counts.items()):
            said.append(f"{label}: {', '.join(f'{value} ({n})' for value, n in _most(counter))}.")
        words = self._telling([_ATTRIBUTE.sub("", line) for line in lines])
        if words:
            said.append(f"Words: {', '.join(words)}.")
        recent = [title_of(line) for line in lines[-MOST:]][::-1]
        said.append(f"Most recent: {'; '.join(recent)}.")
        return " ".join(said)

    def _joined(self, summaries):
        """The words that several summaries share, and the latest of them."""
        words = self._telling(summaries)
        return f"Words: {', '.join(words)}. Latest: {summaries[-1]}"[:1500] if words else summaries[-1]

    def _telling(self, texts):
        """The terms of the largest TF-IDF over all texts together."""
        if self.terms is None:
            return []
        weight = np.asarray(self.terms.transform(texts).sum(0)).ravel()
        order = np.lexsort((np.arange(len(weight)), -weight))[:MOST]
        return [self.terms.get_feature_names_out()[place] for place in order if weight[place] > 0]

    def _chosen(self, lines, view):
        """The last line for the short view and where no view is asked for, else the one most like all others."""
        if not lines:
            return ""
        if view in (VIEWS["short"], None) or self.terms is None:
            return title_of(lines[-1])
        vectors = self.terms.transform(lines)
        alike = np.asarray(vectors @ vectors.sum(0).T).ravel()
        return title_of(lines[int(alike.argmax())])


def title_of(line):
    """A line of a history without the attributes behind its title.

    >>> title_of("Heat | Genre: Crime.")
    'Heat'
    """
    return line.partition(" | ")[0]


def _most(counter):
    """The most frequent values, the first of the alphabet where they tie."""
    return sorted(counter.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST]
