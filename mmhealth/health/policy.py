"""Policies: rules in TOML, checked so that every mistake names its line."""

import math
import tomllib
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from mmhealth.errors import PolicyError
from mmhealth.health.alerts import SEVERITIES, Alert, Severity
from mmhealth.health.policy_checks import Locator, check_keys, expect
from mmhealth.health.rule_table import parse_rule
from mmhealth.health.rules import Rule
from mmhealth.health.scope import EVERYTHING, GateScope
from mmhealth.health.step_intervals import Demand

POLICY_VERSION = 1


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules, and what makes a run fail the gate."""

    rules: tuple[Rule, ...]
    fail_on: Severity = "critical"
    source: str = "the default policy"
    gate: GateScope = EVERYTHING
    reference: Path | None = None
    """Run directory that rules with ``baseline = "reference"`` hold a run against."""

    def rule(self, name: str) -> Rule:
        """The rule of this name. Raises KeyError."""
        return {rule.name: rule for rule in self.rules}[name]

    @property
    def demanded(self) -> frozenset[Demand]:
        """Intervals that the rules demand of each step."""
        return frozenset(demand for rule in self.rules for demand in rule.demands)

    def can_fail(self, rule: str, severity: Severity) -> bool:
        """Whether an alert of this rule and severity fails the gate, at the steps it looks at."""
        grave = SEVERITIES.index(severity) >= SEVERITIES.index(self.fail_on)
        return grave and self.gate.covers_rule(rule)

    def fails(self, alert: Alert, last: int) -> bool:
        """Whether the alert fails the gate in a run whose last judged step is ``last``."""
        return self.can_fail(alert.rule, alert.severity) and self.gate.covers(alert, last)


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
    return parse_policy(text, str(path), Path(path).parent)


def parse_policy(text: str, source: str, folder: Path | None = None) -> Policy:
    """Check a policy's text and build it. Raises PolicyError naming source and line.

    ``folder`` is where a relative path to a reference run starts (default: where one works).
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{source}: not valid TOML: {error}") from error
    at = Locator(text, source)
    check_keys(content, ("version", "reference", "gate", "rules"), (), at)
    version = content.get("version")
    if version != POLICY_VERSION:
        raise at.error((), "version", f"version = {POLICY_VERSION} is needed, not {version!r}")
    gate = content.get("gate", {})
    expect(isinstance(gate, dict), at, (), "gate", "[gate] must be a table")
    check_keys(gate, _GATE_KEYS, ("gate",), at)
    tables = content.get("rules", {})
    expect(isinstance(tables, dict) and tables, at, (), "rules", "no [rules.NAME] table")
    rules = tuple(parse_rule(name, table, at) for name, table in tables.items())
    fail_on, scope = _parse_gate(gate, rules, at)
    reference = content.get("reference")
    is_path = reference is None or (isinstance(reference, str) and reference)
    expect(is_path, at, (), "reference", f"reference must be a run directory, not {reference!r}")
    for rule in rules if reference is None else ():
        why = "there is no reference = RUN at the top of the policy"
        expect(rule.baseline == "first", at, ("rules", rule.name), "baseline", why)
    run = None if reference is None else (folder or Path()) / reference
    return Policy(rules, fail_on, source, scope, run)


_GATE_KEYS = ("fail_on", *(field.name for field in fields(GateScope)))


def _parse_gate(
    gate: dict[str, Any], rules: tuple[Rule, ...], at: Locator
) -> tuple[Severity, GateScope]:
    where = ("gate",)
    fail_on: Severity = gate.get("fail_on", "critical")
    known = f"fail_on must be one of {', '.join(SEVERITIES)}, not {fail_on!r}"
    expect(fail_on in SEVERITIES, at, where, "fail_on", known)
    for key in ("from_step", "to_step"):
        step = gate.get(key, 0)
        whole = isinstance(step, int) and not isinstance(step, bool) and step >= 0
        expect(whole, at, where, key, f"{key} must be a step, a whole number, not {step!r}")
    why = "from_step lies behind to_step: no step is left to judge"
    expect(gate.get("from_step", 0) <= gate.get("to_step", math.inf), at, where, "from_step", why)
    for key in ("rules", "ignore"):
        if key in gate:
            _check_rule_names(key, gate[key], rules, at)
    both = "rules" in gate and "ignore" in gate
    expect(not both, at, where, "ignore", "rules and ignore exclude each other")
    lists = {key: tuple(gate[key]) for key in ("rules", "ignore") if key in gate}
    scope = GateScope(gate.get("from_step"), gate.get("to_step"), **lists)
    policy = Policy(rules, fail_on, gate=scope)
    fails = any(policy.can_fail(rule.name, rule.severity) for rule in rules)
    for key in lists:
        why = f"{key} leaves no rule of severity {fail_on} or above: the gate could never fail"
        expect(fails, at, where, key, why)
    return fail_on, scope


def _check_rule_names(key: str, names: Any, rules: tuple[Rule, ...], at: Locator) -> None:
    is_list = isinstance(names, list) and names
    expect(is_list, at, ("gate",), key, f"{key} must be a list of names of rules, not {names!r}")
    known = [rule.name for rule in rules]
    for name in names:
        why = f"{key}: {name!r} is no rule of this policy; rules: {', '.join(known)}"
        expect(name in known, at, ("gate",), key, why)
