"""What a report says of a run, and in which order; HTML and Markdown are written from this."""

from mmhealth.health import Alert
from mmhealth.health.alerts import describe_interval
from mmhealth.report.audit import Audit, RunAudit
from mmhealth.report.blocks import (
    Badge,
    Block,
    Bullets,
    Code,
    Inline,
    Paragraph,
    Section,
    Strong,
    Table,
    Terms,
    Words,
    with_code,
)
from mmhealth.report.data_sections import horizon_section, metric_section, quality_section
from mmhealth.report.dataloss import describe_reading
from mmhealth.report.diagnosis_section import diagnosis_section
from mmhealth.report.evidence_sections import blame_section, what_if_section
from mmhealth.report.intervals import describe_intervals
from mmhealth.report.summary import summarise
from mmhealth.report.terminal import describe_held_out
from mmhealth.report.threshold_section import threshold_section


def summary_blocks(run: RunAudit) -> tuple[Block, ...]:
    """The three sentences of a run, and how much of it was read."""
    sentences = tuple((label, with_code(text)) for label, text in summarise(run).labelled)
    return (Terms(sentences), Paragraph(describe_reading(run.status)))


def run_sections(run: RunAudit) -> list[Section]:
    """All about one run."""
    found = (
        diagnosis_section(run),
        _alerts(run),
        _failure_modes(run),
        _forecasts(run),
        _intervals(run),
        blame_section(run),
        what_if_section(run),
        Section("Held-out success", (Bullets(tuple(describe_held_out(run.held_out))),)),
        quality_section(run),
        metric_section(run),
    )
    return [section for section in found if section is not None]


def closing_sections(audit: Audit) -> list[Section]:
    """What is said of all runs together."""
    found = (horizon_section(audit.horizons), threshold_section(audit))
    return [section for section in found if section is not None]


def _alerts(run: RunAudit) -> Section:
    if not run.alerts:
        return Section("Alerts", (Paragraph("No alert fired."),))
    head = ("severity", "state", "rule", "fired", "resolved", "value", "worst", "threshold", "rows")
    rows = tuple(_alert(alert) for alert in run.alerts)
    return Section("Alerts", (Table(head, rows, prose=("rows",)),))


def _alert(alert: Alert) -> tuple[Words, ...]:
    within = "" if alert.interval is None else f" ({describe_interval(alert.interval)})"
    return (
        Badge(alert.severity),
        alert.state,
        Code(alert.rule),
        str(alert.step),
        "" if alert.resolved_step is None else str(alert.resolved_step),
        f"{alert.value:.3g}{within}",
        f"{alert.worst:.3g}",
        f"{alert.threshold:.3g}",
        f"{alert.rows:,}" + (" (step incomplete)" if alert.partial else ""),
    )


def _failure_modes(run: RunAudit) -> Section | None:
    meanings = {alert.rule: alert.meaning for alert in run.standing}
    blocks: list[Block] = []
    for mode in run.verdict.failure_modes:
        now = "now" if mode.active else "over"
        words: list[Inline] = [Badge(mode.severity), " ", Strong(mode.name)]
        blocks.append(Paragraph((*words, f" since step {mode.first_step}, {now}")))
        why: list[Words] = [
            (Code(rule), f": {meanings[rule]}") for rule in mode.rules if meanings.get(rule)
        ]
        fixes: list[Words] = [(Strong("Fix:"), " ", *with_code(fix)) for fix in mode.fixes]
        if why or fixes:
            blocks.append(Bullets((*why, *fixes)))
    return Section("Failure modes and fixes", tuple(blocks)) if blocks else None


def _forecasts(run: RunAudit) -> Section | None:
    items = tuple((Badge(item.severity), f" {item.message}") for item in run.forecasts)
    return Section("Forecast, if the trend goes on", (Bullets(items),)) if items else None


def _intervals(run: RunAudit) -> Section | None:
    found = tuple(describe_intervals(run))
    return Section("Intervals demanded", (Bullets(found),)) if found else None
