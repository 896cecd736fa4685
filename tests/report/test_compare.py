import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mmhealth import Recorder, estimators
from mmhealth.health import Monitor
from mmhealth.report import (
    Comparison,
    audit_runs,
    compare_runs,
    comparison_as_dict,
    dump_json,
    print_comparison,
)

DOC = Path(__file__).parents[2] / "docs" / "compare.md"


def compared(*paths: Path, last: int = 10) -> Comparison:
    return compare_runs(audit_runs([Monitor(path) for path in paths]), last)


def evaluated(path: Path, batch: Any, successes: dict[int, int], **more: Any) -> Path:
    """A run of 12 steps; at each step given, so many of 200 episodes succeed."""
    with Recorder(path, strict=True, **more) as recorder:
        for step in range(12):
            recorder.log_step(step, batch(step))
            if step in successes:
                recorder.log_evaluation(
                    step, episodes=200, successes=successes[step], eval_horizon=8
                )
    return path


def printed(comparison: Comparison) -> str:
    out = io.StringIO()
    print_comparison(comparison, Console(file=out, width=80))
    return out.getvalue()


def test_metrics_are_means_over_the_last_steps_that_both_have(
    healthy_run: Path, collapsing_run: Path
) -> None:
    comparison = compared(healthy_run, collapsing_run, last=4)
    assert comparison.steps == (8, 9, 10, 11), "the second run goes on to step 13"
    ess = next(metric for metric in comparison.metrics if metric.name == "ess_signal")
    frames = [Monitor(path) for path in (healthy_run, collapsing_run)]
    means = []
    for monitor in frames:
        monitor.poll()
        values = monitor.timeline.frame
        means.append(
            sum(v for s, v in values.select("step", "ess_signal").rows() if 8 <= s < 12) / 4
        )
    assert (ess.first, ess.second) == (pytest.approx(means[0]), pytest.approx(means[1]))
    assert ess.difference == pytest.approx(means[1] - means[0])
    assert (ess.steps, ess.reason) == (4, None)


def test_what_one_run_does_not_know_has_a_reason_and_no_number(
    tmp_path: Path, healthy_run: Path, batch: Any
) -> None:
    with Recorder(tmp_path / "run", strict=True) as recorder:
        for step in range(12):
            columns = batch(step)
            del columns["grad_norm"]
            if step % 3:
                del columns["entropy"]
            recorder.log_step(step, columns)
    metrics = {m.name: m for m in compared(healthy_run, tmp_path / "run").metrics}
    gini = metrics["gini_grad_norm"]
    assert (gini.first, gini.second, gini.difference) == (None, None, None)
    assert gini.reason == "second run: grad_norm is not logged"
    assert metrics["entropy"].first is None, "known at less than half of the steps"
    assert metrics["retreat_share"].reason == (
        "no constraint is logged: violated or constraint_margin"
    ), "said once where it holds for both"


def test_runs_without_a_common_step_are_not_compared(
    tmp_path: Path, healthy_run: Path, batch: Any
) -> None:
    with Recorder(tmp_path / "late", strict=True) as recorder:
        for step in range(50, 55):
            recorder.log_step(step, batch(step))
    comparison = compared(healthy_run, tmp_path / "late")
    assert comparison.steps == ()
    assert {metric.reason for metric in comparison.metrics} == {"the runs have no step in common"}


def test_rules_say_when_they_were_first_breached_and_fired(
    tmp_path: Path, record: Any, collapsing_run: Path
) -> None:
    blip = record(tmp_path / "blip", [1.0] * 4 + [0.1] + [1.0] * 9)
    rules = {pair.rule.name: pair for pair in compared(blip, collapsing_run).rules}
    collapse = rules["ess_collapse"]
    assert (collapse.first.first_crossing, collapse.first.first_alert) == (4, None)
    assert (collapse.first.alerts, collapse.first.state) == (0, "inactive")
    assert (collapse.second.first_crossing, collapse.second.first_alert) == (6, 10)
    assert (collapse.second.alerts, collapse.second.state) == (1, "firing")
    assert rules["ess_weight"].second.first_crossing is None


def test_a_crossing_that_a_restart_hides_does_not_count(
    tmp_path: Path, record: Any, batch: Any, healthy_run: Path
) -> None:
    path = record(tmp_path / "run", [1.0] * 4 + [0.1] * 6)
    with Recorder(path, start_step=4, strict=True) as recorder:
        for step in range(4, 10):
            recorder.log_step(step, batch(step))
    rules = {pair.rule.name: pair for pair in compared(path, healthy_run).rules}
    assert rules["ess_collapse"].first.first_crossing is None


@pytest.mark.parametrize(
    ("second", "higher"), [(150, "second"), (100, "not told apart"), (50, "first")]
)
def test_held_out_success_has_an_interval_of_the_difference(
    tmp_path: Path, batch: Any, second: int, higher: str
) -> None:
    a = evaluated(tmp_path / "a", batch, {3: 10, 7: 100, 11: 190})
    b = evaluated(tmp_path / "b", batch, {3: 20, 7: second, 9: 180})
    comparison = compared(a, b)
    (pair,) = comparison.held_out
    assert pair.step == 7, "the last that both have"
    assert pair.difference == pytest.approx((second - 100) / 200)
    assert pair.interval() == estimators.newcombe_interval(second, 200, 100, 200)
    assert pair.higher == higher


def test_each_horizon_is_compared_at_its_own_last_common_step(tmp_path: Path, batch: Any) -> None:
    def run(name: str, at_19: int, horizon: int | None) -> Path:
        with Recorder(tmp_path / name, strict=True) as recorder:
            for step in range(20):
                recorder.log_step(step, batch(step))
                if step < 3:
                    recorder.log_evaluation(step, episodes=200, successes=20, eval_horizon=8)
            recorder.log_evaluation(19, episodes=200, successes=at_19, eval_horizon=64)
            recorder.log_evaluation(9, episodes=200, successes=at_19, eval_horizon=horizon)
        return tmp_path / name

    comparison = compared(run("a", 180, None), run("b", 20, None))
    told = [(pair.eval_horizon, pair.step, pair.higher) for pair in comparison.held_out]
    assert told == [(8, 2, "not told apart"), (64, 19, "first"), (None, 9, "first")]
    text = " ".join(printed(comparison).split())
    assert "at step 2, horizon 8; B - A +0.000" in text
    assert "at step 19, horizon 64; B - A -0.800" in text
    elsewhere = compared(tmp_path / "a", run("c", 20, 16)).held_out
    assert [pair.eval_horizon for pair in elsewhere] == [8, 64]


def test_without_a_common_evaluation_there_is_a_reason(
    tmp_path: Path, batch: Any, healthy_run: Path
) -> None:
    a = evaluated(tmp_path / "a", batch, {3: 10})
    b = evaluated(tmp_path / "b", batch, {4: 10})
    apart = compared(a, b)
    assert apart.held_out_reason == "the runs were never evaluated at the same step and horizon"
    assert apart.held_out == ()
    none = compared(a, healthy_run)
    assert none.held_out_reason == "no held-out evaluation is logged in healthy"


def test_settings_that_differ_are_named_flat(tmp_path: Path, batch: Any) -> None:
    first = {"seed": 1, "loop": {"lr": 0.1, "updates": 2}, "fix": None, "tags": ["a"]}
    second = {"seed": 1, "loop": {"lr": 0.2, "updates": 2}, "fix": {"kl": 0.1}, "tags": ["a"]}
    a = evaluated(tmp_path / "a", batch, {}, config=first, nominal_batch=64)
    b = evaluated(tmp_path / "b", batch, {}, config=second, loss_ratio="token")
    differ = {pair.key: (pair.first, pair.second) for pair in compared(a, b).config}
    assert differ == {
        "loss_ratio": ("sequence", "token"),
        "nominal_batch": (64, "not set"),
        "loop.lr": (0.1, 0.2),
        "fix.kl": ("not set", 0.1),
    }


def test_a_comparison_needs_two_runs(healthy_run: Path) -> None:
    with pytest.raises(ValueError, match="two runs can be compared, not 1"):
        compared(healthy_run)


def test_it_is_printed_side_by_side_in_80_columns(
    tmp_path: Path, batch: Any, collapsing_run: Path
) -> None:
    a = evaluated(tmp_path / "[red]a", batch, {5: 100}, config={"lr": 0.1})
    text = printed(compared(a, collapsing_run))
    assert max(map(len, text.splitlines())) <= 80
    assert "A  HEALTHY  [red]a" in text
    assert "B  CRITICAL  collapsing" in text
    assert "means of the last 10 steps (2 to 11) that both have" in text
    assert re.search(r"ess_collapse +6 +10 +inactive +firing", text)
    assert "no held-out evaluation is logged in collapsing" in text
    assert re.search(r"lr +0\.1 +not set", text)


def test_the_held_out_sentence_says_who_is_higher(tmp_path: Path, batch: Any) -> None:
    a = evaluated(tmp_path / "a", batch, {7: 100})
    b = evaluated(tmp_path / "b", batch, {7: 150})
    text = " ".join(printed(compared(a, b)).split())
    assert "A 0.500 [0.431 0.569], B 0.750 [0.686 0.805] at step 7, horizon 8" in text
    assert "B - A +0.250 [+0.156 +0.338]: B is higher" in text


def test_lost_data_are_named(tmp_path: Path, record: Any, healthy_run: Path) -> None:
    path = record(tmp_path / "run", [1.0] * 6)
    segment = next((path / "updates").glob("*.parquet"))
    segment.write_bytes(b"")
    assert segment.name in printed(compared(path, healthy_run))


def keys(content: Any) -> set[str]:
    """All keys but the names of metrics."""
    if isinstance(content, list):
        return set().union(*(keys(item) for item in content))
    if not isinstance(content, dict):
        return set()
    found = set().union(*(keys(value) for value in content.values()))
    return found if "ess_signal" in content else found | set(content)


def test_every_key_of_the_json_is_documented(
    tmp_path: Path, batch: Any, collapsing_run: Path
) -> None:
    a = evaluated(tmp_path / "a", batch, {7: 100}, config={"lr": float("nan"), "mu": 1})
    b = evaluated(tmp_path / "b", batch, {7: 150})
    content = json.loads(dump_json(comparison_as_dict(compared(a, b))), parse_constant=pytest.fail)
    assert content["held_out"][0]["difference"] == pytest.approx(0.25)
    assert content["config"][-1] == {"key": "mu", "first": 1, "second": None}
    named = set(re.findall(r"`([a-z_0-9]+)`", DOC.read_text(encoding="utf-8")))
    assert keys(content) <= named
