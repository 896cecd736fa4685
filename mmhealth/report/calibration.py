"""A calibration in the terminal: the runs, then one line a rule."""

from rich.console import Console
from rich.table import Table

from mmhealth.health.calibration import Calibration, Choice, Score
from mmhealth.health.rule_table import CONDITIONS


def print_calibration(calibration: Calibration, console: Console) -> None:
    """Print what the runs were, what each rule is worth, and what was moved."""
    courses = calibration.courses
    for kind in ("none", "stall", "regression", "unknown"):
        own = [course for course in courses if course.harm.kind == kind]
        if own:
            steps = sum(len(c.healthy_steps if kind == "none" else c.steps) for c in own)
            name = "healthy" if kind == "none" else kind
            console.print(f"{len(own)} runs {name}, {steps:,} steps", markup=False)
    table = Table(title="before a threshold arrow what it was", title_justify="left")
    for name in ("rule", "threshold", "sees", "lead", "false/1,000", "at most", "why"):
        table.add_column(name, overflow="fold")
    for choice in calibration.choices:
        table.add_row(choice.rule.name, _thresholds(choice), *_cells(choice.score), choice.why)
    if calibration.pack is not None:
        table.add_row("all critical", "", *_cells(calibration.pack), "", end_section=True)
    console.print(table)


def _cells(score: Score) -> tuple[str, str, str, str]:
    rate, upper = score.false_per_1000, score.false_per_1000_upper
    return (
        f"{score.detected} of {score.sick}" if score.sick else "no data",
        f"{score.lead:g}" if score.lead is not None else "",
        f"{rate:.2g}" if rate is not None else "no data",
        f"{upper:.2g}" if upper is not None else "",
    )


def _thresholds(choice: Choice) -> str:
    before, after = _threshold(choice, "before"), _threshold(choice, "after")
    return after if before == after else f"{before} → {after}"


def _threshold(choice: Choice, when: str) -> str:
    rule = choice.before if when == "before" else choice.rule
    for name in CONDITIONS:
        value = getattr(rule, name)
        if value is not None:
            return f"{name} {value:g}" if isinstance(value, int | float) else f"{name} {value}"
    return ""
