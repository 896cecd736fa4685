from pathlib import Path
from typing import Any

import pytest

from mmhealth import Recorder
from mmhealth.health import Monitor
from mmhealth.report import Audit, audit_runs


def audit(*paths: Path) -> Audit:
    return audit_runs([Monitor(path) for path in paths])


def test_a_collapsing_run_is_critical_with_its_cause_and_fix(collapsing_run: Path) -> None:
    (run,) = audit(collapsing_run).runs
    assert run.verdict.name == "critical"
    critical = [alert for alert in run.alerts if alert.severity == "critical"]
    assert {(alert.metric, alert.step) for alert in critical} == {("ess_signal", 10)}
    collapse = run.verdict.failure_modes[0]
    assert collapse.name == "estimator collapse"
    assert collapse.fixes


def test_a_metric_is_summed_up_with_steps(collapsing_run: Path) -> None:
    (run,) = audit(collapsing_run).runs
    ess = next(metric for metric in run.metrics if metric.name == "ess_signal")
    assert (ess.known, ess.steps, ess.reason) == (14, 14, None)
    assert ess.first is not None
    assert ess.minimum is not None
    assert ess.last is not None
    assert (ess.first.step, ess.minimum.step, ess.last.step) == (0, 6, 13)
    assert ess.minimum.value == pytest.approx(0.125, rel=0.05)


def test_what_is_not_logged_has_a_reason_and_no_number(healthy_run: Path) -> None:
    (run,) = audit(healthy_run).runs
    kl = next(metric for metric in run.metrics if metric.name == "kl_ref")
    assert kl.known == 0
    assert kl.first is kl.last is kl.minimum is kl.maximum is None
    assert kl.reason == "kl_ref is not logged"


def test_the_verdict_on_several_runs_is_the_gravest(
    healthy_run: Path, collapsing_run: Path
) -> None:
    result = audit(healthy_run, collapsing_run)
    assert [run.verdict.name for run in result.runs] == ["healthy", "critical"]
    assert result.verdict == "critical"


def test_runs_of_the_same_name_are_called_by_their_paths(tmp_path: Path, record: Any) -> None:
    paths = [record(tmp_path / folder / "run", [1.0]) for folder in ("a", "b")]
    assert [run.label for run in audit(*paths).runs] == [str(path) for path in paths]


def test_no_run_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one run"):
        audit_runs([])


def evaluated_run(path: Path, batch: Any, success: list[float], **evaluation: Any) -> Path:
    with Recorder(path, strict=True) as recorder:
        for step, rate in enumerate(success):
            recorder.log_step(step, batch(step, mixed=0.1 if step >= 10 else 1.0))
            recorder.log_evaluation(
                step, episodes=100, successes=round(100 * rate), eval_horizon=8, **evaluation
            )
    return path


def test_stall_and_its_lag_behind_the_first_critical_alert(tmp_path: Path, batch: Any) -> None:
    success = [min(step, 20) / 40 for step in range(80)]
    (run,) = audit(evaluated_run(tmp_path / "run", batch, success)).runs
    held_out = run.held_out
    assert held_out.eval_horizon == 8
    assert held_out.first_critical_step == 14
    assert held_out.stall_step is not None
    assert held_out.stall_step > 14
    assert held_out.critical_lag == held_out.stall_step - 14
    assert held_out.ess_lag == held_out.stall_step - 12


def test_a_stall_that_cannot_be_seen_yet_says_so(tmp_path: Path, batch: Any) -> None:
    (run,) = audit(evaluated_run(tmp_path / "run", batch, [0.5] * 20)).runs
    assert run.held_out.stall_step is None
    assert run.held_out.ess_lag is None
    assert run.held_out.stall_reason == "evaluations span 20 steps; a stall can be seen from 55 on"


def test_evaluations_of_another_policy_are_not_the_runs_course(tmp_path: Path, batch: Any) -> None:
    path = evaluated_run(tmp_path / "run", batch, [0.5] * 3, policy_id="other")
    (run,) = audit(path).runs
    assert run.held_out.course == ()


def test_horizon_matrix_has_a_row_for_each_run_and_regime(tmp_path: Path, batch: Any) -> None:
    def run(name: str, horizons: list[int], rates: dict[int, float]) -> Path:
        with Recorder(tmp_path / name, strict=True) as recorder:
            recorder.log_step(0, batch(0))
            for step in (0, 5):
                for horizon, rate in rates.items():
                    recorder.log_evaluation(
                        step,
                        episodes=50,
                        successes=round(50 * rate * (step == 5)),
                        eval_horizon=horizon,
                        train_horizons=horizons,
                    )
        return tmp_path / name

    paths = [run("a", [4], {4: 1.0, 8: 0.5}), run("b", [4], {4: 0.5}), run("c", [8, 4], {8: 0.2})]
    horizons = audit(*paths).horizons
    assert {name: matrix.regimes for name, matrix in horizons.matrices.items()} == {
        "a": ((4,),),
        "b": ((4,),),
        "c": ((4, 8),),
    }
    for name, successes in (("a", 50), ("b", 25)):
        cell = horizons.matrices[name].cell([4], 4)
        assert cell is not None
        assert (cell.episodes, cell.successes) == (50, successes)
    pooled = horizons.pooled.cell([4], 4)
    assert pooled is not None
    assert (pooled.episodes, pooled.successes) == (100, 75)
    assert horizons.pooled.cell([4, 8], 4) is None


def test_a_regime_that_is_not_logged_is_what_was_sampled_with(tmp_path: Path, batch: Any) -> None:
    with Recorder(tmp_path / "run", strict=True) as recorder:
        recorder.log_step(0, batch(0) | {"horizon": [6] * 32 + [3] * 32})
        recorder.log_evaluation(0, episodes=10, successes=4, eval_horizon=6)
        recorder.log_evaluation(0, episodes=10, successes=4, eval_horizon=6, policy_id="other")
    horizons = audit(tmp_path / "run").horizons
    assert horizons.matrices["run"].regimes == ((3, 6),)
    assert len(horizons.left_out) == 1
    assert "train_horizons is not logged" in horizons.left_out[0]


def test_loss_of_data_is_said(tmp_path: Path, record: Any) -> None:
    path = record(tmp_path / "run", [1.0] * 3)
    segment = next((path / "trajectories").glob("*.parquet"))
    segment.write_bytes(segment.read_bytes()[:-10])
    (run,) = audit(path).runs
    assert run.status.data_lost
    assert run.status.quarantined[0].file == f"trajectories/{segment.name}"
