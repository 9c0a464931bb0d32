"""What a language model said of sessions, aligned to the rows that may read it.

``recbole-llm generate sessions`` asks about each row's history and calls the answer ``<user>@<events before the
target>``. Here the answers become vectors, by the encoder of the items' names, and each place among the data set's
events is told which answer speaks of what came before it.

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
from .subjects import history_hashes
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
    answered : dict of str to float
        By part, the share of its rows that have an answer.
    """

    vector_AD: torch.Tensor
    row_N: torch.Tensor
    user_A: torch.Tensor
    user_N: torch.Tensor
    item_N: torch.Tensor
    answered: dict

    @classmethod
    def of(cls, vector_AD, row_N, user_N, item_N, answered=None):
        """The answers about histories of these events."""
        user_A = user_N.new_zeros(len(vector_AD)).index_copy(0, row_N, user_N)
        user_A[0] = 0
        return cls(vector_AD, row_N, user_A, user_N, item_N, answered or {})

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
        If a folder holds texts of others, or of another data set's sessions, or texts that have read other events than
        a row's history.
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
        row_N = _rows(texts, dataset)
        if not row_N.any():
            raise ArtifactError(
                f"session_intents: none of the {len(written):,} answers of {folder} speaks of a session of "
                f"{config['dataset']}; name answers that were made for this data set"
            )
        row_N[~torch.as_tensor(aligned.present)[row_N]] = 0
        columns = dataset.events[dataset.uid_field], dataset.events[dataset.iid_field]
        answered = {name: _share(row_N, part) for name, part in (parts or {}).items() if len(part)}
        dataset.session_intents[view] = Intents.of(
            torch.as_tensor(aligned.vectors), row_N, *columns, answered
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


def _rows(texts, dataset):
    """(N,): the row, from 1, of the answer about what came before each event.

    An answer that counts other events than there are, or has read others, was made from another split or data set; one
    of an older file tells no more than the last that it has read.
    """
    user_N = dataset.events[dataset.uid_field].numpy()
    item_N = dataset.field2id_token[dataset.iid_field][dataset.events[dataset.iid_field].numpy()]
    first = np.flatnonzero(np.r_[True, user_N[1:] != user_N[:-1]])
    begin = dict(zip(dataset.field2id_token[dataset.uid_field][user_N[first]], first.tolist(), strict=True))
    hashes = history_hashes(dataset)
    row_N, wrong = torch.zeros(len(user_N), dtype=torch.long), []
    for row, (about, (count, last, *read)) in enumerate(((a, texts.cuts[a]) for a in texts.by_token()), 1):
        user = about.rpartition("@")[0]
        if user not in begin:  # filtered out of this data set
            continue
        place = begin[user] + count
        is_there = place < len(user_N) and user_N[place] == user_N[begin[user]]
        if is_there and item_N[place - 1] == str(last) and read in ([], [hashes[place]]):
            row_N[place] = row
        else:
            wrong.append(about)
    if wrong:
        raise ArtifactError(
            f"{texts.directory} has read other events than this data set has before {len(wrong):,} of its "
            f"{len(texts.given):,} places, e.g. {', '.join(wrong[:3])}; run `recbole-llm generate sessions` with this "
            "run's settings"
        )
    return row_N
