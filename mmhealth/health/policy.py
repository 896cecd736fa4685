"""Policies: rules in TOML, checked so that every mistake names its line."""

import re
import tomllib
from dataclasses import MISSING, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_type_hints

from mmhealth.errors import PolicyError
from mmhealth.health.alerts import SEVERITIES, Severity
from mmhealth.health.rules import Rule
from mmhealth.health.timeline import SCHEMA

POLICY_VERSION = 1
_UNIT_INTERVAL = re.compile(r"ess_|gini|.*_share|success_rate|data_gap|reward_pending")
_CONDITIONS = ("below", "above", "below_baseline", "falls_by")
_BOUNDS = {"for_steps": 1, "recover_steps": 1, "window": 1, "baseline_steps": 1, "min_rows": 0}


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules, and what makes a run fail the gate."""

    rules: tuple[Rule, ...]
    fail_on: Severity = "critical"
    source: str = "the default policy"

    def rule(self, name: str) -> Rule:
        """The rule of this name. Raises KeyError."""
        return {rule.name: rule for rule in self.rules}[name]


def default_policy_text() -> str:
    """The default policy as TOML."""
    return resources.files("mmhealth.health").joinpath("default_policy.toml").read_text("utf-8")


def default_policy() -> Policy:
    """The policy used where none is given."""
    return parse_policy(default_policy_text(), "the default policy")


def load_policy(path: Path | str | None) -> Policy:
    """Read a policy file; None gives the default. Raises PolicyError naming file and line."""
    if path is None:
        return default_policy()
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path}: cannot be read: {error}") from error
    return parse_policy(text, str(path))


def parse_policy(text: str, source: str) -> Policy:
    """Check a policy's text and build it. Raises PolicyError naming source and line."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{source}: not valid TOML: {error}") from error
    at = _Locator(text, source)
    _check_keys(content, ("version", "gate", "rules"), (), at)
    version = content.get("version")
    if version != POLICY_VERSION:
        raise at.error((), "version", f"version = {POLICY_VERSION} is needed, not {version!r}")
    gate = content.get("gate", {})
    _expect(isinstance(gate, dict), at, (), "gate", "[gate] must be a table")
    _check_keys(gate, ("fail_on",), ("gate",), at)
    fail_on = gate.get("fail_on", "critical")
    known = f"fail_on must be one of {', '.join(SEVERITIES)}, not {fail_on!r}"
    _expect(fail_on in SEVERITIES, at, ("gate",), "fail_on", known)
    tables = content.get("rules", {})
    _expect(isinstance(tables, dict) and tables, at, (), "rules", "no [rules.NAME] table")
    rules = tuple(_parse_rule(name, table, at) for name, table in tables.items())
    return Policy(rules, fail_on, source)


class _Locator:
    """Finds the line on which a key stands."""

    def __init__(self, text: str, source: str) -> None:
        self._lines = text.splitlines()
        self._source = source

    def error(self, table: tuple[str, ...], key: str | None, why: str) -> PolicyError:
        line = self._line(table, key)
        where = f"{self._source}, line {line}" if line else self._source
        return PolicyError(f"{where}: {why}")

    def _line(self, table: tuple[str, ...], key: str | None) -> int | None:
        current: tuple[str, ...] = ()
        header_line = None
        for number, line in enumerate(self._lines, 1):
            if match := re.match(r"\s*\[\[?([^\]]+)\]", line):
                current = tuple(part.strip().strip("\"'") for part in match[1].split("."))
                if current == table or (key and current == (*table, key)):
                    header_line = number
            elif (
                key and current == table and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line)
            ):
                return number
        return header_line


def _check_keys(
    table: dict[str, Any], known: tuple[str, ...], where: tuple[str, ...], at: _Locator
) -> None:
    for key in table:
        if key not in known:
            raise at.error(where, key, f"unknown key {key!r}; known: {', '.join(known)}")


def _expect(condition: Any, at: _Locator, table: tuple[str, ...], key: str, why: str) -> None:
    if not condition:
        raise at.error(table, key, why)


_HINTS = get_type_hints(Rule)
_KEYS = tuple(field.name for field in fields(Rule) if field.name != "name")
_REQUIRED = tuple(f.name for f in fields(Rule) if f.default is MISSING and f.name != "name")


def _parse_rule(name: str, table: Any, at: _Locator) -> Rule:
    where = ("rules", name)
    if not isinstance(table, dict):
        raise at.error(("rules",), name, f"rules.{name} must be a table")
    _check_keys(table, _KEYS, where, at)
    for key in _REQUIRED:
        _expect(key in table, at, where, key, f"rule {name!r} lacks the key {key!r}")
    for key, value in table.items():
        _check_type(key, value, where, at)
    metric = table["metric"]
    _check_column(metric, "metric", where, at)
    given = [key for key in _CONDITIONS if key in table]
    if len(given) != 1:
        why = f"rule {name!r} needs exactly one of {', '.join(_CONDITIONS)}, has {given or 'none'}"
        raise at.error(where, given[1] if given else None, why)
    _check_threshold(given[0], table, where, at)
    for key, least in _BOUNDS.items():
        _expect(table.get(key, least) >= least, at, where, key, f"{key} must be at least {least}")
    if "while_rising" in table:
        _check_column(table["while_rising"], "while_rising", where, at)
    return Rule(name=name, **table)


def _check_type(key: str, value: Any, where: tuple[str, ...], at: _Locator) -> None:
    if key == "severity":
        why = f"severity must be one of {', '.join(SEVERITIES)}, not {value!r}"
        _expect(value in SEVERITIES, at, where, key, why)
        return
    hint = _HINTS[key]
    allowed = tuple(t for t in (get_args(hint) or (hint,)) if t is not type(None))
    fits = isinstance(value, allowed) or (float in allowed and isinstance(value, int))
    fits = fits and (isinstance(value, bool) == (bool in allowed))
    names = " or ".join("number" if t is float else _TYPE_NAMES[t] for t in allowed)
    _expect(fits, at, where, key, f"{key} must be a {names}, not {value!r}")


_TYPE_NAMES = {float: "number", int: "whole number", str: "text", bool: "true or false"}


def _check_column(name: str, key: str, where: tuple[str, ...], at: _Locator) -> None:
    if name not in SCHEMA:
        raise at.error(
            where, key, f"{key} {name!r} is no timeline column; known: {', '.join(SCHEMA)}"
        )


def _check_threshold(
    condition: str, table: dict[str, Any], where: tuple[str, ...], at: _Locator
) -> None:
    threshold, metric = table[condition], table["metric"]
    if isinstance(threshold, str):
        _check_column(threshold, condition, where, at)
        _expect("recover" not in table, at, where, "recover", "recover cannot go with a column")
        return
    if condition in ("below_baseline", "falls_by"):
        why = f"{condition} is a fraction: between 0 and 1, not {threshold}"
        _expect(0 < threshold < 1, at, where, condition, why)
    elif _UNIT_INTERVAL.match(metric):
        can_breach = 0 < threshold <= 1 if condition == "below" else 0 <= threshold < 1
        why = f"{metric} lies between 0 and 1, so {condition} = {threshold} can never tell anything"
        _expect(can_breach, at, where, condition, why)
    recover = table.get("recover")
    if recover is None:
        return
    falling = condition != "above"
    right = recover >= threshold if falling else recover <= threshold
    side = "at or above" if falling else "at or below"
    why = f"recover = {recover} must lie {side} the threshold {threshold}"
    _expect(right, at, where, "recover", why)
    _expect(condition != "falls_by", at, where, "recover", "recover cannot go with falls_by")
