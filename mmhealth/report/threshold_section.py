"""The thresholds that were used, and why: every rule of the policy in words."""

from mmhealth.health import Rule
from mmhealth.report.audit import Audit
from mmhealth.report.blocks import Badge, Code, Folded, Inline, Paragraph, Section, Table, Words
from mmhealth.report.conditions import describe_condition, describe_exceptions, describe_recovery


def threshold_section(audit: Audit) -> Section:
    """One row a rule, and where the rules are from."""
    policy = audit.policy
    words = [f"Rules of {policy.source}", f"the gate fails at {policy.fail_on} or above"]
    if policy.reference is not None:
        words.append(f"held against the reference run {policy.reference}")
    scope = policy.gate.describe()
    about = ", ".join(filter(None, (*words, scope)))
    head = ("rule", "fires when", "resolves when", "what it means", "judged")
    rows = tuple(
        (
            (Code(rule.name), " ", Badge(rule.severity)),
            _condition(rule),
            describe_recovery(rule),
            _meaning(rule),
            _judged(audit, rule.name),
        )
        for rule in policy.rules
    )
    prose = ("fires when", "resolves when", "what it means", "judged")
    how = (
        "How rules are judged: docs/policy.md. What each is worth on runs of one's own, and where "
        "its threshold should lie there: mmhealth calibrate."
    )
    table = Folded(f"All {len(rows)} rules", (Table(head, rows, prose=prose),))
    return Section("Thresholds used, and why", (Paragraph(f"{about}. {how}"), table))


def _condition(rule: Rule) -> str:
    return "; ".join(filter(None, (describe_condition(rule), describe_exceptions(rule))))


def _meaning(rule: Rule) -> Words:
    mode: tuple[Inline, ...] = (f" ({rule.failure_mode})",) if rule.failure_mode else ()
    return (rule.meaning or "The policy does not say.", *mode)


def _judged(audit: Audit, rule: str) -> str:
    """At how many of its steps each run had data for a rule."""
    found = []
    for run in audit.runs:
        judged = run.monitor.rule_engine.judged_steps()[rule]
        name = f"{run.label}: " if len(audit.runs) > 1 else ""
        found.append(f"{name}{judged:,} of {len(run.steps):,} steps")
    return "; ".join(found)
