"""What was read of a run and what it amounts to: data quality, all metrics, the horizon matrix."""

from collections.abc import Sequence

from mmhealth.health.heldout import matrix_rows
from mmhealth.report.audit import RunAudit
from mmhealth.report.blocks import (
    Block,
    Bullets,
    Code,
    Folded,
    Paragraph,
    Section,
    Table,
    Words,
)
from mmhealth.report.dataloss import describe_data, describe_reading
from mmhealth.report.horizons import Horizons
from mmhealth.report.metrics import MetricSummary, Point, judged_metrics
from mmhealth.report.sparkline import sparkline


def quality_section(run: RunAudit) -> Section:
    """What is missing: files, rows and steps that are lost or unfinished, and columns."""
    lost = describe_data(run.status)
    title = "Loss of data" if run.status.data_lost else "Unfinished data"
    blocks: list[Block] = [Paragraph(describe_reading(run.status))]
    if lost:
        blocks += [Paragraph(f"{title}:"), Bullets(tuple(lost))]
    else:
        blocks.append(Paragraph("Nothing that was logged is missing."))
    if never := _never_known(run.metrics):
        blocks += [Paragraph("Metrics that were never known, and why:"), Bullets(never)]
    if partly := _partly_known(run.metrics):
        blocks += [Paragraph("Metrics that are not known at some steps:"), Bullets(partly)]
    return Section("Data quality", tuple(blocks), alarm=run.status.data_lost)


def metric_section(run: RunAudit) -> Section | None:
    """Every metric that was ever known: where it began, ended, and what its extremes were."""
    rows: list[tuple[Words, ...]] = []
    for metric in run.metrics:
        points = (metric.first, metric.last, metric.minimum, metric.maximum)
        known = f"{metric.known:,} of {metric.steps:,}"
        if metric.known:
            rows.append((Code(metric.name), *(_point(point) for point in points), known))
    head = ("metric", "first", "last", "min", "max", "steps known")
    return (
        Section("Metrics", (Folded("All metrics", (Table(head, tuple(rows)),)),)) if rows else None
    )


def course_table(run: RunAudit) -> Table:
    """Courses as lines of characters: the metrics that rules read, reward and success."""
    summaries = {metric.name: metric for metric in run.metrics}
    frame = run.monitor.timeline.frame
    rows: list[tuple[Words, ...]] = []
    for name in judged_metrics(run.monitor.policy, summaries):
        metric = summaries[name]
        if metric.known:
            course = sparkline(frame[name].to_list(), 24)
            rows.append((Code(name), course, _value(metric.first), _value(metric.last)))
    return Table(("metric", "course", "first", "last"), tuple(rows))


def horizon_section(horizons: Horizons) -> Section | None:
    """Final held-out success by training regime and evaluation horizon."""
    pooled, blocks = horizons.pooled, list[Block]()
    if pooled.cells:
        head = ("trained at", *(f"evaluated at {horizon}" for horizon in pooled.horizons))
        rows = []
        for name, regime, shared in matrix_rows(horizons.matrices):
            cells = []
            for horizon in pooled.horizons:
                cell = horizons.matrices[name].cell(regime, horizon)
                low, high = cell.interval() if cell else (0.0, 0.0)
                shown = "" if cell is None else f"{cell.success_rate:.2f} ({low:.2f} to {high:.2f})"
                cells.append(shown or "not measured")
            run = f" ({name})" if shared else ""
            rows.append((f"{', '.join(map(str, regime))}{run}", *cells))
        about = "Final held-out success with its 95 % interval; horizons in turns."
        blocks += [Paragraph(about), Table(head, tuple(rows), prose=("trained at",))]
    if (diagonality := pooled.diagonality()) is not None:
        words = f"Diagonality {diagonality:+.3f} (0: success does not depend on the horizon)."
        blocks.append(Paragraph(words))
    if horizons.left_out:
        blocks.append(Bullets(tuple(f"not in the matrix: {why}" for why in horizons.left_out)))
    return Section("Horizon matrix", tuple(blocks)) if blocks else None


def _never_known(metrics: Sequence[MetricSummary]) -> tuple[str, ...]:
    of_reason: dict[str, list[str]] = {}
    for metric in metrics:
        if not metric.known:
            of_reason.setdefault(metric.reason or "no step is complete", []).append(metric.name)
    return tuple(f"{', '.join(names)}: {why}" for why, names in of_reason.items())


def _partly_known(metrics: Sequence[MetricSummary]) -> tuple[str, ...]:
    of_reason: dict[tuple[int, int, str], list[str]] = {}
    for metric in metrics:
        if 0 < metric.known < metric.steps:
            key = (metric.known, metric.steps, metric.reason or "not known")
            of_reason.setdefault(key, []).append(metric.name)
    return tuple(
        f"{', '.join(names)}: known at {known:,} of {steps:,} steps (last: {why})"
        for (known, steps, why), names in of_reason.items()
    )


def _point(point: Point | None) -> str:
    return "" if point is None else f"{point.value:.4g} at {point.step}"


def _value(point: Point | None) -> str:
    return "" if point is None else f"{point.value:.3g}"
