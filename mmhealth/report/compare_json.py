"""A comparison as plain data; docs/compare.md describes every key."""

from dataclasses import asdict
from typing import Any

from mmhealth._version import __version__
from mmhealth.report.audit import RunAudit
from mmhealth.report.compare import NOT_SET, Comparison, MetricPair, RuleCourse, RulePair
from mmhealth.report.dataloss import describe_data
from mmhealth.report.fleet_comparison import FleetComparison, HeldOutPlace, Place
from mmhealth.report.samesteps import HeldOutPair, Share

SCHEMA = 1
"""Raised when a key is removed or changes its meaning; new keys may come at any time."""


def comparison_as_dict(comparison: Comparison) -> dict[str, Any]:
    """Two runs compared."""
    return {
        "schema": SCHEMA,
        "mmhealth": __version__,
        "policy": comparison.policy.source,
        "runs": [_run(run) for run in (comparison.first, comparison.second)],
        "steps": list(comparison.steps),
        "metrics": {metric.name: _metric(metric) for metric in comparison.metrics},
        "rules": [_rule(rule) for rule in comparison.rules],
        "held_out": [_held_out(pair) for pair in comparison.held_out],
        "held_out_reason": comparison.held_out_reason,
        "config": [
            {"key": item.key, "first": _known(item.first), "second": _known(item.second)}
            for item in comparison.config
        ],
    }


def fleet_as_dict(comparison: FleetComparison) -> dict[str, Any]:
    """One run compared with a fleet."""
    found = comparison.held_out
    return {
        "schema": SCHEMA,
        "mmhealth": __version__,
        "policy": comparison.policy.source,
        "run": _run(comparison.run),
        "fleet": [_run(run) for run in comparison.fleet],
        "left_out": list(comparison.left_out),
        "verdicts": comparison.verdicts,
        "steps": list(comparison.steps),
        "metrics": {
            metric.name: {
                "place": None if metric.place is None else _place(metric.place),
                "reason": metric.reason,
            }
            for metric in comparison.metrics
        },
        "rules": [
            {
                "name": item.rule.name,
                "metric": item.rule.metric,
                "severity": item.rule.severity,
                "run": _course(item.course),
                "fired": item.fired,
                "median_first_alert": item.median_first_alert,
            }
            for item in comparison.rules
        ],
        "held_out": None if found is None else _fleet_held_out(found),
        "held_out_reason": comparison.held_out_reason,
        "config": [
            {
                "key": item.key,
                "value": _known(item.value),
                "usual": _known(item.usual),
                "shared": item.shared,
            }
            for item in comparison.config
        ],
    }


def _run(run: RunAudit) -> dict[str, Any]:
    return {
        "label": run.label,
        "id": run.run.id,
        "path": str(run.run.path),
        "verdict": {"name": run.verdict.name, "why": run.verdict.why, "step": run.verdict.step},
        "data": {"lost": run.status.data_lost, "in_words": describe_data(run.status)},
    }


def _metric(metric: MetricPair) -> dict[str, Any]:
    return {
        "steps": metric.steps,
        "first": metric.first,
        "second": metric.second,
        "difference": metric.difference,
        "reason": metric.reason,
    }


def _rule(pair: RulePair) -> dict[str, Any]:
    return {
        "name": pair.rule.name,
        "metric": pair.rule.metric,
        "severity": pair.rule.severity,
        "first": _course(pair.first),
        "second": _course(pair.second),
    }


def _course(course: RuleCourse) -> dict[str, Any]:
    return asdict(course)


def _held_out(pair: HeldOutPair) -> dict[str, Any]:
    low, high = pair.interval()
    return {
        "step": pair.step,
        "eval_horizon": pair.eval_horizon,
        "first": _share(pair.first),
        "second": _share(pair.second),
        "difference": pair.difference,
        "low": low,
        "high": high,
        "higher": pair.higher,
    }


def _fleet_held_out(found: HeldOutPlace) -> dict[str, Any]:
    return {
        "step": found.step,
        "eval_horizon": found.eval_horizon,
        "run": _share(found.share),
        "place": _place(found.place),
    }


def _share(share: Share) -> dict[str, Any]:
    low, high = share.interval()
    counts = {"successes": share.successes, "episodes": share.episodes}
    return counts | {"success_rate": share.rate, "low": low, "high": high}


def _place(place: Place) -> dict[str, Any]:
    names = ("minimum", "quartile_1", "median", "quartile_3", "maximum")
    return {
        "value": place.value,
        "fleet": len(place.fleet),
        "below": place.below,
        "above": place.above,
        "rank": place.rank,
        **dict(zip(names, place.quantiles(), strict=True)),
    }


def _known(value: Any) -> Any:
    return None if value is NOT_SET else value
