"""Values -> the cells of RecBole's atomic files, so that RecBole reads back exactly what was meant.

RecBole reads with pandas' Python engine, csv quoting on and the default missing words: a cell that begins
with a double quote may swallow the rows after it, and an id such as ``NA`` silently loses its interactions.
"""

import re

import numpy as np
import pandas as pd

from dataset_prep.errors import PrepError

TYPES = ("token", "token_seq", "float", "float_seq")
READ_AS_MISSING = frozenset(  # by pandas, unless it is told otherwise
    "#N/A,#N/A N/A,#NA,-1.#IND,-1.#QNAN,-NaN,-nan,1.#IND,1.#QNAN,<NA>,N/A,NA,NULL,NaN,None,"
    "n/a,nan,null".split(",")
)
PADDING = "[PAD]"  # RecBole's own token 0
_UNWRITABLE = re.compile("[\x00-\x08\x0e-\x1b\x7f\ud800-\udfff]")  # control characters and lone surrogates


def clean_text(text):
    r"""One line of text: whitespace runs become one space, a leading pair of double quotes typographic ones.

    >>> clean_text('"Great\tPerformances"  Cats\n')
    '“Great Performances” Cats'
    """
    if not text.isprintable():
        text = _UNWRITABLE.sub(" ", text)
    text = " ".join(text.split())
    if text.startswith('"'):
        text = text.replace('"', "“", 1).replace('"', "”", 1)
    return text


def text_cells(values):
    """Cleaned text of each value, and how many values the cleaning changed; a missing value is empty text."""
    missing = values.isna().tolist()
    raw = ["" if gone else _as_text(value) for value, gone in zip(values.tolist(), missing, strict=True)]
    cleaned = [clean_text(text) for text in raw]
    return cleaned, sum(before != after for before, after in zip(raw, cleaned, strict=True))


def _as_text(value):
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple, np.ndarray)):
        return " ".join(map(str, value))
    if isinstance(value, float) and value.is_integer():
        return str(
            int(value)
        )  # an id or a year that pandas turned into a float because a neighbour was missing
    return str(value)


def id_cells(values, where):
    """Ids, checked: not empty, not a word that RecBole reads as missing, not merged by the cleaning.

    Parameters
    ----------
    values : Series
        Strings or numbers.
    where : str
        The column, for messages.

    Returns
    -------
    Series of int64 or of str
        Integers stay integers: they are written as they are, and a fifth of the memory is enough.
    int
        How many distinct ids were cleaned.
    """
    if pd.api.types.is_integer_dtype(values.dtype) and not values.isna().any():
        return values, 0
    if values.isna().any():
        row = int(np.flatnonzero(values.isna())[0])
        raise PrepError(f"{where}: row {row + 1} has no id; drop the row or give it an id")
    codes, distinct = pd.factorize(values)
    cleaned, changed = text_cells(pd.Series(distinct))
    refused = sorted(
        {token for token in cleaned if not token or token == PADDING or token in READ_AS_MISSING}
    )
    if refused:
        raise PrepError(
            f"{where}: the id {refused[0]!r} is read by RecBole as missing or as padding; "
            "give it another name (a prefix is enough)"
        )
    if len(set(cleaned)) < len(cleaned):
        twins = pd.Series(cleaned)
        raise PrepError(
            f"{where}: two ids become {twins[twins.duplicated()].iloc[0]!r} once cleaned; rename one"
        )
    return pd.Series(np.array(cleaned, dtype=object)[codes], index=values.index), changed


def float_cells(values, where):
    """Numbers written without loss and without exponent: 5 for 5.0, nothing for a missing one.

    >>> float_cells(pd.Series([978300760.0, 0.1, None]), "time")
    ['978300760', '0.1', '']
    """
    try:
        numbers = pd.to_numeric(values)
    except (ValueError, TypeError) as error:
        raise PrepError(
            f"{where}: a value is not a number ({error}); the type should perhaps be token"
        ) from error
    if pd.api.types.is_bool_dtype(numbers.dtype):
        numbers = numbers.astype("Int64")
    if pd.api.types.is_integer_dtype(numbers.dtype):
        return ["" if number is pd.NA else str(number) for number in numbers.tolist()]
    codes, distinct = pd.factorize(numbers.to_numpy(dtype=numbers.dtype.type, na_value=np.nan))
    if np.isinf(distinct).any():
        raise PrepError(f"{where}: a value is infinite; RecBole cannot use it, leave it empty")
    written = [np.format_float_positional(number, trim="-") for number in distinct] + [""]
    return [written[code] for code in codes.tolist()]


def float_seq_cells(values, where):
    """Sequences of numbers, separated by a space; each part must be a number."""
    cells, _ = text_cells(values)
    for row, cell in enumerate(cells):
        for part in cell.split():
            try:
                float(part)
            except ValueError:
                raise PrepError(
                    f"{where}: row {row + 1} holds {part!r}, expected numbers parted by a space"
                ) from None
    return cells
