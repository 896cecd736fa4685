"""The intervals that rules demand, in words."""

from mmhealth.health.alerts import describe_interval
from mmhealth.report.audit import RunAudit


def describe_intervals(run: RunAudit) -> list[str]:
    """A sentence for each rule that demands intervals: the last one, and how often it helped."""
    found = []
    for name, record in run.monitor.rule_engine.intervals().items():
        rule = run.monitor.policy.rule(name)
        parts = [f"{name}: no interval of {rule.metric} yet"]
        if record.last is not None:
            doubt = "" if record.last.reliable else ", unreliable"
            last = f"{describe_interval(record.last)}{doubt} at step {record.last_step}"
            parts = [f"{name}: {rule.metric} has the {last}"]
        parts += [
            f"{words} at {count} of {record.given + record.missing} steps"
            for words, count in (
                ("not decided", record.undecided),
                ("no interval", record.missing),
                ("jackknife unreliable", record.unreliable),
            )
            if count
        ]
        why = f" (last: {record.why})" if record.why else ""
        found.append("; ".join(parts) + why)
    return found
