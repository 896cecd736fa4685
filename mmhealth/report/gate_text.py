"""The gate's decision as plain text."""

from mmhealth.report.baseline import Reading
from mmhealth.report.gate import Gate, RunDecision

_READINGS: dict[Reading, str] = {
    "holds": "no worse than the baseline",
    "worse": "worse than the baseline",
    "insufficient": "not decided against the baseline",
}


def render_text(gate: Gate) -> str:
    """One paragraph a run, and the decision on all of them last."""
    lines = []
    for run in gate.runs:
        lines += _run_lines(run)
    given = [gate.policy.source, f"fail_on = {gate.policy.fail_on}", gate.policy.gate.describe()]
    if gate.against is not None:
        given.append(f"baseline {gate.against.path}, tolerance {gate.against.tolerance:g}")
    words = ", ".join(filter(None, given))
    lines.append(f"gate: {gate.outcome} (exit code {gate.exit_code}; {words})")
    return "".join(f"{line}\n" for line in lines)


def _run_lines(run: RunDecision) -> list[str]:
    lines = [f"{run.outcome}: {run.label}: {run.why}"]
    for alert in run.breaching:
        lines.append(f"  {alert.message}")
        lines += [f"  {text}" for text in (alert.meaning,) if text]
        lines += [f"  Fix: {text}" for text in (alert.fix,) if text]
    if run.outcome == "breach":
        lines += [f"  not decided: {doubt.message}" for doubt in run.doubts]
    lines += [f"  {_READINGS[check.reading]}: {check.why}" for check in run.checks]
    if run.audit is None:
        return lines
    for alert in run.audit.standing:
        if alert.state == "firing" and alert not in run.breaching:
            lines.append(f"  does not breach: {alert.severity}: {alert.message}")
    return lines
