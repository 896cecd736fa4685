import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhealth import Recorder
from mmhealth.fleet import WorstMetric, summarise_run, worst_metric
from mmhealth.fleet.headroom import COURSE, headroom
from mmhealth.health import Monitor, Rule
from mmhealth.health.judgement import Judgement

FAST = settings(deadline=None, derandomize=True, max_examples=60)
POSITIVE = st.floats(1e-6, 1e6)
Record = Callable[..., Path]


@pytest.fixture
def worst(tmp_path: Path, record: Record) -> Callable[[Sequence[float]], WorstMetric | None]:
    def of(mixed: Sequence[float]) -> WorstMetric | None:
        monitor = Monitor(record(tmp_path / str(len(list(tmp_path.iterdir()))), mixed))
        monitor.poll()
        return worst_metric(monitor)

    return of


def test_a_firing_critical_rule_is_worse_than_a_warning_that_is_further_beyond(worst: Any) -> None:
    found = worst([1.0] * 12 + [0.1] * 12)
    assert found.firing
    assert found.severity == "critical"
    assert found.headroom == pytest.approx(found.value / found.threshold)
    assert found.headroom < 1


def test_of_quiet_rules_the_nearest_is_the_worst_and_its_trend_is_told(worst: Any) -> None:
    found = worst([1.0 - 0.02 * step for step in range(30)])
    assert not found.firing
    assert found.headroom > 0
    assert found.trend == "worsening"
    assert worst([1.0] * 30).trend == "steady"
    assert worst([1.0] * 5).trend == "unknown"


def test_no_steps_have_no_worst_metric(worst: Any) -> None:
    assert worst([]) is None


def test_a_long_course_keeps_its_extremes_and_stays_small(tmp_path: Path, record: Record) -> None:
    mixed = [1.0] * 90
    mixed[40] = 0.25
    monitor = Monitor(record(tmp_path / "run", mixed))
    monitor.poll()
    found = worst_metric(monitor)
    assert found is not None
    values = monitor.timeline.frame[found.metric].drop_nulls()
    known = [value for value in found.course if value is not None]
    assert len(found.course) <= COURSE
    assert (min(known), max(known)) == (values.min(), values.max())


@FAST
@given(POSITIVE, POSITIVE)
def test_headroom_is_a_ratio_that_is_below_one_beyond_the_threshold(
    value: float, at: float
) -> None:
    low = headroom(
        Rule(name="low", metric="ess_signal", below=at), Judgement("breached", value, at)
    )
    high = headroom(Rule(name="high", metric="gini", above=at), Judgement("breached", value, at))
    assert low is not None
    assert high is not None
    assert low * high == pytest.approx(1.0)
    assert (low < 1) == (value < at)
    assert (high < 1) == (value > at)


@pytest.mark.parametrize(
    ("value", "threshold", "expected"),
    [(1.0, 0.0, 0.0), (0.0, 0.0, math.inf), (-1.0, 2.0, math.inf), (math.inf, 1.0, 0.0)],
)
def test_without_a_ratio_headroom_says_only_on_which_side(
    value: float, threshold: float, expected: float
) -> None:
    rule = Rule(name="high", metric="nonfinite", above=threshold)
    assert headroom(rule, Judgement("recovered", value, threshold)) == expected
    assert headroom(rule, Judgement("no data")) is None
    assert headroom(rule, Judgement("recovered", math.nan, threshold)) is None


def test_lead_is_counted_from_the_first_alert_to_the_stall(tmp_path: Path, batch: Any) -> None:
    with Recorder(tmp_path / "run", nominal_batch=64, strict=True) as recorder:
        for step in range(110):
            recorder.log_step(step, batch(step, mixed=1.0 if step < 15 else 0.1))
            rate = 0.2 + 0.6 * min(step, 40) / 40
            recorder.log_evaluation(step, episodes=1000, successes=round(1000 * rate))
    found = summarise_run(Monitor(tmp_path / "run"))
    assert found.lead is not None, found.lead_reason
    assert found.lead.alert_step == min(alert.step for alert in found.alerts)
    assert found.lead.steps == found.lead.stall_step - found.lead.alert_step > 0
    without = summarise_run(Monitor(tmp_path / "run"), now=0.0)
    assert without.state == "finished"
