"""A calibration in the terminal: the runs, one line a rule, and why."""

from rich.console import Console
from rich.table import Table

from mmhealth.health.calibration import Calibration, Choice, Score
from mmhealth.health.rule_table import CONDITIONS
from mmhealth.health.rules import Rule

_NAMES = {"none": "healthy", "never": "that never learned"}


def print_calibration(calibration: Calibration, console: Console) -> None:
    """Print what the runs were, what each rule is worth, and what was moved."""
    courses = calibration.courses
    for kind in ("none", "stall", "regression", "never", "borderline", "unknown"):
        own = [course for course in courses if course.harm.kind == kind]
        if own:
            steps = sum(len(c.healthy_steps if kind == "none" else c.steps) for c in own)
            name = _NAMES.get(kind, kind)
            console.print(f"{len(own)} runs {name}, {steps:,} steps", markup=False)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("rule", "threshold", "sees", "lead", "false/1,000 steps"):
        table.add_column(name, overflow="fold")
    for choice in calibration.choices:
        table.add_row(choice.rule.name, _thresholds(choice), *_cells(choice.score))
    if calibration.pack is not None:
        table.add_row("all critical", "", *_cells(calibration.pack))
    console.print(table)
    for why in dict.fromkeys(choice.why for choice in calibration.choices):
        names = ", ".join(c.rule.name for c in calibration.choices if c.why == why)
        console.print(f"{why}: {names}", markup=False, highlight=False)


def _cells(score: Score) -> tuple[str, str, str]:
    rate, upper = score.false_per_1000, score.false_per_1000_upper
    return (
        f"{score.detected} of {score.sick}" if score.sick else "no data",
        f"{score.lead:g}" if score.lead is not None else "",
        "no data" if rate is None or upper is None else f"{rate:.2g} (max {upper:.2g})",
    )


def _thresholds(choice: Choice) -> str:
    before, after = _threshold(choice.before), _threshold(choice.rule)
    return " ".join(before) if before == after else f"{' '.join(before)} → {after[1]}"


def _threshold(rule: Rule) -> tuple[str, str]:
    condition = next(name for name in CONDITIONS if getattr(rule, name) is not None)
    value = getattr(rule, condition)
    return condition, value if isinstance(value, str) else f"{value:g}"
