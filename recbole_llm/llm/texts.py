"""Artifacts of generated texts: what a language model said of each item, user or session, and how it came about.

A directory ``<name>@<key>`` with ``texts.jsonl`` (a line for each question, in their order) and ``manifest.json``. It
appears whole or not at all, and holds nothing that would differ if it were made again: no date, no speed.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from recbole_llm.errors import ArtifactError
from recbole_llm.llm.generate import Given, Tally
from recbole_llm.text.manifest import MANIFEST, content_key, file_hash, write_bytes
from recbole_llm.text.templates import GENERATED, PICKED, Template

FORMAT = 1
TEXTS = "texts.jsonl"
CURE = "Run `recbole-llm generate` again."


@dataclass(frozen=True)
class Origin:
    """All that decides the texts.

    Attributes
    ----------
    kind : str
        What is spoken of: items, users, sessions or blocks.
    templates : tuple of str
        Their labels.
    settings : Mapping
        Of the questions: words of the domain, sampling, tries, and how histories are cut.
    told : str
        Hash over what is told of each, in order.
    backend, revision, is_llm
        Of what answers.
    fallback : str
        What answers where that cannot; empty for nothing.
    cuts : Mapping
        Token -> the last event that its question has read (``data/subjects.py``); empty where no event was read.
    """

    kind: str
    templates: tuple[str, ...]
    settings: Mapping
    told: str
    backend: str
    revision: str
    is_llm: bool
    fallback: str
    cuts: Mapping

    def directory(self, root: str | Path) -> Path:
        """``<root>/<kind>@<first 12 digits of the content key>``."""
        return Path(root) / f"{self.kind}@{self.key[:12]}"

    @property
    def key(self) -> str:
        """SHA-256 of the canonical JSON of all of it."""
        return content_key({"format": FORMAT, **asdict(self)})


@dataclass(frozen=True)
class Texts:
    """What stands in an artifact: ``given`` in the order of the questions, and the manifest."""

    directory: Path
    given: tuple[Given, ...]
    manifest: dict

    @property
    def cuts(self) -> dict:
        """Token -> the last event that its question has read."""
        return self.manifest["made_from"]["cuts"]

    @property
    def template(self) -> Template:
        """What an artifact of their vectors names as their source."""
        said = self.manifest["made_from"]["is_llm"] and self.manifest["coverage"]["answered"]
        return GENERATED if said else PICKED

    @property
    def asked(self) -> dict:
        """Who was asked, and the tokens that this took: ``backend``, ``is_llm``, ``read``, ``written``."""
        made, counts = self.manifest["made_from"], self.manifest["coverage"]
        return {
            "backend": made["backend"],
            "is_llm": made["is_llm"],
            "read": counts["prompt_tokens"],
            "written": counts["answer_tokens"],
        }

    def by_token(self) -> dict[str, tuple[str, ...]]:
        """Token -> its text, as an encoder takes it: ``()`` where there is none."""
        return {one.about: (one.text,) if one.text else () for one in self.given}

    @classmethod
    def load(cls, directory: str | Path) -> "Texts":
        """Read an artifact and check it against its manifest.

        Raises
        ------
        ArtifactError
            If it is not there, not complete, or differs from its manifest.
        """
        directory = Path(directory)
        try:
            manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
            expected = {
                "format": FORMAT,
                "key": content_key({"format": FORMAT, **manifest["made_from"]}),
                "sha256": file_hash(directory / TEXTS),
            }
            wrong = [name for name, value in expected.items() if manifest[name] != value]
            lines = () if wrong else (directory / TEXTS).read_text(encoding="utf-8").split("\n")[:-1]
            given = tuple(Given(**json.loads(line)) for line in lines)
        except FileNotFoundError as error:
            raise ArtifactError(
                f"{directory} is no artifact of texts: no {Path(error.filename).name}. {CURE}"
            ) from None
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"{directory} cannot be read ({type(error).__name__}: {error}). {CURE}"
            ) from error
        if wrong:
            raise ArtifactError(
                f"{directory} differs from its manifest: {', '.join(wrong)}. Remove it. {CURE}"
            )
        return cls(directory, given, manifest)


def publish(root: str | Path, origin: Origin, given: Sequence[Given], tally: Tally) -> Texts:
    """Write the artifact beside its place and rename it into it; one that is there already stays."""
    directory = origin.directory(root)
    if not (directory / MANIFEST).exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        staging = directory.with_name(f".{directory.name}.{os.getpid()}")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        lines = (json.dumps(asdict(one), ensure_ascii=False, sort_keys=True) + "\n" for one in given)
        write_bytes(staging / TEXTS, "".join(lines).encode())
        counts = {name: value for name, value in vars(tally).items() if name != "known"}
        manifest = {
            "format": FORMAT,
            "made_from": asdict(origin),
            "key": origin.key,
            "sha256": file_hash(staging / TEXTS),
            "coverage": counts,
        }
        write_bytes(staging / MANIFEST, f"{json.dumps(manifest, indent=2, sort_keys=True)}\n".encode())
        try:
            os.replace(staging, directory)
        except OSError:  # another process was faster, or a broken copy is in the way
            if not (directory / MANIFEST).exists():
                shutil.rmtree(directory)
                os.replace(staging, directory)
        shutil.rmtree(staging, ignore_errors=True)
    return Texts.load(directory)
