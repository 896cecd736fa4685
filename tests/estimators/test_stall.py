import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators import last_judged_step, stall_step

FAST = settings(deadline=None, derandomize=True, max_examples=60)
ROWS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), min_size=1, max_size=40)


def slow_stall(rows, window, ahead, delta, gain=None):
    def trailing(u):
        chosen = [y for s, y in rows if u - window < s <= u]
        return sum(chosen) / len(chosen) if chosen else None

    first, last = min(s for s, _ in rows), max(s for s, _ in rows)
    for t in range(first, last + 1):
        if not any(s == t for s, _ in rows) or t - window + 1 < first or t + ahead > last:
            continue
        now, later = trailing(t), trailing(t + ahead)
        after = [trailing(u) for u, _ in rows if u > t + ahead]
        lasts = gain is None or all(mean - now < gain for mean in after)
        if later is not None and later - now < delta and lasts:
            return t
    return None


def test_plateau_closed_form():
    # +0.01 a step up to step 95, flat after: M(t + 40) - M(t) = 0.01 x (what M(t) still lacks)
    steps = np.arange(200)
    success = np.minimum(steps, 95) / 100
    # M(t) lacks k(k + 1) / 2 / 15 hundredths, k = 109 - t: less than two of them from k = 7
    assert stall_step(steps, success) == 102
    assert stall_step(steps, success, window=1) == 94
    assert stall_step(steps, success, window=1, delta=0.0) is None
    assert stall_step(steps, success, window=1, delta=1e-9) == 95


def test_steady_improvement_never_stalls():
    steps = np.arange(300)
    assert stall_step(steps, steps * 0.001) is None  # 0.04 over 40 steps
    assert stall_step(steps, steps * 0.0004) == 14  # 0.016 over 40 steps


def test_an_improvement_of_exactly_delta_is_no_stall():
    steps = np.arange(100)
    assert stall_step(steps, 0.1 + steps * (0.02 / 40)) is None
    assert stall_step(steps, np.where(steps < 50, 0.5, 0.52), window=1, ahead=60) is None


def test_collapse_is_a_stall():
    steps = np.arange(150)
    assert stall_step(steps, np.where(steps < 80, steps / 100, 0.0)) is not None


def test_a_plateau_that_is_left_later_does_not_last():
    steps = np.arange(300)
    success = np.interp(steps, [0, 50, 150, 200], [0.1, 0.4, 0.4, 0.7])
    assert 50 < stall_step(steps, success) < 70
    assert stall_step(steps, success, later_gain=0.05) > 190
    falls = np.where(steps < 250, success, 0.1)
    assert stall_step(steps, falls, later_gain=0.05) > 190, "what comes after changes nothing"


@pytest.mark.parametrize(("n", "expected"), [(54, None), (55, 14), (56, 14)])
def test_undefined_with_fewer_steps_than_window_and_ahead(n, expected):
    assert stall_step(np.arange(n), np.full(n, 0.3)) == expected


def test_steps_need_not_start_at_zero_or_be_all_evaluated():
    steps = np.arange(100, 300, 5)
    success = np.minimum((steps - 100) / 100, 0.6)
    found = stall_step(steps, success)
    assert found == slow_stall(list(zip(steps, success, strict=True)), 15, 40, 0.02)
    assert found == stall_step(steps - 100, success) + 100


def test_a_window_without_evaluation_cannot_be_judged():
    assert stall_step([0, 50, 100, 150], [0.1] * 4) is None
    assert stall_step([0, 50, 100, 150], [0.1] * 4, ahead=50) == 50


@FAST
@given(
    ROWS,
    st.integers(1, 10),
    st.integers(1, 20),
    st.sampled_from([Fraction(0), Fraction(1, 50), Fraction(1, 8), Fraction(-1, 20)]),
    st.sampled_from([None, Fraction(0), Fraction(1, 20), Fraction(1, 3)]),
    st.randoms(use_true_random=False),
)
def test_agrees_with_exact_arithmetic_in_any_order(rows, window, ahead, delta, gain, random):
    exact = [(s, Fraction(y, 20)) for s, y in rows]
    expected = slow_stall(exact, window, ahead, delta, gain)
    shuffled = random.sample(rows, len(rows))
    steps, success = [s for s, _ in shuffled], [y / 20 for _, y in shuffled]
    later = None if gain is None else float(gain)
    found = stall_step(steps, success, window, ahead, float(delta), later_gain=later)
    assert found == expected


@pytest.mark.parametrize(
    ("steps", "success", "options"),
    [
        ([], [], {}),
        ([0, 1], [0.1], {}),
        ([0.5], [0.1], {}),
        ([0], [math.nan], {}),
        ([math.inf], [0.1], {}),
        ([0], [0.1], {"window": 0}),
        ([0], [0.1], {"ahead": 0}),
        ([0], [0.1], {"delta": math.nan}),
        ([0], [0.1], {"later_gain": math.inf}),
    ],
)
def test_what_has_no_course_is_refused(steps, success, options):
    with pytest.raises(EstimatorInputError):
        stall_step(steps, success, **options)


def test_the_last_step_that_could_show_a_stall():
    assert last_judged_step(range(100)) == 59
    assert last_judged_step(range(55)) == 14
    assert last_judged_step(range(54)) is None
    assert last_judged_step(range(0, 400, 20)) == 340
    assert last_judged_step(range(0, 400, 60)) is None


@FAST
@given(st.sets(st.integers(0, 60), min_size=1), st.integers(1, 8), st.integers(1, 12))
def test_a_stall_can_be_seen_exactly_where_such_a_step_is(steps, window, ahead):
    steps = sorted(steps)
    last = last_judged_step(steps, window, ahead)
    found = stall_step(steps, [0.5] * len(steps), window, ahead)
    assert (found is None) == (last is None)
    assert found is None or found <= last
