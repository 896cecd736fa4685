import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mmhealth import Recorder
from mmhealth.health import Monitor
from mmhealth.report import audit_runs, print_audit
from mmhealth.report.sparkline import sparkline


def printed(*paths: Path, **console: Any) -> str:
    out = io.StringIO()
    print_audit(audit_runs([Monitor(path) for path in paths]), Console(file=out, **console))
    return out.getvalue()


def test_the_verdict_comes_first_then_why(collapsing_run: Path) -> None:
    lines = printed(collapsing_run, width=80).splitlines()
    assert lines[0].startswith("CRITICAL  collapsing")
    assert lines[1].strip().startswith("firing: ess_collapse (since step 10)")


def test_it_fits_80_columns_and_is_plain_where_there_is_no_terminal(
    collapsing_run: Path, healthy_run: Path
) -> None:
    text = printed(collapsing_run, healthy_run, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert "HEALTHY  healthy" in text
    assert "kl_ref" not in text, "no rule reads it"
    assert "log_ratio_p95_tool: token log-ratios are not logged" in text


def test_a_terminal_gets_colours(collapsing_run: Path) -> None:
    assert "\x1b[1;31m" in printed(collapsing_run, width=80, force_terminal=True)


def test_an_output_that_knows_ascii_only_gets_no_blocks(collapsing_run: Path) -> None:
    buffer = io.BytesIO()
    out = io.TextIOWrapper(buffer, encoding="ascii")
    print_audit(audit_runs([Monitor(collapsing_run)]), Console(file=out, width=80))
    out.flush()
    assert b"ess_signal" in buffer.getvalue()


def test_names_cannot_be_markup(tmp_path: Path, record: Any) -> None:
    assert "[red]run" in printed(record(tmp_path / "[red]run", [1.0] * 3), width=80)


def test_loss_of_data_and_horizons_are_shown(tmp_path: Path, batch: Any) -> None:
    with Recorder(tmp_path / "run") as recorder:
        recorder.log_step(0, batch(0) | {"broken": [1, 2, 3]})
        recorder.log_evaluation(0, episodes=10, successes=5, eval_horizon=4, train_horizons=[4, 8])
    text = re.sub(r"\s+", " ", printed(tmp_path / "run", width=80))
    assert "Loss of data - rank 0, attempt 0: column once" in text
    assert "4, 8 0.50 [0.24 0.76]" in text
    assert "50.0% at step 0" in text


def test_runs_that_share_a_regime_have_a_row_each(tmp_path: Path, batch: Any) -> None:
    for name, regime in (("a", [4]), ("b", [4]), ("c", [8])):
        with Recorder(tmp_path / name) as recorder:
            recorder.log_step(0, batch(0))
            recorder.log_evaluation(
                0, episodes=10, successes=5, eval_horizon=4, train_horizons=regime
            )
    text = printed(tmp_path / "a", tmp_path / "b", tmp_path / "c", width=80)
    rows = [" ".join(line.split()) for line in text.splitlines() if "[0.24 0.76]" in line]
    assert rows == ["4 (a) 0.50 [0.24 0.76]", "4 (b) 0.50 [0.24 0.76]", "8 0.50 [0.24 0.76]"]


def test_a_forecast_is_shown_where_there_is_one(tmp_path: Path, healthy_run: Path) -> None:
    with Recorder(tmp_path / "run", strict=True) as recorder:
        for step in range(45):
            recorder.log_step(step, {"entropy": [1.0 - 0.018 * step + 0.01 * (step % 2)]})
    text = re.sub(r"\s+", " ", printed(tmp_path / "run", width=80))
    assert "Forecast, if the trend goes on warning entropy_collapse: entropy falls by 0.018" in text
    assert "Forecast" not in printed(healthy_run, width=80)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([], ""),
        ([None, None], ""),
        ([1.0, 1.0], "▁▁"),
        ([0.0, None, 7.0], "▁·█"),
        ([0.0] * 15 + [9.0] + [0.0] * 16, "▁▁▁█▁▁▁▁"),
    ],
)
def test_sparkline_keeps_spikes_and_gaps(values: list[float | None], line: str) -> None:
    assert sparkline(values, 8) == line
