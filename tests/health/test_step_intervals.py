"""Intervals of a step: over the rows of the batch value, when demanded, live as afterwards."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmhealth import Recorder
from mmhealth.estimators import PopulationInterval, ess_interval, gini_interval
from mmhealth.health import Monitor, default_policy, judge_run
from mmhealth.health.metrics import StepMetrics, step_metrics
from mmhealth.health.policy import Policy, parse_policy
from mmhealth.health.step_intervals import INTERVAL_METRICS
from mmhealth.health.timeline import LivedStep
from mmhealth.runlog import open_run

LEVEL = 0.9
ALL = [(metric, LEVEL) for metric in INTERVAL_METRICS]
POLICY = """version = 1
[rules.low]
metric = "ess_contribution"
below = 0.2
recover = 0.25
for_steps = 2
demand_interval = 0.9
"""


def columns(share: float, seed: int = 0, *, groups: int = 256, size: int = 4) -> dict[str, Any]:
    """Rows of which this share holds something, all alike: the ESS of the contribution."""
    rng, rows = np.random.default_rng(seed), groups * size
    return {
        "group_id": np.repeat(np.arange(groups), size),
        "success": rng.random(rows) < 0.5,
        "advantage": rng.normal(size=rows),
        "log_weight": 0.3 * rng.normal(size=rows),
        "grad_norm": (rng.random(rows) < share).astype(np.float64),
    }


def record(path: Path, steps: Iterable[dict[str, Any]], **more: Any) -> Path:
    with Recorder(path, strict=True, **more) as recorder:
        for step, found in enumerate(steps):
            recorder.log_step(step, found)
    return path


def measured(path: Path, loss_ratio: str = "sequence") -> StepMetrics:
    [data] = open_run(path).tail().steps
    return step_metrics(data, loss_ratio, ALL)


def low(text: str = POLICY) -> Policy:
    return parse_policy(text, "test")


def judge(path: Path, policy: Policy) -> Monitor:
    monitor = Monitor(path, policy)
    monitor.poll()
    return monitor


def test_they_are_those_of_the_rows_and_groups_that_were_logged(tmp_path: Path) -> None:
    rows = columns(0.3)
    found = measured(record(tmp_path / "run", [rows])).intervals
    logs, groups = rows["log_weight"], rows["group_id"]
    signal = logs + np.log(np.abs(rows["advantage"]))
    assert found["ess_weight", LEVEL] == ess_interval(logs, groups, level=LEVEL)
    assert found["ess_signal", LEVEL] == ess_interval(signal, groups, level=LEVEL)
    assert found["ess_signal_update", LEVEL] == ess_interval(signal, groups, level=LEVEL)
    expected = gini_interval(rows["grad_norm"], groups, level=LEVEL)
    assert expected.reliable
    assert found["gini_grad_norm", LEVEL] == expected


def test_they_are_over_the_rows_that_the_batch_value_is_of(tmp_path: Path) -> None:
    """Idle, injected and non-finite rows, and solved groups; on two ranks."""
    recorders = [Recorder(tmp_path, rank=r, world_size=2, attempt=0, strict=True) for r in (0, 1)]
    for rank, recorder in enumerate(recorders):
        rows = columns(0.5, rank, groups=40) | {"trajectory_id": np.arange(160)}
        rows["group_id"] += 1000 * rank
        rows["success"] |= rows["group_id"] % 5 == 0
        rows["advantage"][30] = np.nan
        own = {name: rows.pop(name)[20:] for name in ("advantage", "log_weight", "grad_norm")}
        with recorder.step(0) as step:
            for role, part in (("used", slice(0, 150)), ("injected", slice(150, 160))):
                step.add({name: values[part] for name, values in rows.items()}, role=role)
            step.update(own | {"trajectory_id": rows["trajectory_id"][20:]})
    for recorder in recorders:
        recorder.close()
    metrics = measured(tmp_path)
    assert metrics.values["n"] == 300
    assert metrics.rows["ess_contribution"] == 300
    assert metrics.rows["ess_contribution_update"] == 280
    assert metrics.rows["ess_contribution_unsolved"] < 300
    for metric in INTERVAL_METRICS:
        found = metrics.intervals[metric, LEVEL]
        assert isinstance(found, PopulationInterval), (metric, found)
        assert found.n == metrics.rows[metric]
        assert found.low - 0.02 <= metrics.values[metric] <= found.high + 0.02


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_rows_does_not_matter(tmp_path: Path, seed: int) -> None:
    rows = columns(0.3, groups=40)
    order = np.random.default_rng(seed).permutation(160)
    shuffled = {name: values[order] for name, values in rows.items()}
    found, other = (
        measured(record(tmp_path / str(number), [given])).intervals
        for number, given in enumerate((rows, shuffled))
    )
    assert found == other


def test_none_is_computed_that_no_rule_demands(tmp_path: Path) -> None:
    record(tmp_path / "run", [columns(0.3)] * 2)
    for policy, demanded in ((default_policy(), set()), (low(), {("ess_contribution", LEVEL)})):
        monitor = judge(tmp_path / "run", policy)
        for step in monitor.timeline.lived.values():
            assert set(step.intervals) == demanded


def test_a_rule_fires_and_resolves_by_the_interval(tmp_path: Path) -> None:
    """0.19 and 0.21 are on both sides of 0.2 by their intervals; 0.26 is not above 0.25 by its."""
    shares = [0.5, 0.19, 0.19, 0.21, 0.1, 0.1, 0.1, 0.26, 0.26, 0.5]
    path = record(tmp_path / "run", [columns(share, seed) for seed, share in enumerate(shares)])
    [alert] = judge(path, low()).alerts
    assert (alert.pending_step, alert.step, alert.resolved_step) == (4, 5, 9)
    assert alert.interval is not None
    assert 0.05 < alert.interval.low < alert.value < alert.interval.high < 0.15
    [plain, *_] = judge(path, low(POLICY.replace("demand_interval = 0.9\n", ""))).alerts
    assert plain.step == 2


def test_a_batch_that_is_dead_altogether_breaches_once_it_has_groups_enough(tmp_path: Path) -> None:
    """With no group of G holding anything, at most 1 - 0.05^(1/G) of the population does."""
    for groups, fires in ((8, False), (13, False), (14, True), (32, True)):
        path = record(tmp_path / str(groups), [columns(0.0, groups=groups)] * 3)
        monitor = judge(path, low())
        assert bool(monitor.alerts) == fires
        record_of = monitor.rule_engine.intervals()["low"]
        assert record_of.last is not None
        assert record_of.last.high == pytest.approx(1 - 0.05 ** (1 / groups))


def test_two_groups_are_too_few_even_where_both_are_dead(tmp_path: Path) -> None:
    monitor = judge(record(tmp_path / "run", [columns(0.0, groups=2)] * 3), low())
    found = monitor.rule_engine.intervals()["low"]
    assert (found.given, found.missing) == (0, 3)
    assert "2 groups of rows" in found.why


def test_a_few_groups_that_hold_something_are_not_enough_for_a_jackknife(tmp_path: Path) -> None:
    rows = columns(0.0, groups=32)
    rows["grad_norm"][:4] = 1.0
    path = record(tmp_path / "run", [rows] * 3)
    [alert] = judge(path, low()).alerts
    assert alert.interval is not None
    assert (alert.interval.low, round(alert.interval.high, 3)) == (0.0, 0.14)
    assert alert.interval.reliable
    assert "without one of the groups" in alert.interval.why


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"group_id": None}, "group_id is not logged"),
        ({"group_id": np.arange(64) // 32}, "an interval needs 3"),
        ({"group_id": [None, *range(63)]}, "group_id is missing in 1 of 64 rows"),
        ({"advantage": None}, "advantage is not logged"),
    ],
)
def test_why_there_is_none(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    rows = columns(0.5, groups=16) | change
    given = {name: values for name, values in rows.items() if values is not None}
    metrics = measured(record(tmp_path / "run", [given]))
    assert why in str(metrics.intervals["ess_signal", LEVEL])
    policy = low(
        POLICY.replace("ess_contribution", "ess_signal")
        .replace("below = 0.2", "below = 0.99")
        .replace("recover = 0.25\n", "")
    )
    monitor = judge(record(tmp_path / "more", [given] * 4), policy)
    assert not monitor.alerts
    assert monitor.rule_engine.states() == {"low": "no data"}


def test_token_weights_have_none(tmp_path: Path) -> None:
    rows = columns(0.5, groups=16) | {"length": [10] * 64, "token_logsum_w": [2.0] * 64}
    rows |= {"token_logsum_w2": [2.5] * 64}
    path = record(tmp_path / "run", [rows], loss_ratio="token")
    metrics = measured(path, "token")
    assert metrics.values["ess_weight"] is not None
    assert "token ratios" in str(metrics.intervals["ess_weight", LEVEL])


def test_live_and_afterwards_are_the_same(tmp_path: Path) -> None:
    """Through outcomes that come late, and through a restart."""
    shares, policy = (
        [0.5, 0.1, 0.19, 0.1, 0.1, 0.1, 0.3, 0.1],
        low(POLICY + "excuse_solved = true\n"),
    )
    unsolved = ("ess_contribution_unsolved", LEVEL)
    with Recorder(tmp_path, strict=True) as recorder:
        monitor = Monitor(tmp_path, policy)
        for step, share in enumerate(shares):
            recorder.log_step(step, columns(share, step))
            monitor.poll()
        before = monitor.timeline.lived[LivedStep(0, 3)].intervals
        for row in range(160):
            recorder.amend(3, row, "success", True, arrived_step=7)
        recorder.log_step(8, columns(0.1))
        monitor.poll()
    after = monitor.timeline.lived[LivedStep(0, 3)].intervals
    assert after[unsolved] != before[unsolved]
    with Recorder(tmp_path, start_step=5, strict=True) as recorder:
        monitor.poll()
        for step in range(5, 9):
            recorder.log_step(step, columns(0.5 if step == 5 else 0.1, step + 20))
            monitor.poll()
    fresh = judge(tmp_path, policy)
    assert monitor.timeline.lived == fresh.timeline.lived
    assert monitor.alerts == fresh.alerts
    assert [alert.step for alert in monitor.alerts if alert.state == "firing"] == [7]
    assert monitor.rule_engine.intervals() == fresh.rule_engine.intervals()
    rule = policy.rule("low")
    assert monitor.rule_engine.doubts(rule) == fresh.rule_engine.doubts(rule)


def test_a_basis_that_is_lost_takes_its_intervals_along(tmp_path: Path) -> None:
    bare = {name: v for name, v in columns(0.5).items() if name != "log_weight"}
    path = record(tmp_path / "run", [columns(0.5), bare])
    monitor = judge(path, low(POLICY.replace("ess_contribution", "ess_signal")))
    last = monitor.timeline.visible()[-1][1]
    assert last.values["ess_signal"] is None
    assert "another basis" in str(last.intervals["ess_signal", LEVEL])


def test_the_verdict_names_rules_that_are_not_decided(tmp_path: Path) -> None:
    path = record(tmp_path / "run", [columns(0.2, seed) for seed in range(4)])
    monitor = judge(path, low())
    assert [doubt.rule for doubt in monitor.rule_engine.undecided()] == ["low"]
    verdict = judge_run(monitor)
    assert verdict.name == "healthy"
    assert verdict.why.endswith("not decided by their intervals: low")
    bare = {k: v for k, v in columns(0.2).items() if k != "group_id"}
    lacking = judge_run(judge(record(tmp_path / "bare", [bare] * 3), low()))
    assert lacking.name == "insufficient"
    assert "no interval: group_id is not logged" in lacking.why
