"""The gate's decision as plain text."""

from mmhealth.report.gate import Gate, RunDecision


def render_text(gate: Gate) -> str:
    """One paragraph a run, and the decision on all of them last."""
    lines = []
    for run in gate.runs:
        lines += _run_lines(run)
    lines.append(
        f"gate: {gate.outcome} (exit code {gate.exit_code}; {gate.policy.source}, "
        f"fail_on = {gate.policy.fail_on})"
    )
    return "".join(f"{line}\n" for line in lines)


def _run_lines(run: RunDecision) -> list[str]:
    lines = [f"{run.outcome}: {run.label}: {run.why}"]
    for alert in run.breaching:
        lines.append(f"  {alert.message}")
        lines += [f"  {text}" for text in (alert.meaning,) if text]
        lines += [f"  Fix: {text}" for text in (alert.fix,) if text]
    if run.audit is None:
        return lines
    for alert in run.audit.standing:
        if alert.state == "firing" and alert not in run.breaching:
            lines.append(f"  does not breach: {alert.severity}: {alert.message}")
    return lines
