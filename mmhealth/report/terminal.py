"""The audit on a terminal: the verdict first, then why, then the evidence."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mmhealth.health import Alert
from mmhealth.health.alerts import SEVERITIES
from mmhealth.health.heldout import matrix_rows
from mmhealth.report.audit import Audit, RunAudit
from mmhealth.report.dataloss import describe_data, describe_reading
from mmhealth.report.diagnosis_section import describe_outcome, name_finding
from mmhealth.report.heldout import HeldOut
from mmhealth.report.horizons import Horizons
from mmhealth.report.indent import indent
from mmhealth.report.intervals import describe_intervals
from mmhealth.report.metrics import MetricSummary, judged_metrics
from mmhealth.report.sparkline import sparkline
from mmhealth.report.summary import summarise

STYLES = {
    "healthy": "bold green",
    "warning": "bold yellow",
    "critical": "bold red",
    "insufficient": "bold magenta",
    "info": "blue",
}


def print_audit(audit: Audit, console: Console) -> None:
    """Print an audit; plain text where the console is not a terminal."""
    for number, run in enumerate(audit.runs):
        if number:
            console.print()
        console.print(_RunReport(run))
    if audit.horizons.matrices or audit.horizons.left_out:
        console.print()
        console.print(Group(*_horizon_parts(audit.horizons)))


class _RunReport:
    """One run; knows at print time whether the console can show block characters."""

    def __init__(self, run: RunAudit) -> None:
        self.run = run

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        run = self.run
        yield Text.assemble(
            (run.verdict.name.upper(), STYLES[run.verdict.name]), "  ", (run.label, "bold")
        )
        yield indent(Text(run.verdict.why))
        yield indent(Text(describe_reading(run.status), style="dim"))
        yield _heading("In three sentences")
        for label, sentence in summarise(run).labelled:
            yield indent(Text.assemble((f"{label}: ", "bold"), sentence))
        yield from _alerts(run.standing)
        yield from _forecasts(run)
        if intervals := describe_intervals(run):
            yield _heading("Intervals demanded")
            yield from (indent(Text(sentence)) for sentence in intervals)
        yield _heading("Diagnosis")
        yield indent(Text("\n".join(_diagnosis(run))))
        yield from _failure_modes(run)
        yield _heading("Held-out success")
        yield indent(Text("\n".join(describe_held_out(run.held_out))))
        yield from _metrics(run, blocks=not options.ascii_only)
        if sentences := describe_data(run.status):
            style = "bold red" if run.status.data_lost else "bold"
            yield _heading("Loss of data" if run.status.data_lost else "Unfinished data", style)
            yield from (indent(Text(f"- {sentence}")) for sentence in sentences)


def describe_held_out(held_out: HeldOut) -> list[str]:
    """Held-out success, the stall and its lag, in sentences."""
    if not held_out.course:
        return [str(held_out.stall_reason)]
    first, last = held_out.course[0], held_out.course[-1]
    at = "" if held_out.eval_horizon is None else f" at horizon {held_out.eval_horizon}"
    sentences = [
        f"held-out success {first.value:.1%} at step {first.step}, "
        f"{last.value:.1%} at step {last.step}{at}"
    ]
    if held_out.stall_step is None:
        return [*sentences, f"no stall: {held_out.stall_reason}"]
    sentences.append(f"stalled at step {held_out.stall_step}")
    for name, step, lag in (
        ("ESS", held_out.first_ess_step, held_out.ess_lag),
        ("critical", held_out.first_critical_step, held_out.critical_lag),
    ):
        if lag is None:
            sentences.append(f"no {name} alert fired")
        else:
            side = "before" if lag >= 0 else "after"
            sentences.append(
                f"first {name} alert {abs(lag)} steps {side} the stall, at step {step}"
            )
    return sentences


def _alerts(alerts: list[Alert]) -> Iterable[RenderableType]:
    if not alerts:
        return
    yield _heading("Alerts")
    of_rule: dict[str, list[Alert]] = {}
    for alert in sorted(alerts, key=_gravest_first):
        of_rule.setdefault(alert.rule, []).append(alert)
    for shown, *others in of_rule.values():
        style = STYLES[shown.severity] if shown.state == "firing" else "dim"
        again = ""
        if others:
            steps = ", ".join(str(step) for step in sorted(alert.step for alert in others)[:6])
            more = ", ..." if len(others) > 6 else ""
            again = f" Also fired and resolved: step {steps}{more}."
        head = (f"{shown.severity} {shown.state}", style)
        yield indent(Text.assemble(head, f"  {shown.message}{again}"))


def _forecasts(run: RunAudit) -> Iterable[RenderableType]:
    if run.forecasts:
        yield _heading("Forecast, if the trend goes on")
    for forecast in run.forecasts:
        yield indent(Text.assemble((forecast.severity, "bold"), f"  {forecast.message}"))


def _gravest_first(alert: Alert) -> tuple[bool, int, int]:
    return (alert.state != "firing", -SEVERITIES.index(alert.severity), alert.step)


def _diagnosis(run: RunAudit) -> list[str]:
    """The failure modes found, one a line; mmhealth diagnose says more."""
    found = run.diagnosis
    if found.first is None:
        return [describe_outcome(found)]
    return [f"{name_finding(item)}: {item.evidence[0]}" for item in found.findings]


def _failure_modes(run: RunAudit) -> Iterable[RenderableType]:
    meanings = {alert.rule: alert.meaning for alert in run.standing}
    if run.verdict.failure_modes:
        yield _heading("Failure modes")
    for mode in run.verdict.failure_modes:
        now = "now" if mode.active else "over"
        yield indent(
            Text.assemble(
                (mode.name, STYLES.get(mode.severity, "bold") if mode.active else "bold"),
                f"  since step {mode.first_step}, {now}  ({', '.join(mode.rules)})",
            )
        )
        for rule in mode.rules:
            yield indent(Text(meanings.get(rule, "")), 4)
        yield from (indent(Text.assemble(("Fix: ", "bold"), fix), 4) for fix in mode.fixes)


def _metrics(run: RunAudit, *, blocks: bool) -> Iterable[RenderableType]:
    summaries = {metric.name: metric for metric in run.metrics}
    shown = judged_metrics(run.monitor.policy, summaries)
    known = [summaries[name] for name in shown if summaries[name].known]
    if known:
        yield _heading("Metrics")
        yield _metric_table(run, known, blocks=blocks)
    unknown = [metric for metric in run.metrics if metric.name in shown and not metric.known]
    if unknown and run.steps:
        yield _heading("Not known")
        yield from (indent(Text(f"{metric.name}: {metric.reason}")) for metric in unknown)


def _metric_table(run: RunAudit, metrics: list[MetricSummary], *, blocks: bool) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("  metric", no_wrap=True)
    for name in ("first", "last", "min", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("known", justify="right", no_wrap=True)
    if blocks:
        table.add_column("course", no_wrap=True, overflow="crop")
    frame = run.monitor.timeline.frame
    for metric in metrics:
        points = (metric.first, metric.last, metric.minimum, metric.maximum)
        cells = [f"{point.value:.3g}" if point else "" for point in points]
        known = "all" if metric.known == metric.steps else f"{metric.known}/{metric.steps}"
        row = [f"  {metric.name}", *cells, known]
        if blocks:
            row.append(sparkline(frame[metric.name].to_list(), 14))
        table.add_row(*row)
    return table


def _horizon_parts(horizons: Horizons) -> Iterable[RenderableType]:
    pooled = horizons.pooled
    yield Text("Horizon matrix", style="bold")
    if pooled.cells:
        yield indent(Text("final held-out success [95 % interval], turns", style="dim"))
        table = Table(box=None, padding=(0, 1), pad_edge=False)
        table.add_column("  trained at", no_wrap=True)
        for horizon in pooled.horizons:
            table.add_column(f"eval {horizon}", justify="right")
        for name, regime, shared in matrix_rows(horizons.matrices):
            cells = []
            for horizon in pooled.horizons:
                cell = horizons.matrices[name].cell(regime, horizon)
                low, high = cell.interval() if cell else (0.0, 0.0)
                cells.append(f"{cell.success_rate:.2f} [{low:.2f} {high:.2f}]" if cell else "-")
            run = f" ({name})" if shared else ""
            table.add_row(Text(f"  {', '.join(map(str, regime))}{run}"), *cells)
        yield table
    if (diagonality := pooled.diagonality()) is not None:
        yield indent(Text(f"diagonality {diagonality:+.3f} (0: success does not depend on it)"))
    yield from (indent(Text(f"not in the matrix: {reason}")) for reason in horizons.left_out)


def _heading(text: str, style: str = "bold") -> RenderableType:
    return Padding(Text(text, style=style), (1, 0, 0, 0), expand=False)
