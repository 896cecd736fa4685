"""A calibrated policy as TOML, the evidence for each threshold beside it."""

import json
import re
from dataclasses import MISSING, fields
from statistics import median

from mmhealth.health.calibration.scores import Score
from mmhealth.health.calibration.thresholds import Calibration, Choice
from mmhealth.health.policy import POLICY_VERSION, Policy, parse_policy
from mmhealth.health.rules import Rule
from mmhealth.health.scope import GateScope


def calibrated_toml(calibration: Calibration) -> str:
    """The policy, ready to be written to a file and read by `mmhealth.health.load_policy`.

    Texts that speak of a threshold which has moved (``meaning``) are those of the rule as it was.
    """
    courses = calibration.courses
    healthy = [course for course in courses if course.is_healthy]
    sick = [course for course in courses if course.is_sick]
    steps = sum(len(course.healthy_steps) for course in healthy)
    lines = [
        f"# Calibrated by mmhealth on {len(healthy)} healthy runs ({steps:,} steps) and",
        f"# {len(sick)} that came to harm. Target: at most "
        f"{1000 * calibration.target:g} false alarms per 1,000 healthy steps (95 % upper bound).",
        "# No rule is critical."
        if calibration.pack is None
        else f"# All critical rules together: {describe(calibration.pack)}.",
        "",
        f"version = {POLICY_VERSION}",
        "",
        *_run_wide(calibration.policy),
    ]
    for choice in calibration.choices:
        lines += ["", *_evidence(choice), f"[rules.{_key(choice.rule.name)}]", *_keys(choice.rule)]
    text = "\n".join(lines) + "\n"
    parse_policy(text, "the calibrated policy")
    return text


def describe(score: Score) -> str:
    """A score in one line."""
    parts = []
    if score.detection is not None:
        share, low, high = score.detection
        parts.append(
            f"sees {score.detected} of {score.sick} harms coming "
            f"({share:.0%}, {low:.0%} to {high:.0%})"
        )
    else:
        parts.append("no sick run has data for it")
    if score.lead is not None:
        parts.append(f"median lead {score.lead:g} steps ({score.leads[0]} to {score.leads[-1]})")
    if score.told_at:
        steps = f"step {median(score.told_at):g} ({score.told_at[0]} to {score.told_at[-1]})"
        parts.append(f"where nothing was learned at {steps}")
    if score.false_per_1000 is not None and score.false_per_1000_upper is not None:
        parts.append(
            f"{score.false_per_1000:.2g} false alarms per 1,000 steps (at most "
            f"{score.false_per_1000_upper:.2g}, over {score.healthy_steps:,})"
        )
    else:
        parts.append("no healthy run has data for it")
    return "; ".join(parts)


def _run_wide(policy: Policy) -> list[str]:
    """What a policy says beside its rules."""
    lines = []
    if policy.reference is not None:
        lines += [f"reference = {_literal(str(policy.reference.absolute()))}", ""]
    lines += ["[gate]", f"fail_on = {_literal(policy.fail_on)}"]
    for field in fields(GateScope):
        value = getattr(policy.gate, field.name)
        if value not in (None, ()):
            lines.append(f"{field.name} = {_literal(value)}")
    return lines


def _evidence(choice: Choice) -> list[str]:
    lines = [f"# {describe(choice.score)}."]
    if choice.moved:
        lines.append(f"# Moved, {choice.why}. Before: {describe(choice.score_before)}.")
    else:
        lines.append(f"# Not moved: {choice.why}.")
    return lines


def _keys(rule: Rule) -> list[str]:
    lines = []
    for field in fields(Rule):
        value = getattr(rule, field.name)
        if field.name == "name" or value is None:
            continue
        if field.default is not MISSING and value == field.default:
            continue
        lines.append(f"{field.name} = {_literal(value)}")
    return lines


def _key(name: str) -> str:
    """A name as a TOML key, quoted where it has to be."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _literal(name)


def _literal(value: object) -> str:
    """A TOML literal; TOML reads JSON's strings, numbers and booleans."""
    return json.dumps(value, ensure_ascii=False)
