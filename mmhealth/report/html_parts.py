"""Pieces of the HTML report: tables and lists as text, everything escaped."""

from collections.abc import Iterable, Sequence
from html import escape

from mmhealth.health import Alert
from mmhealth.report.audit import RunAudit
from mmhealth.report.dataloss import describe_data, describe_reading
from mmhealth.report.horizons import Horizons
from mmhealth.report.metrics import MetricSummary, Point
from mmhealth.report.terminal import describe_held_out


def run_section(run: RunAudit, number: int) -> str:
    """All about one run but its figures."""
    verdict = run.verdict
    facts = [describe_reading(run.status), *describe_held_out(run.held_out)]
    parts = [
        f'<section class="run" aria-labelledby="run-{number}">',
        f'<h2 id="run-{number}"><span class="verdict {verdict.name}">{verdict.name}</span> '
        f"{escape(run.label)}</h2>",
        f'<p class="why">{escape(verdict.why)}</p>',
        _list(facts),
        _data_loss(run),
        _failure_modes(run),
        _alert_table(run.alerts),
        _metric_table(run.metrics),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def left_out(horizons: Horizons) -> str:
    """What is not in the horizon matrix."""
    return _list(f"not in the matrix: {reason}" for reason in horizons.left_out)


def _data_loss(run: RunAudit) -> str:
    sentences = describe_data(run.status)
    if not sentences:
        return ""
    title = "Loss of data" if run.status.data_lost else "Unfinished data"
    return f'<div class="loss"><h3>{title}</h3>{_list(sentences)}</div>'


def _failure_modes(run: RunAudit) -> str:
    meanings = {alert.rule: alert.meaning for alert in run.standing}
    items = []
    for mode in run.verdict.failure_modes:
        now = "now" if mode.active else "over"
        why = [meanings[rule] for rule in mode.rules if meanings.get(rule)]
        items.append(
            f"<dt>{escape(mode.name)} <small>{mode.severity}, since step {mode.first_step}, {now}; "
            f"{escape(', '.join(mode.rules))}</small></dt>"
            + "".join(f"<dd>{escape(text)}</dd>" for text in why)
            + "".join(f"<dd><b>Fix:</b> {escape(fix)}</dd>" for fix in mode.fixes)
        )
    return f"<h3>Failure modes and fixes</h3><dl>{''.join(items)}</dl>" if items else ""


def _alert_table(alerts: Sequence[Alert]) -> str:
    rows = [
        (
            f'<span class="verdict {alert.severity}">{alert.severity}</span>',
            escape(alert.state),
            escape(alert.rule),
            str(alert.step),
            "" if alert.resolved_step is None else str(alert.resolved_step),
            f"{alert.value:.3g}",
            f"{alert.worst:.3g}",
            f"{alert.threshold:.3g}",
            f"{alert.rows:,}" + (" (step incomplete)" if alert.partial else ""),
        )
        for alert in alerts
    ]
    head = ("severity", "state", "rule", "fired", "resolved", "value", "worst", "threshold", "rows")
    return _table("Alerts", head, rows) if rows else "<h3>Alerts</h3><p>No alert fired.</p>"


def _metric_table(metrics: Sequence[MetricSummary]) -> str:
    known = [metric for metric in metrics if metric.known]
    rows = [
        (
            escape(metric.name),
            *(_point(p) for p in (metric.first, metric.last, metric.minimum, metric.maximum)),
            f"{metric.known:,} of {metric.steps:,}",
            escape(metric.reason or ""),
        )
        for metric in known
    ]
    head = ("metric", "first", "last", "min", "max", "steps known", "unknown because")
    table = _table("Metrics", head, rows) if rows else ""
    never = [f"{m.name}: {m.reason or 'no step is complete'}" for m in metrics if not m.known]
    unknown = f"<h3>Not known</h3>{_list(never)}" if never else ""
    return f"<details><summary>All metrics</summary>{table}{unknown}</details>"


def _point(point: Point | None) -> str:
    return "" if point is None else f"{point.value:.4g} <small>@{point.step}</small>"


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<h3>{escape(title)}</h3><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escape(title)}"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _list(texts: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""
