"""Audit and gate as JSON; docs/audit-json.md describes every key. NaN never appears."""

import json
import math
from dataclasses import asdict
from typing import Any

from mmhealth._version import __version__
from mmhealth.health import Policy
from mmhealth.report.audit import Audit, RunAudit
from mmhealth.report.baseline import Against
from mmhealth.report.conditions import describe_condition, describe_exceptions, describe_recovery
from mmhealth.report.dataloss import describe_data
from mmhealth.report.diagnosis import findings_as_dict
from mmhealth.report.evidence_json import evidence_as_dict
from mmhealth.report.gate import Gate, RunDecision
from mmhealth.report.heldout import HeldOut
from mmhealth.report.horizons import Horizons
from mmhealth.report.summary import summarise
from mmhealth.runlog import RunStatus

SCHEMA = 1
"""Raised when a key is removed or changes its meaning; new keys may come at any time."""


def audit_as_dict(audit: Audit) -> dict[str, Any]:
    """An audit as plain data."""
    return _as_dict(
        {
            "schema": SCHEMA,
            "mmhealth": __version__,
            "policy": _policy(audit.policy),
            "verdict": audit.verdict,
            "runs": [_run(run) for run in audit.runs],
            "horizon_matrix": _horizons(audit.horizons),
        }
    )


def gate_as_dict(gate: Gate) -> dict[str, Any]:
    """A gate's decision as plain data."""
    return _as_dict(
        {
            "schema": SCHEMA,
            "mmhealth": __version__,
            "policy": _policy(gate.policy),
            "outcome": gate.outcome,
            "exit_code": gate.exit_code,
            "baseline": _against(gate.against),
            "runs": [_decision(run) for run in gate.runs],
        }
    )


def dump_json(content: dict[str, Any]) -> str:
    """Text of what `audit_as_dict`, `gate_as_dict` and their like gave."""
    return json.dumps(_finite(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _as_dict(content: dict[str, Any]) -> dict[str, Any]:
    return {key: _finite(value) for key, value in content.items()}


def _policy(policy: Policy) -> dict[str, Any]:
    return {"source": policy.source, "fail_on": policy.fail_on, **asdict(policy.gate)}


def _run(run: RunAudit) -> dict[str, Any]:
    steps = run.steps
    rules = {rule.name: rule for rule in run.monitor.policy.rules}
    intervals = run.monitor.rule_engine.intervals()
    judged = run.monitor.rule_engine.judged_steps()
    return {
        "label": run.label,
        "id": run.run.id,
        "name": run.run.name,
        "path": str(run.run.path),
        "loss_ratio": run.run.loss_ratio,
        "grad_norm": run.run.about.get("grad_norm") or None,
        "verdict": {
            "name": run.verdict.name,
            "why": run.verdict.why,
            "step": run.verdict.step,
        },
        "summary": asdict(summarise(run)),
        "steps": {
            "judged": len(steps),
            "first": steps[0] if steps else None,
            "last": steps[-1] if steps else None,
        },
        "attempts": [asdict(attempt) for attempt in run.status.attempts],
        "metrics": {
            metric.name: {key: value for key, value in asdict(metric).items() if key != "name"}
            for metric in run.metrics
        },
        "rules": [
            {
                "name": name,
                "state": state,
                "metric": rules[name].metric,
                "severity": rules[name].severity,
                "condition": describe_condition(rules[name]),
                "recovery": describe_recovery(rules[name]),
                "exceptions": describe_exceptions(rules[name]),
                "judged": judged[name],
                "meaning": rules[name].meaning,
                "intervals": intervals[name].as_dict() if name in intervals else None,
            }
            for name, state in run.rules.items()
        ],
        "alerts": [alert.as_dict() for alert in run.alerts],
        "forecasts": [forecast.as_dict() for forecast in run.forecasts],
        "failure_modes": [asdict(mode) for mode in run.verdict.failure_modes],
        "diagnosis": findings_as_dict(run.diagnosis),
        "evidence": [evidence_as_dict(found) for found in run.evidence],
        "held_out": _held_out(run.held_out),
        "data": _data(run.status),
    }


def _held_out(held_out: HeldOut) -> dict[str, Any]:
    course = [asdict(point) for point in held_out.course]
    return {
        "eval_horizon": held_out.eval_horizon,
        "steps": len(course),
        "first": course[0] if course else None,
        "last": course[-1] if course else None,
        "stall_step": held_out.stall_step,
        "stall_reason": held_out.stall_reason,
        "first_ess_step": held_out.first_ess_step,
        "ess_lag": held_out.ess_lag,
        "first_critical_step": held_out.first_critical_step,
        "critical_lag": held_out.critical_lag,
    }


def _data(status: RunStatus) -> dict[str, Any]:
    return {
        "lost": status.data_lost,
        "in_words": describe_data(status),
        "steps_complete": status.steps_complete,
        "last_step": status.last_step,
        "last_commit": status.last_commit,
        "rows_read": status.rows_read,
        "rows_present": status.rows_present,
        "rows_pending": status.rows_pending,
        "rows_hidden": status.rows_hidden,
        "steps_reduced": status.steps_reduced,
        "rows_reduced": status.rows_reduced,
        "reduced_in_words": status.describe_reduction(),
        "batches_missing": status.batches_missing,
        "incomplete": [asdict(step) for step in status.incomplete],
        "quarantined": [asdict(item) for item in status.quarantined],
        "losses": [asdict(loss) for loss in status.losses],
    }


def _horizons(horizons: Horizons) -> dict[str, Any]:
    pooled = horizons.pooled
    cells, worst = [], []
    for run, matrix in horizons.matrices.items():
        for cell in matrix.cells:
            low, high = cell.interval()
            rate = {"success_rate": cell.success_rate, "low": low, "high": high}
            cells.append({"run": run, **asdict(cell), **rate})
        lowest = [matrix.worst_case(regime) for regime in matrix.regimes]
        worst += [
            {"run": run, "regime": list(cell.regime), "eval_horizon": cell.eval_horizon}
            for cell in lowest
            if cell is not None
        ]
    return {
        "regimes": [list(regime) for regime in pooled.regimes],
        "horizons": list(pooled.horizons),
        "cells": cells,
        "diagonality": pooled.diagonality(),
        "worst_case": worst,
        "left_out": list(horizons.left_out),
    }


def _decision(run: RunDecision) -> dict[str, Any]:
    return {
        "label": run.label,
        "path": str(run.path),
        "outcome": run.outcome,
        "why": run.why,
        "verdict": run.audit.verdict.name if run.audit else None,
        "breaching": [alert.as_dict() for alert in run.breaching],
        "undecided": [doubt.as_dict() for doubt in run.doubts],
        "checks": [asdict(check) for check in run.checks],
    }


def _against(against: Against | None) -> dict[str, Any] | None:
    return None if against is None else {**asdict(against), "path": str(against.path)}


def _finite(content: Any) -> Any:
    """The same with None for every number that JSON cannot hold."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
