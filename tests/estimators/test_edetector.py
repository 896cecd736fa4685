import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import EDetector
from mmhealth.estimators.edetector import BETS

FAST = settings(deadline=None, derandomize=True, max_examples=60)
TENTHS = st.integers(0, 10).map(lambda k: Fraction(k, 10))


def follow(detector, values):
    for value in values:
        detector = detector.after(value)
    return detector


def run_length(detector, values):
    """Values up to the first alarm; all of them where there is none."""
    for length, value in enumerate(values, 1):
        detector = detector.after(value)
        if detector.alarm:
            return length
    return len(values)


def slow_evidence(limit, bound, values):
    """For every bet, and every value at which a change could have begun, what one unit became."""
    total = Fraction(0)
    for bet in map(Fraction, BETS):
        for start in range(len(values)):
            stake = Fraction(1)
            for value in values[start:]:
                beyond = value > bound if bound > limit else value < bound
                kept = bound if beyond else value
                stake *= 1 + bet * min((limit - kept) / (bound - limit), 1)
            total += stake
    return total / len(BETS)


@FAST
@given(TENTHS, TENTHS, st.lists(TENTHS, max_size=12))
def test_it_sums_over_every_start_of_a_change(limit, bound, values):
    if limit == bound:
        return
    detector = follow(EDetector(float(limit), float(bound), 1e-6), map(float, values))
    expected = slow_evidence(limit, bound, values)
    assert detector.evidence == pytest.approx(float(expected), rel=1e-9, abs=1e-9)
    assert detector.alarm == (detector.evidence >= 1e6)


@pytest.mark.parametrize("n", [1, 7, 50])
@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 0.7])
def test_a_constant_stream_is_a_geometric_sum(n, value):
    gains = [1 + bet * (0.4 - value) / 0.6 for bet in BETS]
    expected = np.mean([sum(gain**k for k in range(1, n + 1)) for gain in gains])
    assert follow(EDetector(0.4, 1.0, 0.001), [value] * n).evidence == pytest.approx(expected)


def test_the_run_length_bound_is_reached_at_the_edge_of_the_hypothesis():
    assert run_length(EDetector(0.4, 1.0, 1 / 256), [0.4] * 999) == 256
    assert run_length(EDetector(0.4, 0.1, 1 / 256), [0.4] * 999) == 256


def test_waiting_alone_raises_no_alarm():
    detector = follow(EDetector(0.4, 1.0, 1 / 8), [0.41] * 99)
    assert detector.evidence > 8
    assert not detector.alarm
    assert detector.after(0.39).alarm


def test_a_fall_is_seen_and_a_rise_is_not():
    below, above = EDetector(0.4, 0.8, 0.001), EDetector(0.4, 0.0, 0.001)
    assert run_length(below, [0.2] * 99) == 19
    assert run_length(above, [0.2] * 2000) == 2000
    assert run_length(above, [0.6] * 99) == 19
    assert run_length(below, [0.6] * 2000) == 2000


@FAST
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_watching_a_rise_is_watching_a_fall_in_the_mirror(values):
    fall = follow(EDetector(0.25, 0.75, 0.01), values)
    rise = follow(EDetector(0.75, 0.25, 0.01), [1 - value for value in values])
    assert fall.evidence == pytest.approx(rise.evidence)


def test_values_beyond_the_bound_are_cut_and_lose_at_most_the_stake():
    assert follow(EDetector(0.4, 0.5, 0.01), [0.5]) == follow(EDetector(0.4, 0.5, 0.01), [9.0])
    lost = follow(EDetector(0.4, 0.5, 0.01), [0.0, 0.0, 9.0])
    assert lost.wealth[0] == 0.0
    assert min(lost.wealth[1:]) > 0.0


@FAST
@given(TENTHS, TENTHS, st.lists(TENTHS, max_size=20), st.floats(-1e308, 1e308))
def test_no_value_more_than_doubles_the_evidence(limit, bound, values, wild):
    if limit == bound:
        return
    before = follow(EDetector(float(limit), float(bound), 1e-6), map(float, values))
    assert before.after(wild).evidence <= 2 * (before.evidence + 1)


@FAST
@given(st.lists(st.integers(-12, 12), min_size=1, max_size=20))
def test_the_evidence_began_where_most_was_won_since(eighths):
    payoffs = [min(max(payoff / 8, -1.0), 1.0) for payoff in eighths]
    sums = [sum(payoffs[-count:]) for count in range(1, len(payoffs) + 1)]
    detector = follow(EDetector(0.0, 1.0, 1e-6), [-payoff / 8 for payoff in eighths])
    assert detector.won == max(sums)
    assert detector.since == max(n for n, won in enumerate(sums, 1) if won == max(sums))


def test_wild_values_ring_the_alarm_and_a_restart_forgets_them():
    detector = follow(EDetector(0.4, 0.5, 0.01), [-1e308] * 9)
    assert detector.alarm
    assert detector.restarted() == EDetector(0.4, 0.5, 0.01)


def dependent_streams(rng, count, length, mean, spread):
    """Conditional mean as given at every value; its spread follows what came before."""
    shocks = rng.choice([-1.0, 1.0], (count, length))
    streams = np.empty((count, length))
    streams[:, 0] = mean + spread * shocks[:, 0]
    for t in range(1, length):
        calm = np.where(streams[:, t - 1] < mean, 1.0, 0.2)
        streams[:, t] = mean + spread * calm * shocks[:, t]
    return streams


def test_false_alarms_of_dependent_values_keep_to_the_bound():
    alpha, length, count = 0.02, 100, 200
    streams = dependent_streams(np.random.default_rng(0), count, length, 0.4, 0.25)
    alarms = 0
    for stream in streams.tolist():
        detector = EDetector(0.4, 0.8, alpha)
        for value in stream:
            detector = detector.after(value)
            if detector.alarm:
                alarms += 1
                detector = detector.restarted()
    assert alarms / (count * length) <= alpha
    assert alarms > 0


def test_the_mean_run_length_of_autocorrelated_values_is_no_shorter_than_promised():
    """The mean given the past is the limit plus a slowly varying number above zero."""
    rng, alpha, count, length = np.random.default_rng(1), 0.05, 200, 200
    lift, streams = np.zeros(count), np.empty((count, length))
    for t in range(length):
        lift = 0.9 * lift + 0.1 * (rng.random(count) < 0.05)
        streams[:, t] = 0.4 + lift + rng.uniform(-0.1, 0.1, count)
    assert np.corrcoef(streams[:, 50:-1].ravel(), streams[:, 51:].ravel())[0, 1] > 0.3
    lengths = [run_length(EDetector(0.4, 0.5, alpha), stream) for stream in streams.tolist()]
    assert np.mean(lengths) > 1 / alpha
    assert min(lengths) < 1 / alpha


@pytest.mark.parametrize(
    ("limit", "bound", "alpha"),
    [
        (0.4, 0.4, 0.1),
        (math.nan, 1.0, 0.1),
        (0.4, math.inf, 0.1),
        (0.4, 1.0, 0.0),
        (0.4, 1.0, 1.0),
        (0.4, 1.0, math.nan),
    ],
)
def test_what_cannot_be_watched_is_refused(limit, bound, alpha):
    with pytest.raises(EstimatorInputError):
        EDetector(limit, bound, alpha)


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(EstimatorInputError):
        EDetector(0.4, 1.0, 0.1).after(math.nan)
