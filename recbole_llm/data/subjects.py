"""Whom a language model is asked about, and what it may read: items, users of the training part, rows' histories.

No target and nothing after it is ever read. With every text goes the last event that it has read (its ``cut``); who
uses the text later checks it against the split (``check_cuts``).

Letters: N events of the data set.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ArtifactError, DataError, SettingError
from ..llm.texts import Texts
from ..text.plain import clean
from ..text.templates import ATTRIBUTES, field_texts, read_columns, title_column
from .parts import ROW_END

DIGITS = 12  # of the hash of what was read
# characters of a name in a line, at most: the line must fit into a prompt, the name into an answer
NAME = 128


@dataclass(frozen=True)
class Subject:
    """One that is asked about.

    Attributes
    ----------
    about : str
        An item's or a user's token; of a session ``<user>@<how many of the user's events came before it ended>``.
    lines : tuple of str
        What is told, the oldest first.
    cut : tuple of (int, str), or None
        How many of the user's events came before the text was written, and the item of the last one; of a session also
        a hash of all their items.
    """

    about: str
    lines: tuple
    cut: tuple | None = None


def items(table, fields: Sequence[str]) -> Iterator[Subject]:
    """Every item of an ``.item`` file (``read_columns``) with what its ``fields`` say."""
    texts = {field: field_texts(table, field) for field in fields}
    for token in table.index:
        told = []
        for field in fields:
            label = "" if field == ATTRIBUTES else f"{field.replace('_', ' ').capitalize()}: "
            told += [f"{label}{text}" for text in texts[field][token]]
        yield Subject(str(token), tuple(told))


def item_lines(table, title: str | None = None, ids: bool = False) -> dict[str, str]:
    """Token -> ``title | Genre: Crime. Year: 1995.``: an item as a line of a history; with ``Id: 6.`` if ``ids``.

    A title is cut to 128 characters.

    Raises
    ------
    SettingError
        If there is no such column, or none that is known for titles.
    """
    name = title or title_column(table)
    if name not in table.columns:
        raise SettingError(
            f"no column {name or 'of titles'} in the .item file; there are {', '.join(table.columns)}; give --title"
        )
    try:
        attributes = field_texts(table, ATTRIBUTES)
    except SettingError:  # no column that could be one
        attributes = {}
    lines = {}
    for token, cell in table[name].items():
        name_of = clean(cell).replace("|", "/")[:NAME].rstrip()  # behind " | " stands what is not the name
        said = " ".join((*attributes.get(token, ()), *([f"Id: {token}."] if ids and name_of else ())))
        lines[str(token)] = f"{name_of} | {said}" if said else name_of
    return lines


def users(training, lines: Mapping[str, str], length: int) -> Iterator[Subject]:
    """Every user of a training part with the last ``length`` of the events that its rows read or aim at."""
    _, item = _columns(training)
    for user, first, places in _by_user(training):
        told = tuple(lines.get(item[p], "") for p in places[-length:])
        yield Subject(user, told, (int(places[-1]) - first + 1, item[places[-1]]))


def persons(config, fields: Sequence[str]) -> dict[str, str]:
    """User token -> ``Age: 25. Gender: F.``, by the named columns of the ``.user`` file and no others.

    Raises
    ------
    SettingError
        If there is no such file or column.
    """
    path = Path(config["data_path"]) / f"{config['dataset']}.user"
    if not path.is_file():
        raise SettingError(f"user_fields names {', '.join(fields)}, but there is no {path}")
    table = read_columns(path, config["USER_ID_FIELD"])
    unknown = [field for field in fields if field not in table.columns]
    if unknown:
        raise SettingError(f"{path} has no column {', '.join(unknown)}; there are {', '.join(table.columns)}")
    rows = table[list(fields)].itertuples()
    return {
        str(token): " ".join(
            f"{name.capitalize()}: {clean(cell)}." for name, cell in zip(fields, cells, strict=True)
        )
        for token, *cells in rows
    }


def sessions(parts, lines: Mapping[str, str], length: int) -> Iterator[Subject]:
    """Every row of these parts with the last ``length`` events before its target."""
    for part in parts:
        user, item = _columns(part)
        hashes = history_hashes(part, length)
        for end, held in zip(
            part.inter_feat[ROW_END].tolist(),
            part.inter_feat[part.item_list_length_field].tolist(),
            strict=True,
        ):
            count = end - int(part.user_start[end])
            told = tuple(lines.get(item[p], "") for p in range(end - min(held, length), end))
            yield Subject(f"{_token(part, user[end])}@{count}", told, (count, item[end - 1], hashes[end]))


def history_hash(tokens) -> str:
    """Some digits of a hash of a history, by the tokens of its items in their order."""
    return hashlib.sha256("".join(f"{token}\n" for token in tokens).encode()).hexdigest()[:DIGITS]


def history_hashes(part, length: int | None = None) -> list[str]:
    """For each of the N events ``history_hash`` of the last ``length`` items before it, of all where it is None."""
    _, item = _columns(part)
    start = part.user_start.tolist()
    if length is None:
        length = len(start)
    return [history_hash(item[max(first, end - length) : end]) for end, first in enumerate(start)]


def user_texts(folder, training) -> dict[str, tuple[str, ...]]:
    """User token -> what a language model wrote of the user, checked against the split in use.

    Parameters
    ----------
    folder : path
        An artifact that ``recbole-llm generate users`` or ``blocks`` made.
    training : OffsetDataset
        The training part.

    Raises
    ------
    ArtifactError
        If the texts are damaged, speak of others, or have read events that are not of the training part.
    """
    texts = Texts.load(folder)
    kind = texts.manifest["made_from"]["kind"]
    if kind not in ("users", "blocks"):
        raise ArtifactError(f"{folder} speaks of {kind}, expected users or blocks")
    check_cuts(texts, training)
    return texts.by_token()


def check_cuts(texts, training):
    """Refuse texts of users that have read more than ``training``, or other events.

    Parameters
    ----------
    texts : llm.texts.Texts
        Of users or blocks.
    training : OffsetDataset
        The training part of the split in use.

    Raises
    ------
    ArtifactError
        Names the first three users.
    """
    _, item = _columns(training)
    known = {user: (first, int(places[-1])) for user, first, places in _by_user(training)}
    wrong = [
        about
        for about, (count, last) in texts.cuts.items()
        if about in known
        and (known[about][0] + count - 1 > known[about][1] or item[known[about][0] + count - 1] != str(last))
    ]
    if wrong:
        raise ArtifactError(
            f"{texts.directory} has read events that are not of this training part, of {len(wrong):,} of "
            f"{len(texts.cuts):,} users, e.g. {', '.join(wrong[:3])}; it was made from another split or data set. "
            "Run `recbole-llm generate` with this run's settings"
        )


def _by_user(training):
    """(token, place of the user's first event, places that the part's rows read or aim at) of every user."""
    place, (user, _) = training.own_places().numpy(), _columns(training)
    for places in np.split(place, np.flatnonzero(np.diff(user[place])) + 1):
        yield str(_token(training, user[places[0]])), int(training.user_start[places[0]]), places


def _columns(part):
    """User ids and item tokens of all N events."""
    if not hasattr(part, "events"):
        raise DataError("texts of users need history_as_offsets: it tells training events from the others")
    tokens = part.field2id_token[part.iid_field]
    return part.events[part.uid_field].numpy(), tokens[part.events[part.iid_field].numpy()]


def _token(part, user_id):
    return part.field2id_token[part.uid_field][user_id]
