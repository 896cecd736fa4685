"""One ``[rules.NAME]`` table of a policy, checked and made a rule."""

import math
import re
from dataclasses import MISSING, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from mmhealth.health.policy_checks import Locator, check_keys, expect
from mmhealth.health.rules import Rule
from mmhealth.health.step_intervals import INTERVAL_METRICS
from mmhealth.health.timeline import SCHEMA

UNIT_INTERVAL = re.compile(r"ess_|gini|.*_share|success_rate|data_gap|reward_pending")
"""Metrics that lie between 0 and 1."""
CONDITIONS = ("below", "above", "below_baseline", "falls_by", "drifts_below", "drifts_above")
"""Keys of which a rule has exactly one."""
_RISING = ("above", "drifts_above")
_FRACTIONS = ("below_baseline", "falls_by", "drifts_below")
_BOUNDS = {
    "for_steps": 1,
    "recover_steps": 1,
    "window": 1,
    "baseline_steps": 1,
    "mean_of": 1,
    "min_rows": 0,
}
_ONLY_WITH = {
    "mean_of": ("below", "above", "below_baseline"),
    "demand_interval": ("below", "above", "below_baseline"),
    "while_failing": ("below", "above", "below_baseline"),
    "false_alarms_per_1000": ("drifts_below", "drifts_above"),
    "baseline": ("below_baseline", "drifts_below", "drifts_above"),
}
"""Keys that would say nothing, or something else than meant, with any other condition."""

_HINTS = get_type_hints(Rule)
_KEYS = tuple(field.name for field in fields(Rule) if field.name != "name")
_REQUIRED = tuple(f.name for f in fields(Rule) if f.default is MISSING and f.name != "name")


def parse_rule(name: str, table: Any, at: Locator) -> Rule:
    """The rule of a table. Raises PolicyError naming the line at fault."""
    where = ("rules", name)
    if not isinstance(table, dict):
        raise at.error(("rules",), name, f"rules.{name} must be a table")
    check_keys(table, _KEYS, where, at)
    for key in _REQUIRED:
        expect(key in table, at, where, key, f"rule {name!r} lacks the key {key!r}")
    for key, value in table.items():
        _check_type(key, value, where, at)
    metric = table["metric"]
    _check_column(metric, "metric", where, at)
    given = [key for key in CONDITIONS if key in table]
    if len(given) != 1:
        why = f"rule {name!r} needs exactly one of {', '.join(CONDITIONS)}, has {given or 'none'}"
        raise at.error(where, given[1] if given else None, why)
    _check_threshold(given[0], table, where, at)
    for key, least in _BOUNDS.items():
        expect(table.get(key, least) >= least, at, where, key, f"{key} must be at least {least}")
    for key, conditions in _ONLY_WITH.items():
        why = f"{key} goes with {' or '.join(conditions)}, not with {given[0]}"
        expect(key not in table or given[0] in conditions, at, where, key, why)
    expected = table.get("false_alarms_per_1000", 1)
    why = f"false_alarms_per_1000 must lie between 0 and 1000, not {expected}"
    expect(0 < expected < 1000, at, where, "false_alarms_per_1000", why)
    level = table.get("demand_interval", 0.9)
    why = f"demand_interval is a level: between 0 and 1, not {level}"
    expect(0 < level < 1, at, where, "demand_interval", why)
    known = metric in INTERVAL_METRICS or "demand_interval" not in table
    why = f"{metric} has no interval of the population; known: {', '.join(INTERVAL_METRICS)}"
    expect(known, at, where, "demand_interval", why)
    if "while_rising" in table:
        _check_column(table["while_rising"], "while_rising", where, at)
    return Rule(name=name, **table)


def _check_type(key: str, value: Any, where: tuple[str, ...], at: Locator) -> None:
    hint = _HINTS[key]
    if get_origin(hint) is Literal:
        why = f"{key} must be one of {', '.join(get_args(hint))}, not {value!r}"
        expect(value in get_args(hint), at, where, key, why)
        return
    allowed = tuple(t for t in (get_args(hint) or (hint,)) if t is not type(None))
    fits = isinstance(value, allowed) or (float in allowed and isinstance(value, int))
    fits = fits and (isinstance(value, bool) == (bool in allowed))
    names = " or ".join("number" if t is float else _TYPE_NAMES[t] for t in allowed)
    expect(fits, at, where, key, f"{key} must be a {names}, not {value!r}")


_TYPE_NAMES = {float: "number", int: "whole number", str: "text", bool: "true or false"}


def _check_column(name: str, key: str, where: tuple[str, ...], at: Locator) -> None:
    if name not in SCHEMA:
        raise at.error(
            where, key, f"{key} {name!r} is no timeline column; known: {', '.join(SCHEMA)}"
        )


def _check_threshold(
    condition: str, table: dict[str, Any], where: tuple[str, ...], at: Locator
) -> None:
    threshold, metric, recover = table[condition], table["metric"], table.get("recover")
    if isinstance(threshold, str):
        _check_column(threshold, condition, where, at)
        for key in ("recover", "mean_of", "demand_interval"):
            expect(key not in table, at, where, key, f"{key} cannot go with a column")
        return
    if condition == "drifts_above":
        why = f"drifts_above is a multiple: above 1, not {threshold}"
        expect(1 < threshold < math.inf, at, where, condition, why)
    elif condition in _FRACTIONS:
        why = f"{condition} is a fraction: between 0 and 1, not {threshold}"
        expect(0 < threshold < 1, at, where, condition, why)
    elif UNIT_INTERVAL.match(metric):
        can_breach = 0 < threshold <= 1 if condition == "below" else 0 <= threshold < 1
        why = f"{metric} lies between 0 and 1, so {condition} = {threshold} can never tell anything"
        expect(can_breach, at, where, condition, why)
        why = f"{metric} lies between 0 and 1, so recover = {recover} can never be reached"
        expect(recover is None or 0 <= recover <= 1, at, where, "recover", why)
    for key in (condition, "recover"):
        number = table.get(key, 0)
        why = f"{key} must be a finite number, not {number}"
        expect(-math.inf < number < math.inf, at, where, key, why)
    if recover is None:
        return
    falling = condition not in _RISING
    right = recover >= threshold if falling else recover <= threshold
    side = "at or above" if falling else "at or below"
    why = f"recover = {recover} must lie {side} the threshold {threshold}"
    expect(right, at, where, "recover", why)
    expect(condition != "falls_by", at, where, "recover", "recover cannot go with falls_by")
