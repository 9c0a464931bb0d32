"""Paired tests by hand, against SciPy's, and on what they must not depend on."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recbole_llm.errors import DataError
from recbole_llm.evaluation.significance import (
    benjamini_hochberg,
    bootstrap_interval,
    compare,
    effect_size,
    holm,
    metric_of_users,
    paired_difference,
    sign_flip_p,
    wilcoxon_p,
)


def frame(users, ranks, items=None):
    return pd.DataFrame(
        {"user": users, "item": items or [f"i{u}" for u in users], "rank": 99, "rank_masked": ranks}
    )


def test_a_metric_of_a_user_is_the_mean_over_the_users_targets():
    ranks = frame(["b", "a", "b"], [1, 3, 11], ["x", "y", "z"])
    assert metric_of_users(ranks).to_dict() == {"a": 0.5, "b": 0.5}
    assert metric_of_users(ranks, "recall@3").to_dict() == {"a": 1.0, "b": 0.5}
    assert metric_of_users(ranks, "mrr@20").to_dict() == pytest.approx({"a": 1 / 3, "b": (1 + 1 / 11) / 2})


def test_three_users_that_all_gain_have_a_p_of_two_in_eight():
    assert sign_flip_p(np.ones(3)) == pytest.approx(2 / 8, abs=0.015)


def test_the_observed_signs_count_so_that_p_is_never_zero():
    assert sign_flip_p(np.ones(60), resamples=999) == 1 / 1000


def test_no_difference_gives_an_interval_of_zero_and_a_p_of_one():
    same = paired_difference([0.5, 0.0, 1.0], [0.5, 0.0, 1.0])
    assert (same.mean, same.low, same.high, same.p, same.users) == (0, 0, 0, 1, 3)


def test_one_user_has_no_spread():
    one = paired_difference([1.0], [0.5])
    assert (one.ours, one.theirs, one.mean, one.low, one.high, one.p) == (1.0, 0.5, 0.5, 0.5, 0.5, 1.0)


def test_the_interval_of_many_differences_is_that_of_the_normal_law():
    difference = np.random.default_rng(3).choice([-0.5, 0.0, 0.25, 1.0], 4000)
    low, high = bootstrap_interval(difference)
    half = 1.96 * difference.std() / np.sqrt(len(difference))
    assert [low, high] == pytest.approx(
        [difference.mean() - half, difference.mean() + half], abs=0.03 * 2 * half
    )


def test_interval_and_p_are_those_of_scipy():
    rng = np.random.default_rng(5)
    ours, theirs = (1 / np.log2(rng.integers(1, 12, 200) + 1) for _ in range(2))
    ours = ours + 0.03
    found = paired_difference(ours, theirs)
    p = stats.permutation_test(
        (ours, theirs), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=4000, rng=1
    ).pvalue
    interval = stats.bootstrap(
        (ours - theirs,), np.mean, method="percentile", n_resamples=4000, rng=1
    ).confidence_interval
    assert 0.02 < p < 0.9, "a case that could go either way"
    assert found.p == pytest.approx(p, abs=0.03)
    assert [found.low, found.high] == pytest.approx(list(interval), abs=0.05 * (interval.high - interval.low))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.63, 1.0]), min_size=1, max_size=40), st.randoms())
def test_order_of_users_does_not_matter_and_changing_sides_mirrors_all(difference, random):
    mixed = random.sample(difference, len(difference))
    zeros = np.zeros(len(difference))
    here, there = (paired_difference(d, zeros, resamples=200) for d in (difference, mixed))
    back = paired_difference(zeros, difference, resamples=200)
    assert (here.low, here.high, here.p) == (there.low, there.high, there.p)
    assert here.low <= here.high and 1 / 201 <= here.p <= 1
    assert back.mean == -here.mean and back.p == here.p


def test_it_stays_right_when_the_draws_do_not_fit_at_once(monkeypatch):
    difference = np.random.default_rng(0).normal(0.1, 1, 300)
    whole = bootstrap_interval(difference), sign_flip_p(difference)
    monkeypatch.setattr("recbole_llm.evaluation.significance.CELLS", 7 * 300)  # seven draws at once
    parts = bootstrap_interval(difference), sign_flip_p(difference)
    assert parts[0] == pytest.approx(whole[0], abs=1e-12) and parts[1] == whole[1]


def test_users_are_paired_by_name_and_not_by_place():
    ours = frame(["a", "b", "c"], [1, 3, 11])
    theirs = frame(["c", "a", "b"], [11, 1, 3])
    assert compare(ours, theirs).mean == 0 and compare(ours, theirs).p == 1


def test_each_convention_has_its_column():
    ours = frame(["a", "b"], [1, 1])
    assert compare(ours, frame(["a", "b"], [3, 3])).mean == 0.5
    assert compare(ours, frame(["a", "b"], [3, 3]), "rank").mean == 0


def test_other_targets_are_refused():
    with pytest.raises(
        DataError, match=r"2 targets and 3 have 1 in common, expected the same ones: evaluate both"
    ):
        compare(frame(["a", "b"], [1, 1], ["x", "y"]), frame(["a", "b", "c"], [1, 1, 1], ["x", "z", "y"]))


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ([1.0], [1.0, 2.0], r"shapes \(1,\) and \(2,\), expected two of \(users,\)"),
        ([], [], r"shapes \(0,\) and \(0,\), expected two of \(users,\) with one user or more"),
        ([1.0, float("nan")], [0.0, 0.0], r"1 of 2 differences are not finite; every user needs a value"),
    ],
)
def test_what_cannot_be_compared_is_refused(ours, theirs, message):
    with pytest.raises(DataError, match=message):
        paired_difference(ours, theirs)


def test_wilcoxons_p_is_scipys_and_one_where_nobody_differs():
    difference = np.random.default_rng(2).normal(0.1, 1, 60)
    with_zeros = np.concatenate([difference, np.zeros(9)])
    assert wilcoxon_p(with_zeros) == pytest.approx(stats.wilcoxon(difference, method="asymptotic").pvalue)
    assert wilcoxon_p(np.zeros(4)) == 1.0


def test_the_effect_is_the_mean_in_standard_deviations():
    assert effect_size(np.array([0.0, 1.0, 2.0])) == pytest.approx(1.0)
    assert effect_size(np.array([0.5, 0.5])) is None and effect_size(np.array([0.5])) is None


def test_holm_by_hand():
    # sorted .01 .02 .03 .04 times 4 3 2 1: .04 .06 .06 .04, and never below the one before
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0]) and holm([0.2]) == pytest.approx([0.2])
    assert not len(holm([]))


def test_the_share_of_false_finds_by_hand():
    assert benjamini_hochberg([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.04, 0.04, 0.04, 0.04])
    assert benjamini_hochberg([0.01, 0.5]) == pytest.approx([0.02, 0.5])
    assert not len(benjamini_hochberg([]))


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_corrections_keep_the_order_and_never_make_a_p_smaller(p):
    p = np.array(p)
    for corrected in (holm(p), benjamini_hochberg(p)):
        assert (corrected >= p - 1e-12).all() and (corrected <= 1).all()
        assert (np.diff(corrected[p.argsort(kind="stable")]) >= -1e-12).all()
