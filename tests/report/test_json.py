import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from mmhealth import Recorder
from mmhealth.health import Monitor, default_policy
from mmhealth.health.diagnosis import MODES
from mmhealth.health.timeline import METRICS
from mmhealth.report import audit_as_dict, audit_runs, dump_json, gate_as_dict, gate_runs

DOC = Path(__file__).parents[2] / "docs" / "audit-json.md"


def rich_run(path: Path, batch: Any) -> Path:
    """A run that fills every list of the JSON."""
    with Recorder(path) as recorder:
        for step in range(8):
            recorder.log_step(step, batch(step, mixed=0.1), {"step": 1})
        recorder.log_evaluation(3, episodes=9, successes=2, eval_horizon=5, train_horizons=[5])
        recorder.log_evaluation(3, episodes=9, successes=2, eval_horizon=7, train_horizons=[5])
    with Recorder(path, rank=0, world_size=2, attempt=1, start_step=8) as recorder:
        recorder.log_step(8, batch(8))
    (path / "events" / "odd.parquet").write_bytes(b"no")
    return path


def audit_json(*paths: Path) -> Any:
    text = dump_json(audit_as_dict(audit_runs([Monitor(path) for path in paths])))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def keys(content: Any) -> set[str]:
    """All keys but the names of metrics and of failure modes."""
    if isinstance(content, list):
        return set().union(*(keys(item) for item in content))
    if not isinstance(content, dict):
        return set()
    found = set().union(*(keys(value) for value in content.values()))
    return found if "ess_signal" in content else (found | set(content)) - {*METRICS, *MODES}


def test_every_key_is_documented(tmp_path: Path, batch: Any) -> None:
    path = rich_run(tmp_path / "run", batch)
    content = audit_json(path)
    run = content["runs"][0]
    for filled in ("alerts", "failure_modes", "rules", "attempts"):
        assert run[filled], filled
    for filled in ("incomplete", "quarantined", "losses"):
        assert run["data"][filled], filled
    assert content["horizon_matrix"]["cells"]
    gate = gate_as_dict(gate_runs([path], default_policy()))
    assert any(found["blame"]["slices"] for found in run["evidence"])
    assert all(found["what_if"]["options"] for found in run["evidence"])
    named = set(re.findall(r"`([a-z0-9_]+)`", DOC.read_text(encoding="utf-8")))
    assert keys(content) | keys(gate) <= named


def test_the_content_says_what_the_audit_says(collapsing_run: Path) -> None:
    content = audit_json(collapsing_run)
    assert content["schema"] == 1
    assert content["verdict"] == content["runs"][0]["verdict"]["name"] == "critical"
    metric = content["runs"][0]["metrics"]["ess_signal"]
    assert metric["minimum"]["step"] == 6
    assert content["runs"][0]["alerts"][0]["message"].endswith(".")


def test_a_forecast_is_told_with_documented_keys(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run", strict=True) as recorder:
        for step in range(45):
            recorder.log_step(step, {"entropy": [1.0 - 0.018 * step + 0.01 * (step % 2)]})
    [forecast] = audit_json(tmp_path / "run")["runs"][0]["forecasts"]
    assert forecast["rule"] == "entropy_collapse"
    assert 0 <= forecast["low"] <= forecast["steps"] <= forecast["high"]
    assert forecast["message"].endswith(".")
    assert set(forecast) <= set(re.findall(r"`([a-z_]+)`", DOC.read_text(encoding="utf-8")))


def test_infinity_becomes_null(tmp_path: Path, batch: Any) -> None:
    with Recorder(tmp_path / "run", strict=True) as recorder:
        for step in range(4):
            recorder.log_step(step, batch(step), log_ratios=np.full(100, 1e30))
    metric = audit_json(tmp_path / "run")["runs"][0]["metrics"]["log_ratio_p95"]
    assert metric["known"] in (0, 4)


def test_the_same_data_give_the_same_text(collapsing_run: Path) -> None:
    assert audit_json(collapsing_run) == audit_json(collapsing_run)
