"""The report in Markdown, and in short for a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from mmhealth.reference.experiments.claims import Verdict
from mmhealth.reference.experiments.claims.criteria import NO_DATA, describe_difference
from mmhealth.reference.experiments.tables import ArmRow

STYLES = {
    "reproduced": "bold green",
    "reproduced in part": "bold yellow",
    "not reproduced": "bold red",
    "insufficient data": "bold magenta",
}
INTRODUCTION = (
    "Held-out success of the trained policies: fresh episodes on the prompts trained on, mean over "
    "seeds (smallest to largest). Differences are paired by seed, with a 95 % Student-t interval. "
    "*Better* means that the interval lies above 0; *not worse* that it does not lie below 0 as a "
    "whole and stays above -0.1: one that reaches both is insufficient data. Criteria marked "
    "*stretch* are no part of a verdict."
)


def success_words(row: ArmRow) -> str:
    """Mean and range."""
    one = row.success
    return NO_DATA if one is None else f"{one.mean:.3f} ({one.low:.3f} to {one.high:.3f})"


def difference_words(row: ArmRow) -> str:
    """Paired difference, and to what."""
    if row.arm.against is None:
        return ""
    return f"{describe_difference(row.difference)} to {row.arm.against}"


def markdown(rows: Sequence[ArmRow], verdicts: Sequence[Verdict], seeds: Sequence[int]) -> str:
    """The report as a page."""
    lines = ["# Reproduction of the article's claims", "", f"{_seeds(seeds)}. {INTRODUCTION}"]
    lines[-1] += code_words(rows)
    for figure in dict.fromkeys([v.claim.figure for v in verdicts] + [r.arm.figure for r in rows]):
        lines += ["", f"## {figure_title(figure)}"]
        own = [row for row in rows if row.arm.figure == figure]
        if own:
            lines += ["", "| arm | what | success | difference |", "|---|---|---|---|"]
            lines += [
                f"| {row.arm.name} | {row.arm.about} | {success_words(row)} "
                f"| {difference_words(row)} |"
                for row in own
            ]
        for verdict in (v for v in verdicts if v.claim.figure == figure):
            lines += ["", f"### {verdict.claim.name}: {verdict.name}", "", verdict.claim.text, ""]
            if verdict.because:
                lines += [f"{verdict.name.capitalize()}, because: {verdict.because}.", ""]
            lines += ["| criterion | measured | bound | article | holds |", "|---|---|---|---|---|"]
            lines += [
                f"| {'*stretch:* ' if one.stretch else ''}{one.what} | {one.measured} "
                f"| {one.bound} | {one.article} | {holds_words(one.holds)} |"
                for one in verdict.criteria
            ]
    return "\n".join(lines) + "\n"


def print_short(verdicts: Sequence[Verdict], console: Console) -> None:
    """A line a claim."""
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for name in ("figure", "claim", "verdict"):
        table.add_column(name, no_wrap=True)
    table.add_column("what is wanting")
    for verdict in verdicts:
        claim, style = verdict.claim, STYLES[verdict.name]
        name = f"[{style}]{verdict.name}[/]"
        table.add_row(claim.figure, claim.name, name, verdict.because.replace("[", r"\["))
    console.print(table)


def code_words(rows: Sequence[ArmRow]) -> str:
    """A warning where runs were made by several versions of the code; else nothing."""
    versions = {one for row in rows for one in row.code}
    if len(versions) < 2:
        return ""
    return f" Runs were made by {len(versions)} versions of the code."


def figure_title(figure: str) -> str:
    """What a figure is called."""
    return f"Figure {figure}" if figure.isdigit() else figure.capitalize()


def holds_words(holds: bool | None) -> str:
    """Yes, no, or why not."""
    return NO_DATA if holds is None else "yes" if holds else "no"


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"One seed, {seeds[0]}"
    return f"{len(seeds)} seeds, {seeds[0]} to {seeds[-1]}"
