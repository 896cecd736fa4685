from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import regression_step


def course(rates, episodes=1000):
    rates = np.asarray(rates, float)
    return np.arange(len(rates)), np.round(rates * episodes), np.full(len(rates), episodes)


def by_hand(steps, won, of, window=15, drop=0.05, lasting=False):
    """Every mean and every comparison written out."""

    def mean(u):
        rows = [(w, n) for s, w, n in zip(steps, won, of, strict=True) if u - window < s <= u]
        return sum(w for w, _ in rows) / sum(n for _, n in rows), sum(n for _, n in rows)

    first, last = min(steps), max(steps)
    windows = max(2, (last - first + 1) / window)
    sigmas = NormalDist().inv_cdf(1 - 0.01 / (windows * (windows - 1) / 2))
    for t in sorted(set(steps)):
        earlier = [u for u in set(steps) if first + window - 1 <= u <= t - window]
        if t > last - window or t < first + window - 1 or not earlier:
            continue
        best = max(mean(u)[0] for u in earlier)
        size = next(mean(u)[1] for u in sorted(earlier) if mean(u)[0] == best)

        def has_fallen(u, best=best, size=size):
            here, n = mean(u)
            pooled = (best * size + here * n) / (size + n)
            error = (pooled * (1 - pooled) * (1 / size + 1 / n)) ** 0.5
            return best - here >= max(drop, sigmas * error)

        recovers = any(best - mean(u)[0] < drop for u in set(steps) if u >= t)
        if lasting and recovers:
            continue
        if all(has_fallen(u) for u in set(steps) if t <= u <= t + window):
            return t
    return None


def test_a_fall_is_found_once_its_mean_has_fallen():
    steps, won, of = course([0.6] * 40 + [0.4] * 40)
    assert regression_step(steps, won, of) == 43


@pytest.mark.parametrize(
    "rates",
    [
        [0.6] * 80,
        np.linspace(0.1, 0.9, 80),
        [0.6] * 40 + [0.57] * 40,
        [0.6] * 30 + [0.3] * 4 + [0.6] * 46,
        [0.6] * 40 + [0.2] * 10,
    ],
    ids=["flat", "rising", "small", "a dip that recovers", "too late to be sure"],
)
def test_what_is_no_regression(rates):
    assert regression_step(*course(rates)) is None


def test_a_fall_that_is_made_good_does_not_last():
    dip = course([0.6] * 40 + [0.4] * 40 + [0.7] * 40)
    assert regression_step(*dip) == 43
    assert regression_step(*dip, lasting=True) is None
    twice = course([0.6] * 40 + [0.4] * 40 + [0.7] * 120 + [0.4] * 60)
    assert regression_step(*twice, lasting=True) > 200
    fallen = course([0.6] * 40 + [0.4] * 80)
    assert regression_step(*fallen, lasting=True) == 43


def test_few_episodes_do_not_make_a_fall():
    rates = [0.55] * 40 + [0.45] * 40
    assert regression_step(*course(rates, episodes=20)) is None
    assert regression_step(*course(rates, episodes=1000)) is not None


@pytest.mark.parametrize(("rate", "episodes"), [(0.6, 64), (0.6, 240), (0.93, 64)])
def test_success_that_stands_still_does_not_fall(rate, episodes):
    steps = np.arange(0, 1000, 5)
    of = np.full(len(steps), episodes)
    rng = np.random.default_rng(0)
    draws = [rng.binomial(episodes, rate, len(steps)) for _ in range(40)]
    found = [regression_step(steps, won, of) for won in draws]
    assert found == [None] * 40


def test_a_fall_is_seen_through_the_noise_of_few_episodes():
    steps = np.arange(0, 1000, 5)
    of = np.full(len(steps), 64)
    rate = np.where(steps < 500, 0.6, 0.35)
    rng = np.random.default_rng(1)
    found = [regression_step(steps, rng.binomial(64, rate), of) for _ in range(20)]
    assert all(step is not None and 500 <= step <= 540 for step in found)


@given(
    st.lists(st.integers(0, 40), min_size=10, max_size=50),
    st.integers(1, 6),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_agrees_with_every_comparison_written_out(won, window, lasting, random):
    steps = sorted(random.sample(range(3 * len(won)), len(won)))
    of = [40] * len(won)
    found = regression_step(steps, won, of, window=window, lasting=lasting)
    assert found == by_hand(steps, won, of, window=window, lasting=lasting)
    order = random.sample(range(len(won)), len(won))
    mixed = [[values[k] for k in order] for values in (steps, won, of)]
    assert regression_step(*mixed, window=window, lasting=lasting) == found


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([], [], []), "no values"),
        (([0.5], [1], [2]), "whole"),
        (([1], [3], [2]), "between"),
        (([1, 2], [1], [2]), "steps"),
    ],
)
def test_refuses_what_is_no_course(arguments, words):
    with pytest.raises(EstimatorInputError, match=words):
        regression_step(*arguments)
