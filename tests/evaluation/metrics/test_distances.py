"""Metrics: closed forms, torch-fidelity's numbers, and error bars that mean what they say."""

import numpy as np
import pytest
import torch

from evaluation.metrics.oracle import torch_fidelity
from open_imagen.errors import DataError
from open_imagen.evaluation.metrics.distances import (
    METRICS,
    Reference,
    check_enough,
    clip_score,
    cmmd,
    fid,
    kid,
    mind,
    mmd2,
    precision,
    recall,
    reference_of,
    with_error,
)


def gaussian(n, width, seed, shift=0.0, scale=1.0):
    return np.random.default_rng(seed).normal(size=(n, width)) * scale + shift


def whitened(n, width, seed):
    """Points whose mean is exactly 0 and covariance exactly the identity."""
    x = gaussian(n, width, seed)
    x = x - x.mean(0)
    values, vectors = np.linalg.eigh(x.T @ x / (n - 1))
    return x @ vectors / np.sqrt(values)


def test_the_frechet_distance_of_two_gaussians_in_closed_form():
    # Diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2.
    s1, s2 = np.array([1.0, 2.0, 0.5, 3.0]), np.array([2.0, 2.0, 1.5, 0.1])
    m1, m2 = np.array([0.0, 1.0, -1.0, 2.0]), np.array([0.5, 1.0, 1.0, 0.0])
    x, y = whitened(50, 4, 0) * s1 + m1, whitened(70, 4, 1) * s2 + m2
    expected = ((m1 - m2) ** 2).sum() + ((s1 - s2) ** 2).sum()
    assert fid(x, reference_of(y)) == pytest.approx(expected, rel=1e-10)
    statistics = Reference(m2, np.diag(s2**2), None)
    assert fid(x, statistics) == pytest.approx(expected, rel=1e-10)


def test_few_and_many_pictures_take_two_ways_to_one_number():
    x, y = gaussian(40, 60, 0), gaussian(50, 60, 1, 0.3)
    by_features = fid(x, reference_of(y))
    known = reference_of(y)
    by_covariance = fid(x, Reference(known.mu, known.sigma, 50))
    assert by_features == pytest.approx(by_covariance, rel=1e-7)


@pytest.mark.parametrize("name", METRICS)
def test_a_rotation_changes_nothing_and_distance_grows(name):
    x, y = gaussian(120, 8, 0), gaussian(130, 8, 1)
    turn = np.linalg.qr(gaussian(8, 8, 2))[0]
    metric = METRICS[name]
    # mind projects on fixed directions, so a rotation moves it by their sampling alone.
    close = 0.1 if name == "mind" else 1e-8
    assert metric(x @ turn, reference_of(y @ turn)) == pytest.approx(
        metric(x, reference_of(y)), rel=close
    )
    near, far = metric(x + 0.5, reference_of(y)), metric(x + 2.0, reference_of(y))
    assert far < near if name in ("precision", "recall") else far > near


@pytest.mark.parametrize("name", ["fid", "cmmd", "mind"])
def test_a_set_is_at_no_distance_from_itself(name):
    x = gaussian(90, 6, 0)
    assert METRICS[name](x, reference_of(x)) == pytest.approx(0, abs=1e-9)


def test_fid_kid_precision_and_recall_equal_torch_fidelity():
    theirs = torch_fidelity()
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    assert theirs.__version__
    x, y = gaussian(1200, 24, 0), gaussian(1300, 24, 1, 0.2, 1.1)
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    statistics = [fid_features_to_statistics(features) for features in (a, b)]
    [expected] = fid_statistics_to_metric(*statistics, verbose=False).values()
    assert fid(x, reference_of(y)) == pytest.approx(expected, rel=1e-9)
    found = kid_features_to_metric(a, b, verbose=False, rng_seed=2020)
    assert kid(x, reference_of(y)) == pytest.approx(
        found["kernel_inception_distance_mean"], rel=1e-9
    )
    found = prc_features_to_metric(a, b, verbose=False)
    assert precision(x, reference_of(y)) == pytest.approx(found["precision"], abs=1e-6)
    assert recall(x, reference_of(y)) == pytest.approx(found["recall"], abs=1e-6)


def test_kid_by_hand():
    x, y = np.array([[1.0], [2.0]]), np.array([[0.0], [1.0]])
    # k(a, b) = (a b + 1)^3: within x 27, within y 1; across 1, 8, 1, 27.
    assert mmd2(x, y) == pytest.approx(27 + 1 - 2 * (1 + 8 + 1 + 27) / 4)


def test_cmmd_by_hand():
    x, y = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    assert cmmd(x, reference_of(np.repeat(y, 2, 0))) == pytest.approx(
        1000 * (2 - 2 * np.exp(-2 / 200))
    )


def test_mind_of_a_shift_in_closed_form():
    # Projections of a shifted copy differ by v.s; the mean of (v.s)^2 over directions is |s|^2 / D.
    x = gaussian(100, 5, 0)
    assert mind(x + 0.7, reference_of(x)) == pytest.approx(3 * 5 * 0.49, rel=0.1)
    # In one dimension every direction is +1 or -1: exact.
    assert mind(x[:, :1] + 2, reference_of(x[:, :1])) == pytest.approx(3 * 4)


def test_precision_and_recall_by_hand():
    real = np.array([[0.0], [1.0], [2.0], [3.0]])
    # Third neighbours are 3, 2, 2 and 3 away: the balls cover -3 to 6.
    assert precision(np.array([[-2.9], [5.9], [6.1], [9.0]]), reference_of(real)) == 0.5
    made = np.array([[0.0], [0.0], [0.0], [0.0], [0.1]])
    assert recall(made, reference_of(real)) == 0.25


def test_clip_score_by_hand():
    images, captions = np.array([[3.0, 0.0], [1.0, 1.0]]), np.array([[1.0, 0.0], [-1.0, 0.0]])
    assert clip_score(images, captions).value == pytest.approx(100 * (1 - 0.5**0.5) / 2)


@pytest.mark.parametrize("name", ["fid", "kid"])
def test_error_bars_are_as_wide_as_numbers_scatter(name):
    reference = reference_of(gaussian(700, 3, 99))
    metric = METRICS[name]
    draws = [gaussian(300, 3, seed, 0.3) for seed in range(40)]
    scatter = np.std([metric(x, reference) for x in draws], ddof=1)
    claimed = np.median([with_error(metric, x, reference).error for x in draws[:12]])
    assert claimed == pytest.approx(scatter, rel=0.45)


def test_too_few_pictures_for_a_covariance_are_refused():
    check_enough(np.zeros((11, 10)))
    with pytest.raises(DataError, match="10 pictures are too few"):
        check_enough(np.zeros((10, 10)))


def test_statistics_alone_do_for_fid_but_for_nothing_else():
    statistics = Reference(np.zeros(3), np.eye(3), None)
    assert fid(gaussian(10, 3, 0), statistics) > 0
    for name in ("kid", "cmmd", "mind", "precision", "recall"):
        with pytest.raises(DataError, match="statistics"):
            METRICS[name](gaussian(10, 3, 0), statistics)
