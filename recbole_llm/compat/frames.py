"""What pandas 3 changed under RecBole's feet, in part silently.

- ``frame[column].fillna(..., inplace=True)`` fills nothing any more (copy-on-write);
- ``series.agg(len)`` is the number of rows, not the length of every row;
- text is read into ``str`` columns, not into Python objects.

No upstream issue tells of these three; RecBole was written for pandas 1 and 2.
"""

import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pandas as pd
from recbole.data.dataset import Dataset, KnowledgeBasedDataset, SequentialDataset, dataset
from recbole.utils import FeatureType

from .patching import stand_in, wrap


def read_csv(*args, **options):
    """`pandas.read_csv` as RecBole means it: text as Python objects, and "" for a sequence that is missing.

    Column names are RecBole's headers, ``field:type``.
    """
    if options.get("engine") == "python" and len(options.get("delimiter") or "") == 1:
        # the C parser reads the same values in a seventh of the time; Python's is for longer delimiters
        options |= {"engine": "c"}
    frame = pd.read_csv(*args, **options)
    for column in frame.select_dtypes("str"):
        frame[column] = frame[column].astype(object)
    for column in frame:
        if column.endswith("_seq"):
            frame[column] = frame[column].fillna("")
    return frame


def read_text_as_objects():
    """Missing sequences become empty, and text stays what it was before pandas 3 (dataset.py, line 501)."""
    stand_in(dataset, "pd", read_csv=read_csv)


def without_chained_assignment_warning(original):
    """The method, silent about the ``fillna(inplace=True)`` in it: we have filled already."""

    def hushed(self, *args):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.ChainedAssignmentError)
            return original(self, *args)

    return hushed


def hush_chained_assignment():
    """No warning for the ``fillna`` of line 501, which has nothing left to fill after `read_csv`."""
    wrap(Dataset, "_load_feat", without_chained_assignment_warning)


def fill_missing_values():
    """Missing tokens become 0, missing floats the column's mean, really (dataset.py, lines 648, 650)."""

    def filling(original):
        finish = without_chained_assignment_warning(original)  # sequences, which it fills as it should

        def _fill_nan(self):
            for feat in (getattr(self, name) for name in self.feat_name_list):
                for field in feat:
                    if self.field2type[field] == FeatureType.TOKEN:
                        feat[field] = feat[field].fillna(0)
                    elif self.field2type[field] == FeatureType.FLOAT:
                        feat[field] = feat[field].fillna(feat[field].mean())
            finish(self)

        return _fill_nan

    wrap(Dataset, "_fill_nan", filling)


def flat_frame(feat, field):
    """A frame with the one column ``field``: the values of all sequences in ``feat[field]``, end to end."""
    values = np.concatenate(feat[field].to_numpy())
    return pd.DataFrame({field: values}, dtype=object if values.dtype.kind == "U" else None)


def cut_like(values, column):
    """``values`` cut along its first axis into rows as long as those of ``column``; a Series of its index."""
    ends = np.cumsum([len(row) for row in column])
    return pd.Series(np.split(values, ends[:-1]), index=column.index, dtype=object)


@contextmanager
def flattened(data, fields, as_type, join=np.asarray):
    """Show ``data`` the sequence columns ``fields`` as plain ones; cut what it made of them into rows again.

    Parameters
    ----------
    data : Dataset
    fields : list of str
    as_type : FeatureType
        The type that the columns have meanwhile.
    join : callable
        Takes the values that ``data`` left in the plain column, gives the array to be cut.
    """
    feats = {field: data.field2feats(field) for field in fields}
    flat = {field: [flat_frame(feat, field) for feat in feats[field]] for field in fields}
    types = {field: data.field2type[field] for field in fields}
    field2feats = data.field2feats
    data.field2feats = lambda field: flat[field] if field in flat else field2feats(field)
    data.field2type.update(dict.fromkeys(fields, as_type))
    try:
        yield flat
    finally:
        del data.field2feats
        data.field2type.update(types)
    for field in fields:
        for feat, plain in zip(feats[field], flat[field], strict=True):
            feat[field] = cut_like(join(plain[field].to_list()), feat[field])


def remap_sequences():
    """Each token sequence gets its own ids; ``agg(len)`` gave one cut for all (dataset.py, line 1217)."""

    def remapping(original):
        def _remap(self, remap_list):
            plain = [
                (flat_frame(feat, field), field, FeatureType.TOKEN)
                if ftype == FeatureType.TOKEN_SEQ
                else (feat, field, ftype)
                for feat, field, ftype in remap_list
            ]
            original(self, plain)
            for (feat, field, ftype), (ids, _, _) in zip(remap_list, plain, strict=True):
                if ftype == FeatureType.TOKEN_SEQ:
                    feat[field] = cut_like(ids[field].to_numpy(copy=True), feat[field])

        return _remap

    wrap(Dataset, "_remap", remapping)


def renumber_entity_sequences():
    """The same for item sequences that a knowledge graph renumbers (kg_dataset.py, line 316)."""

    def renumbering(original):
        def _reset_ent_remapID(self, field, *maps):
            fields = [field] if self.field2type[field] == FeatureType.TOKEN_SEQ else []
            with flattened(self, fields, FeatureType.TOKEN):
                original(self, field, *maps)

        return _reset_ent_remapID

    wrap(KnowledgeBasedDataset, "_reset_ent_remapID", renumbering)


def float_sequences(data, fields):
    """Those of ``fields`` that are float sequences."""
    return [field for field in fields if data.field2type.get(field) == FeatureType.FLOAT_SEQ]


def normalize_sequences():
    """The same for float sequences that are scaled to 0..1 (dataset.py, line 712)."""

    def normalizing(original):
        def _normalize(self):
            wanted = self.config["normalize_field"] or (
                self.field2type if self.config["normalize_all"] else []
            )
            with flattened(self, float_sequences(self, wanted), FeatureType.FLOAT):
                original(self)

        return _normalize

    wrap(Dataset, "_normalize", normalizing)


def discretize_sequences():
    """The same for float sequences that become (value, bucket) pairs (dataset.py, lines 792 and 809)."""

    def discretizing(original):
        def _discretization(self):
            fields = float_sequences(self, self.config["numerical_features"])
            with flattened(self, fields, FeatureType.FLOAT, join=np.array):
                original(self)
            for field in fields:  # rows of pairs -> a pair of rows, as RecBole keeps them
                for feat in self.field2feats(field):
                    feat[field] = feat[field].map(lambda pairs: tuple(pairs.reshape(-1, 2).T))

        return _discretization

    wrap(Dataset, "_discretization", discretizing)


class WritableColumns:
    """The columns of a frame, each with ``values`` of its own; those of pandas 3 are read-only views."""

    def __init__(self, frame):
        self.frame = frame

    def __iter__(self):
        """The column names."""
        return iter(self.frame)

    def __getitem__(self, field):
        """The column ``field``, its ``values`` copied."""
        return SimpleNamespace(values=self.frame[field].to_numpy(copy=True))


def hand_over_writable_columns():
    """Tensors get memory of their own; they shared pandas' read-only one (dataset.py, line 2202)."""

    def converting(original):
        def _dataframe_to_interaction(self, data):
            return original(self, WritableColumns(data))

        return _dataframe_to_interaction

    wrap(Dataset, "_dataframe_to_interaction", converting)


def measure_benchmark_histories():
    """Ready-made histories keep their lengths; ``agg(len)`` gave each the number of rows, silently."""

    def measuring(original):
        def _benchmark_presets(self):
            original(self)
            self.inter_feat[self.item_list_length_field] = self.inter_feat[self.item_id_list_field].map(len)

        return _benchmark_presets

    wrap(SequentialDataset, "_benchmark_presets", measuring)
