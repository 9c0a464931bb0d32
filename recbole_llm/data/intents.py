"""What a language model said of sessions, aligned to the rows that may read it.

``recbole-llm generate sessions`` asks about each row's history, and an answer is known by the items that it has read.
Here the answers become vectors, by the encoder of the items' names, and each place among the data set's events is told
which answer speaks of what came before it; a new session is looked up by its items.

Shapes: A answers with row 0 for none, D text-vector size, N events of the data set.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..errors import ArtifactError, SettingError
from ..llm.texts import Texts
from ..text.artifact import build_artifact
from ..text.joined import Joined
from ..text.templates import TITLE_COLUMNS, field_template
from .parts import ROW_END
from .subjects import history_hash, history_hashes
from .texts import encoder_of


@dataclass(frozen=True)
class Intents:
    """The answers of one view.

    Attributes
    ----------
    vector_AD : FloatTensor
        Row 0 is zeros: no answer.
    row_N : LongTensor
        The answer about the history before each event; 0 where there is none.
    user_A : LongTensor
        The id of the user whose history each answer is about; 0 where it is none of this data set's.
    user_N, item_N : LongTensor
        The data set's events, user by user in order of time.
    row_of : dict of str to int
        ``subjects.history_hash`` of what an answer has read -> its row.
    tokens : list of str
        Of the items, by id.
    told : int or None
        How many of the last events of a history an answer was told at most; None: all.
    answered : dict of str to float
        By part, the share of its rows that have an answer.
    """

    vector_AD: torch.Tensor
    row_N: torch.Tensor
    user_A: torch.Tensor
    user_N: torch.Tensor
    item_N: torch.Tensor
    row_of: dict
    tokens: list
    told: int | None
    answered: dict

    @classmethod
    def of(cls, vector_AD, row_N, user_N, item_N, row_of=None, tokens=(), told=None, answered=None):
        """The answers about histories of these events."""
        user_A = user_N.new_zeros(len(vector_AD)).index_copy(0, row_N, user_N)
        user_A[0] = 0
        return cls(vector_AD, row_N, user_A, user_N, item_N, row_of or {}, tokens, told, answered or {})

    def row_about(self, items):
        """The row of the answer about a history of these items, by their ids in their order; 0 for none."""
        told = items if self.told is None else items[-self.told :]
        return self.row_of.get(history_hash(self.tokens[item] for item in told), 0)

    def is_of_session(self, item_A):
        """(A,) bool: whether each item stands in the history that the answer of its row is about."""
        size = int(max(self.item_N.max(), item_A.max())) + 1
        met, first = np.unique((self.user_N * size + self.item_N).numpy(), return_index=True)
        place_P = torch.nonzero(self.row_N).squeeze(1)
        row_P = self.row_N[place_P]
        asked = (self.user_N[place_P] * size + item_A[row_P]).numpy()
        at = np.searchsorted(met, asked).clip(max=len(met) - 1)
        found = (met[at] == asked) & (first[at] < place_P.numpy())
        return torch.zeros(len(item_A), dtype=torch.bool).index_copy(0, row_P, torch.from_numpy(found))


def attach_session_intents(config, dataset, device="cpu", parts=None):
    """Give ``dataset`` its ``session_intents``: by view, the ``Intents`` of the folder that ``session_intents`` names.

    Each knows what share of the rows of ``parts`` (name -> data set) it speaks of.

    Views that the model does not read are left out. The fingerprints stand among ``text_fingerprints``, so that weights
    go with these answers alone. Returns the manifests of their vectors by field.

    Raises
    ------
    SettingError
        If a protocol changes the histories that the answers speak of.
    ArtifactError
        If a folder holds texts of others than sessions, or has read none of this data set's histories.
    """
    for key in ("cold_share", "shorten_histories", "disturb_histories"):
        if config[key]:
            raise SettingError(
                f"session_intents: the answers speak of whole histories, which {key} changes; take one"
            )
    root, manifests, dataset.session_intents = Path(config["artifact_path"]) / config["dataset"], {}, {}
    encoder = encoder_of(config, device)
    for view in [view for view in config["session_intents"] if view in config["views"]]:
        folder = config["session_intents"][view]
        texts = Texts.load(folder)
        kind = texts.manifest["made_from"]["kind"]
        if kind != "sessions":
            raise ArtifactError(f"session_intents: {folder} speaks of {kind}, expected sessions")
        field, written = f"intents-{view}", texts.by_token()
        progress = bool(config["show_progress"])
        worded = as_names(config, written)
        made = build_artifact(root, field, worded, encoder, texts.template, config["text_dtype"], progress)
        aligned = made.align(["[PAD]", *written], missing="mask")
        told = texts.manifest["made_from"]["settings"].get("history")
        row_of, row_N = _rows(texts, dataset, told)
        if not row_N.any():
            raise ArtifactError(
                f"session_intents: none of the {len(written):,} answers of {folder} has read a history of "
                f"{config['dataset']}; name answers that were made for this data set"
            )
        row_N[~torch.as_tensor(aligned.present)[row_N]] = 0
        dataset.session_intents[view] = Intents.of(
            torch.as_tensor(aligned.vectors),
            row_N,
            dataset.events[dataset.uid_field],
            dataset.events[dataset.iid_field],
            {history: row for history, row in row_of.items() if aligned.present[row]},
            list(map(str, dataset.field2id_token[dataset.iid_field])),
            told,
            {name: _share(row_N, part) for name, part in (parts or {}).items() if len(part)},
        )
        dataset.text_fingerprints[field] = made.fingerprint
        manifests[field] = made.manifest | {"asked": texts.asked}
    return manifests


def as_names(config, written):
    """The answers, by what they are about, worded as the items' names are; as they are where names say more."""
    (column, *more) = config["text_fields"] or [None]
    if more or not config["text_join"] or column not in TITLE_COLUMNS:
        return written
    table = pd.DataFrame({column: {about: " ".join(texts) for about, texts in written.items()}})
    return Joined.of([field_template(table, column)]).texts(table)


def _share(row_N, part):
    """The share of a part's rows that have an answer."""
    return float((row_N[part.inter_feat[ROW_END]] > 0).float().mean())


def _rows(texts, dataset, told):
    """Hash of what an answer has read -> its row, from 1; and (N,), the row of what came before each event, 0 for none.

    Whoever has the very same last ``told`` events may read an answer, for nothing else was told.
    """
    row_of = {}
    for row, about in enumerate(texts.by_token(), 1):
        if len(texts.cuts[about]) < 3:
            raise ArtifactError(
                f"{texts.directory} is of an older version, which did not say what an answer has read; run "
                "`recbole-llm generate sessions` again"
            )
        row_of[texts.cuts[about][2]] = row
    return row_of, torch.tensor([row_of.get(history, 0) for history in history_hashes(dataset, told)])
