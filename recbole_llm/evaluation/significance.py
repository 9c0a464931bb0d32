"""Whether two models differ on the same users: a paired bootstrap interval, a permutation test and Wilcoxon's.

Both look at one difference a user and never resample the two models apart, see Mark Smucker, James Allan and Ben
Carterette, "A Comparison of Statistical Significance Tests for Information Retrieval Evaluation", CIKM 2007,
https://doi.org/10.1145/1321440.1321528. They speak of the users drawn, not of the seed that a model was trained with.

NDCG@10 of one target takes eleven values, so most differences occur many times. How often each of them is drawn has a
multinomial law, and how many of their signs stay a binomial one: drawing these numbers is drawing the users, at a cost
that does not grow with them.

Many tests at once find differences by chance: ``holm`` keeps the chance of one such find in the whole family, and
``benjamini_hochberg`` the share of them among all finds. Sture Holm, 1979, https://www.jstor.org/stable/4615733; Yoav
Benjamini and Yosef Hochberg, 1995, https://doi.org/10.1111/j.2517-6161.1995.tb02031.x

Shapes: U users, V distinct differences, R resamples, F tests of a family.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from ..errors import DataError
from .ranks import gain

RESAMPLES, SEED = 10_000, 0
CHANCE = 0.05  # a p below it, and an interval that leaves out 0, are more than chance
ONE_USER = "one user alone was tested"  # why there is no test: all that could be drawn anew is that user
CELLS = 4_000_000  # numbers held at once


@dataclass(frozen=True)
class Difference:
    """What separates two models, user by user.

    Attributes
    ----------
    ours, theirs, mean : float
        The two means over the users, and the mean of ours minus theirs.
    low, high : float
        The 95 % bootstrap interval of ``mean``.
    p, wilcoxon_p : float
        The chance of so large a difference if there were none: of the mean by flipped signs, of the ranks by Wilcoxon's
        signed-rank test (users without a difference left out).
    effect : float or None
        Cohen's d of paired values: ``mean`` in units of the differences' standard deviation; None where they have none.
    users : int
    """

    ours: float
    theirs: float
    mean: float
    low: float
    high: float
    p: float
    wilcoxon_p: float
    effect: float | None
    users: int


def side_of(difference):
    """1 where a ``Difference``, as a dict, is above 0 by interval and p alike, -1 where it is below, 0 for chance."""
    sure = difference["p"] < CHANCE
    return sure * ((difference["low"] > 0) - (difference["high"] < 0))


def metric_of_users(ranks, metric="ndcg@10", column="rank_masked"):
    """A metric of each user of a frame of ranks (see ``ranks.COLUMNS``) as a Series; the mean of a user's targets."""
    found = gain(ranks[column], metric)
    return ranks[["user"]].assign(gain=found).groupby("user")["gain"].mean()


def compare(ours, theirs, column="rank_masked", metric="ndcg@10"):
    """The ``Difference`` in a metric between two frames of ranks.

    Raises
    ------
    DataError
        If the two do not have the same targets.
    """
    pairs = [
        frame[["user", "item"]].astype(str).sort_values(["user", "item"]).values for frame in (ours, theirs)
    ]
    if not np.array_equal(*pairs):
        common = len(set(map(tuple, pairs[0])) & set(map(tuple, pairs[1])))
        raise DataError(
            f"{len(ours):,} targets and {len(theirs):,} have {common:,} in common, expected the same ones: "
            "evaluate both models on the same test part"
        )
    ours_U, theirs_U = (metric_of_users(frame, metric, column) for frame in (ours, theirs))
    return paired_difference(ours_U.to_numpy(), theirs_U.loc[ours_U.index].to_numpy())


def paired_difference(ours_U, theirs_U, resamples=RESAMPLES, seed=SEED):
    """The ``Difference`` between two arrays (U,) of a metric, user by user, with a 95 % interval.

    Raises
    ------
    DataError
        If the shapes differ, there is no user, or a value is not finite.
    """
    ours_U, theirs_U = np.asarray(ours_U, float), np.asarray(theirs_U, float)
    if ours_U.shape != theirs_U.shape or ours_U.ndim != 1 or not len(ours_U):
        raise DataError(
            f"values have shapes {ours_U.shape} and {theirs_U.shape}, expected two of (users,) with one user or more"
        )
    difference_U = ours_U - theirs_U
    unusable = int((~np.isfinite(difference_U)).sum())
    if unusable:
        raise DataError(
            f"{unusable:,} of {len(difference_U):,} differences are not finite; every user needs a value"
        )
    low, high = bootstrap_interval(difference_U, resamples=resamples, seed=seed)
    return Difference(
        ours=float(ours_U.mean()),
        theirs=float(theirs_U.mean()),
        mean=float(difference_U.mean()),
        low=low,
        high=high,
        p=sign_flip_p(difference_U, resamples, seed),
        wilcoxon_p=wilcoxon_p(difference_U),
        effect=effect_size(difference_U),
        users=len(difference_U),
    )


def bootstrap_interval(difference_U, level=0.95, resamples=RESAMPLES, seed=SEED):
    """The percentile interval (low, high) of the mean when the users are drawn anew with replacement."""
    value_V, count_V = np.unique(difference_U, return_counts=True)
    rng, n_users = np.random.default_rng(seed), len(difference_U)
    sizes = _batches(resamples, len(value_V))
    means_R = [rng.multinomial(n_users, count_V / n_users, size) @ value_V / n_users for size in sizes]
    low, high = np.quantile(np.concatenate(means_R), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def sign_flip_p(difference_U, resamples=RESAMPLES, seed=SEED):
    """The two-sided p that the mean is 0, each user's sign being as likely as its opposite.

    The observed signs count as one of the draws, so p is never below 1 / (resamples + 1).
    """
    value_V, count_V = np.unique(np.abs(difference_U), return_counts=True)
    rng, observed = np.random.default_rng(seed), abs(np.sum(difference_U))
    reached = (
        observed - 1e-9 * np.abs(difference_U).sum()
    )  # sums in another order differ in their last digits
    as_far = 0
    for size in _batches(resamples, len(value_V)):
        kept_RV = rng.binomial(count_V, 0.5, (size, len(value_V)))
        as_far += int((np.abs((2 * kept_RV - count_V) @ value_V) >= reached).sum())
    return (as_far + 1) / (resamples + 1)


def wilcoxon_p(difference_U):
    """The two-sided p of Wilcoxon's signed-rank test, by the normal law; 1 where nobody has a difference."""
    moved_U = difference_U[difference_U != 0]
    if not len(moved_U):
        return 1.0
    return float(stats.wilcoxon(moved_U, method="asymptotic").pvalue)


def effect_size(difference_U):
    """Cohen's d of paired values, or None where fewer than two users differ in their difference."""
    spread = difference_U.std(ddof=1) if len(difference_U) > 1 else 0.0
    return float(difference_U.mean() / spread) if spread > 0 else None


def holm(p_F):
    """(F,): the p-values corrected so that the chance of any false find among them stays what it says."""
    p_F = np.asarray(p_F, float)
    order_F = p_F.argsort()
    stepped_F = np.maximum.accumulate(p_F[order_F] * np.arange(len(p_F), 0, -1))
    return _in_place(np.minimum(stepped_F, 1.0), order_F)


def benjamini_hochberg(p_F):
    """(F,): the p-values corrected so that the expected share of false finds stays what they say."""
    return stats.false_discovery_control(np.asarray(p_F, float)) if len(p_F) else np.zeros(0)


def _in_place(sorted_F, order_F):
    """The values in the places from which ``order_F`` took them."""
    placed_F = np.empty_like(sorted_F)
    placed_F[order_F] = sorted_F
    return placed_F


def _batches(resamples, n_values):
    """Sizes that add up to ``resamples``, so that no batch holds more than ``CELLS`` numbers."""
    size = max(1, CELLS // n_values)
    return [min(size, resamples - start) for start in range(0, resamples, size)]
