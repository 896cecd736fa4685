"""A comparison on a terminal: of two runs side by side, or of one with a fleet."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from mmhealth.report.audit import RunAudit
from mmhealth.report.compare import Comparison, RuleCourse
from mmhealth.report.dataloss import describe_data, describe_reading
from mmhealth.report.fleet_comparison import FleetComparison, Place
from mmhealth.report.indent import indent
from mmhealth.report.samesteps import HeldOutPair
from mmhealth.report.terminal import STYLES


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print two runs side by side; A is the first, B the second."""
    for side, run in (("A", comparison.first), ("B", comparison.second)):
        _print(console, _head(run, side))
    _section(
        console, f"Metrics, {_mean_over(comparison.steps)} that both have", _metrics(comparison)
    )
    _section(console, "Rules", _rules(comparison))
    _section(console, "Held-out success [95 % interval]", describe_held_out(comparison))
    _section(console, "Settings that differ", _settings(comparison))


def print_fleet(comparison: FleetComparison, console: Console) -> None:
    """Print where a run lies in a fleet."""
    fleet = len(comparison.fleet)
    _print(console, _head(comparison.run))
    told = ", ".join(f"{count} {name}" for name, count in sorted(comparison.verdicts.items()))
    _print(console, [Text(f"Fleet of {fleet}: {told}", style="bold")])
    _print(console, [indent(f"left out: {reason}") for reason in comparison.left_out])
    title = f"Metrics, {_mean_over(comparison.steps)} of the run"
    _section(console, title, _fleet_metrics(comparison))
    _section(console, "Rules", _fleet_rules(comparison))
    _section(console, "Held-out success [95 % interval]", [describe_fleet_held_out(comparison)])
    rows = [
        (item.key, _value(item.value), _value(item.usual), f"{item.shared} of {fleet}")
        for item in comparison.config
    ]
    parts = (
        [_table(("setting", "run", "usual", "fleet shares it"), rows, "llll", wraps=True)]
        if rows
        else []
    )
    _section(console, "Settings that less than half of the fleet share", parts or ["none"])


def describe_held_out(comparison: Comparison) -> list[str]:
    """Held-out success of both runs and its difference, in a sentence for each horizon."""
    if not comparison.held_out:
        return [f"insufficient data: {comparison.held_out_reason}"]
    return [_difference(pair) for pair in comparison.held_out]


def _difference(pair: HeldOutPair) -> str:
    low, high = pair.interval()
    told = {"first": "A is higher", "second": "B is higher"}.get(pair.higher, "not told apart")
    return (
        f"A {pair.first}, B {pair.second} at step {pair.step}{_at(pair.eval_horizon)}; "
        f"B - A {pair.difference:+.3f} [{low:+.3f} {high:+.3f}]: {told}"
    )


def describe_fleet_held_out(comparison: FleetComparison) -> str:
    """The run's held-out success and its place in the fleet, in a sentence."""
    found = comparison.held_out
    if found is None:
        return f"insufficient data: {comparison.held_out_reason}"
    low, _, middle, _, high = found.place.quantiles()
    return (
        f"{found.share} at step {found.step}{_at(found.eval_horizon)}; fleet {low:.3f} to "
        f"{high:.3f}, median {middle:.3f}: {describe_place(found.place)}"
    )


def describe_place(place: Place) -> str:
    """Where a value lies among the fleet's, in words."""
    n = len(place.fleet)
    if place.below == n:
        return f"higher than all {n}"
    if place.above == n:
        return f"lower than all {n}"
    equal = n - place.below - place.above
    return f"above {place.below} of {n}" + (f", equal to {equal}" if equal else "")


def _head(run: RunAudit, side: str = "") -> list[RenderableType]:
    title = Text.assemble(
        (f"{side}  " if side else "", "bold"),
        (run.verdict.name.upper(), STYLES[run.verdict.name]),
        "  ",
        (run.label, "bold"),
    )
    sentences = [run.verdict.why, describe_reading(run.status)]
    losses = [f"data: {sentence}" for sentence in describe_data(run.status)]
    return [title, *(indent(sentence) for sentence in (*sentences, *losses))]


def _metrics(comparison: Comparison) -> list[RenderableType]:
    rows = []
    unknown: dict[str, list[str]] = {}
    for metric in comparison.metrics:
        if metric.first is None or metric.second is None:
            unknown.setdefault(str(metric.reason), []).append(metric.name)
            continue
        numbers = (f"{metric.first:.3g}", f"{metric.second:.3g}", f"{metric.difference:+.3g}")
        rows.append((metric.name, *numbers, _steps_behind(metric.steps, len(comparison.steps))))
    parts: list[RenderableType] = []
    if rows:
        parts.append(_table(("metric", "A", "B", "B - A", "steps"), rows))
    return parts + [f"{', '.join(names)}: {why}" for why, names in unknown.items()]


def _rules(comparison: Comparison) -> list[RenderableType]:
    rows = []
    for pair in comparison.rules:
        if pair.first.first_crossing is None and pair.second.first_crossing is None:
            continue
        first, second = _course(pair.first), _course(pair.second)
        rows.append(
            (pair.rule.name, *(cell for both in zip(first, second, strict=True) for cell in both))
        )
    if not rows:
        return ["no rule was breached in either run"]
    head = ("rule", "breach A", "B", "alert A", "B", "now A", "B")
    rest = len(comparison.rules) - len(rows)
    return [
        _table(head, rows, "lrrrrll"),
        f"first step of a breach, first alert; {rest} other rules were never breached",
    ]


def _settings(comparison: Comparison) -> list[RenderableType]:
    rows = [(pair.key, _value(pair.first), _value(pair.second)) for pair in comparison.config]
    return [_table(("setting", "A", "B"), rows, "lll", wraps=True)] if rows else ["none"]


def _fleet_metrics(comparison: FleetComparison) -> list[RenderableType]:
    rows = []
    unknown: dict[str, list[str]] = {}
    for metric in comparison.metrics:
        if metric.place is None:
            unknown.setdefault(str(metric.reason), []).append(metric.name)
            continue
        low, _, middle, _, high = (f"{value:.3g}" for value in metric.place.quantiles())
        where = describe_place(metric.place)
        rows.append((metric.name, f"{metric.place.value:.3g}", low, middle, high, where))
    parts: list[RenderableType] = []
    if rows:
        parts.append(_table(("metric", "run", "min", "median", "max", "the run"), rows, "lrrrrl"))
    return parts + [f"{', '.join(names)}: {why}" for why, names in unknown.items()]


def _fleet_rules(comparison: FleetComparison) -> list[RenderableType]:
    n = len(comparison.fleet)
    rows = []
    for item in comparison.rules:
        if not item.fired and item.course.first_crossing is None:
            continue
        middle = "" if item.median_first_alert is None else f"{item.median_first_alert:g}"
        rows.append((item.rule.name, *_course(item.course), f"{item.fired} of {n}", middle))
    if not rows:
        return ["no rule was breached in the run or fired in the fleet"]
    head = ("rule", "breach", "alert", "now", "alert in fleet", "median")
    return [_table(head, rows, "lrrlrr"), "first step of a breach, first alert"]


def _course(course: RuleCourse) -> tuple[str, str, str]:
    breach, alert = course.first_crossing, course.first_alert
    return "" if breach is None else str(breach), "" if alert is None else str(alert), course.state


def _mean_over(steps: Sequence[int]) -> str:
    if not steps:
        return "means of the last steps"
    return f"means of the last {len(steps)} steps ({steps[0]} to {steps[-1]})"


def _steps_behind(known: int, steps: int) -> str:
    return "all" if known == steps else f"{known}/{steps}"


def _at(horizon: int | None) -> str:
    return "" if horizon is None else f", horizon {horizon}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    justify: str = "lrrrr",
    *,
    wraps: bool = False,
) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for name, side in zip(head, justify, strict=True):
        align: JustifyMethod = "right" if side == "r" else "left"
        table.add_column(name, justify=align, overflow="fold", no_wrap=not wraps)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _section(console: Console, title: str, parts: Iterable[RenderableType]) -> None:
    _print(console, ["", Text(title, style="bold"), *map(indent, parts)])


def _print(console: Console, parts: Iterable[RenderableType]) -> None:
    for part in parts:
        console.print(part)
