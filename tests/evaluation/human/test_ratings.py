"""Votes -> numbers: published examples, closed forms, and intervals that cover the truth."""

import math

import numpy as np
import pytest

from open_imagen.evaluation.human.ratings import (
    Votes,
    bradley_terry,
    krippendorff_alpha,
    mean_intervals,
    raw_agreement,
    student_quantile,
)


def simulated(seed, prompts=60, raters=15, truth=0.4, spread=1.0, habit=0.3, missing=0.0):
    """Votes whose odds depend on the prompt and the rater, as those of people do."""
    rng = np.random.default_rng(seed)
    by_prompt, by_rater = rng.normal(0, spread, prompts), rng.normal(0, habit, raters)
    p, r = (x.ravel() for x in np.meshgrid(np.arange(prompts), np.arange(raters), indexing="ij"))
    chance = 1 / (1 + np.exp(-(truth + by_prompt[p] + by_rater[r])))
    values = (rng.random(len(p)) < chance).astype(float)
    cast = rng.random(len(p)) >= missing
    return Votes(list(p[cast]), list(r[cast]), values[cast][:, None])


def expected_share(truth=0.4, spread=1.0, habit=0.3):
    """The mean of the logistic of a normal variable, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    values = 1 / (1 + np.exp(-(truth + math.hypot(spread, habit) * nodes)))
    return float((weights * values).sum() / weights.sum())


def covered(studies, **study):
    """In how many studies the interval holds the truth."""
    truth, count = expected_share(), 0
    for seed in range(studies):
        [found] = mean_intervals(simulated(seed, **study))
        count += found.low <= truth <= found.high
    return count


def test_intervals_cover_the_truth_in_95_of_100_studies_and_naive_ones_do_not():
    # 200 studies at 95 % are 190 +- 3.1; three of these on either side.
    assert 181 <= covered(200) <= 199
    assert 181 <= covered(200, raters=2, missing=0.2) <= 199
    truth, naive = expected_share(), 0
    for seed in range(200):
        votes = simulated(seed)
        share, number = votes.values.mean(), len(votes.values)
        naive += abs(share - truth) <= 1.96 * math.sqrt(share * (1 - share) / number)
    assert naive < 150


@pytest.mark.slow
@pytest.mark.parametrize("prompts", [18, 60])
@pytest.mark.parametrize("raters", [2, 3, 5, 10, 25])
def test_intervals_cover_from_two_raters_on_with_missing_votes(prompts, raters):
    share = covered(1000, prompts=prompts, raters=raters, missing=0.2) / 1000
    assert 0.93 - 0.014 <= share <= 0.97 + 0.011  # two standard errors of 1,000 studies


def test_independent_votes_have_the_binomial_interval():
    rng = np.random.default_rng(0)
    number = 3000
    votes = Votes(range(number), range(number), (rng.random(number) < 0.3)[:, None].astype(float))
    [found] = mean_intervals(votes)
    half = 1.96 * math.sqrt(found.value * (1 - found.value) / number)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.02)


def test_raters_who_differ_widen_the_interval_and_prompts_alone_do_not_hide_it():
    alike, unlike = simulated(1, habit=0.0, raters=6), simulated(1, habit=1.5, raters=6)
    widths = [f.high - f.low for votes in (alike, unlike) for f in mean_intervals(votes)]
    assert widths[1] > 1.5 * widths[0]


def test_votes_that_all_agree_still_leave_doubt():
    votes = Votes([0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1], np.ones((6, 1)))
    [found] = mean_intervals(votes)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.4385, abs=1e-4)  # Wilson's of 3 prompts of 3
    [found] = mean_intervals(Votes([0, 1], [0, 0], np.array([[100.0], [100.0]])), scale=100)
    assert found.low == pytest.approx(34.24, abs=0.01)


def test_quantiles_of_student_from_tables():
    expected = {1: 12.706, 3: 3.182, 4.5: 2.659, 10: 2.228, 120: 1.980, 1e5: 1.960}
    for freedom, value in expected.items():
        assert student_quantile(freedom) == pytest.approx(value, rel=1e-3)


def test_bradley_terry_of_two_systems_in_closed_form():
    [a, b] = bradley_terry(np.array([[0, 30], [10, 0]]))
    assert a.value - b.value == pytest.approx(math.log(3), abs=1e-9)
    # The variance of the difference is 1/30 + 1/10; each of two centred strengths has half of it.
    assert a.error == pytest.approx(math.sqrt(1 / 30 + 1 / 10) / 2, rel=1e-6)


def test_bradley_terry_equals_its_classic_iteration():
    wins = np.array([[0, 12, 7.5, 9], [8, 0, 11, 6], [6.5, 9, 0, 10], [5, 8, 3, 0]])
    worth = np.ones(4)
    games = wins + wins.T
    for _ in range(5000):  # Zermelo 1929
        worth = wins.sum(1) / (games / (worth[:, None] + worth[None, :])).sum(1)
        worth /= worth.sum()
    theirs = np.log(worth) - np.log(worth).mean()
    assert [s.value for s in bradley_terry(wins)] == pytest.approx(list(theirs), abs=1e-8)


def test_a_system_that_always_wins_is_strong_but_not_infinite():
    [winner, loser] = bradley_terry(np.array([[0, 5], [0, 0]]))
    assert winner.value - loser.value == pytest.approx(math.log(5.5 / 0.5), abs=1e-9)
    strengths = [s.value for s in bradley_terry(np.array([[0, 5, 5], [0, 0, 3], [0, 2, 0]]))]
    assert strengths[0] == max(strengths)
    assert all(math.isfinite(s) for s in strengths)


def test_alpha_of_krippendorffs_own_example():
    # Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", data C: nominal 0.743.
    table = [
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    ]
    rows = [row.split() for row in table]
    units = [[row[k] for row in rows if row[k] != "."] for k in range(12)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)


def test_agreement_by_hand():
    assert raw_agreement([["a", "a", "b"], ["a", "a"]]) == pytest.approx((2 + 2) / (6 + 2))
    assert krippendorff_alpha([["a", "b"], ["b", "a"]] * 50) == pytest.approx(-1, abs=0.02)
    assert math.isnan(krippendorff_alpha([["a"]]))
