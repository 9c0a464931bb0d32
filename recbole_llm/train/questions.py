"""What a language model is asked of a data set: subjects, the template of each kind, the artifact of the answers."""

from itertools import islice

from ..data import subjects
from ..llm import wording
from ..llm.cache import Cache
from ..llm.generate import Asking, generate
from ..llm.summaries import summarise
from ..llm.texts import Origin, Texts, publish
from ..text.manifest import MANIFEST, lines_hash
from .build import split

KINDS = ("items", "users", "sessions", "blocks")
CHARACTERS = 4  # of a token, about; for an estimate


class Questions:
    """The subjects of one kind, and how each is asked about."""

    def __init__(self, kind, s, config, table):
        self.kind, self.s = kind, s
        self.told = min(s.history, config["MAX_ITEM_LIST_LENGTH"])  # of a session: no more than a row holds
        name = s.domain or domain_of(config["dataset"])
        self.qualifier = s.qualifier or wording.VIEWS.get(s.view, "")
        self.words = wording.DOMAINS[name].words()
        lines = {} if kind == "items" else subjects.item_lines(table, s.title, ids=kind == "sessions")
        found, self.person = self._subjects(config, table, lines)
        self.subjects = list(islice(found, s.limit))
        self.corpus = list(lines.values()) or [" ".join(one.lines) for one in self.subjects]

    def _subjects(self, config, table, lines):
        if self.kind == "items":
            return subjects.items(table, self.s.told), {}
        parts = dict(zip(("train", "valid", "test"), split(config), strict=True))
        if self.kind == "sessions":
            return subjects.sessions([parts[name] for name in self.s.parts], lines, self.told), {}
        person = subjects.persons(config, self.s.user_fields) if self.s.user_fields else {}
        return subjects.users(parts["train"], lines, self.s.history), person

    @property
    def template(self):
        """What is asked first; blocks go on with the templates of ``llm/summaries.py``."""
        return {
            "items": wording.ITEM_DESCRIPTION,
            "users": wording.USER_PROFILE,
            "sessions": wording.SESSION_INTENT if self.qualifier else wording.UNQUALIFIED_INTENT,
            "blocks": wording.BLOCK_SUMMARY,
        }[self.kind]

    @property
    def templates(self):
        """The labels of all templates that are filled."""
        joins = {"merge": wording.MERGE_SUMMARIES, "update": wording.UPDATE_SUMMARY}
        more = [joins[self.s.join]] if self.kind == "blocks" else []
        return tuple(template.label for template in (self.template, *more))

    def values(self, one):
        """What fills the first template."""
        match self.kind:
            case "items":
                return {"facts": one.lines}
            case "users":
                return {"history": one.lines, "person": self.person.get(one.about, "")}
            case "sessions":
                view, count = {"view": self.qualifier} if self.qualifier else {}, one.cut[0]
                shown = f"the last {len(one.lines)} of {count}" if len(one.lines) < count else f"all {count}"
                return {"history": one.lines, "shown": shown} | view
        return {"history": one.lines[: self.s.block]}

    def requests(self, template, asked):
        """A request for each (token, values), the domain's words added where the template has blanks for them."""
        s, blanks = self.s, template.blanks
        words = {word: text for word, text in self.words.items() if word in blanks}
        options = {
            "max_tokens": s.max_tokens,
            "temperature": s.temperature,
            "top_p": s.top_p,
            "seed": s.answer_seed,
        }
        return [template.request(values | words, about, **options) for about, values in asked]

    def preview(self, console):
        """Counts, an estimate of the tokens, and three prompts."""
        requests = self.requests(self.template, [(one.about, self.values(one)) for one in self.subjects])
        distinct = len({(request.system, request.prompt) for request in requests})
        tokens = sum(len(request.prompt) + len(request.system or "") for request in requests) // CHARACTERS
        console.print(
            f"{len(requests):,} {self.kind}, {distinct:,} distinct first questions ({', '.join(self.templates)}); "
            f"about {tokens:,} tokens to read and at most {distinct * self.s.max_tokens:,} to write",
            markup=False,
        )
        for request in requests[:: max(len(requests) // 3, 1)][:3]:
            console.print(f"\n--- {request.about}\n{request.system}\n\n{request.prompt}", markup=False)

    def answered(self, root, backend, fallback, console):
        """The artifact, from the cache, from the backend, or as it stands there already."""
        s, fallback = self.s, None if fallback is backend else fallback
        origin = Origin(
            kind=self.kind,
            templates=self.templates,
            settings=self._settings(),
            told=lines_hash([one.about, one.lines, self.person.get(one.about)] for one in self.subjects),
            backend=backend.name,
            revision=backend.revision,
            is_llm=backend.is_llm,
            fallback=fallback.name if fallback else "",
            cuts={one.about: one.cut for one in self.subjects if one.cut},
        )
        if (origin.directory(root) / MANIFEST).exists():
            return Texts.load(origin.directory(root))
        with Cache(s.cache) as cache:
            if cache.damaged:
                console.print(f"the cache could not be read; it was moved to {cache.damaged}", markup=False)
            progress = Asking(console)

            def ask(template, asked):
                return generate(
                    self.requests(template, asked),
                    template,
                    backend,
                    cache,
                    fallback=fallback,
                    tries=s.tries,
                    progress=progress,
                )

            if self.kind == "blocks":
                histories = [(one.about, one.lines) for one in self.subjects]
                given, tally = summarise(histories, s.block, s.join, ask)
            else:
                given, tally = ask(self.template, [(one.about, self.values(one)) for one in self.subjects])
        return publish(root, origin, given, tally)

    def _settings(self):
        """The settings that decide the questions of this kind."""
        s = self.s
        of_kind = {
            "items": {"told": s.told},
            "users": {"history": s.history, "user_fields": s.user_fields},
            "sessions": {"history": self.told, "parts": s.parts, "view": s.view},
            "blocks": {"history": s.history, "block": s.block, "join": s.join},
        }[self.kind]
        if self.kind == "sessions" and s.qualifier:
            of_kind["qualifier"] = s.qualifier
        sampling = {"max_tokens": s.max_tokens, "temperature": s.temperature, "top_p": s.top_p}
        return {**self.words, **of_kind, **sampling, "answer_seed": s.answer_seed, "tries": s.tries}


def domain_of(dataset):
    """The domain that a data set's name speaks of; ``item`` where it speaks of none."""
    known = {"ml-": "movie", "movie": "movie", "amazon": "product", "mind": "news", "news": "news"}
    known |= {"book": "book", "goodreads": "book", "steam": "game", "lastfm": "song", "yelp": "place"}
    return next((domain for part, domain in known.items() if part in dataset.lower()), "item")
