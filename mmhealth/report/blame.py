"""What `mmhealth.health.blame` found, on a terminal and as plain data."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmhealth._version import __version__
from mmhealth.health.basis_rows import Metrics
from mmhealth.health.blame import Blame, Slice
from mmhealth.health.pairs import RULED_OUT, Pair
from mmhealth.report.indent import indent
from mmhealth.runlog import Run

SCHEMA = 1
"""Raised when a key is removed or changes its meaning; new keys may come at any time."""
SHOWN = 12
"""Slices shown where no columns were asked for."""
PAIRS_SHOWN = 5
SEEN = 0.01
"""Blame below it is none to speak of."""

_BASES = {
    "contribution": "x is the gradient norm of a trajectory's term in the loss",
    "signal": "x is |advantage| × weight",
    "weight": "x is the importance weight",
}


def blame_as_dict(found: Blame, run: Run) -> dict[str, Any]:
    """Everything found as plain data; docs/blame.md describes the keys."""
    about = {"id": run.id, "name": run.name, "path": str(run.path), "loss_ratio": run.loss_ratio}
    content = {"schema": SCHEMA, "mmhealth": __version__, "run": about} | asdict(found)
    left_out = [{"step": step, "reason": why} for step, why in sorted(found.left_out.items())]
    return content | {"left_out": left_out}


def print_blame(found: Blame, name: str, console: Console, shown: int = SHOWN) -> None:
    """Print the slices that are most to blame, and the pairs that neither column explains."""
    console.print(Text(f"{name}, {_steps(found.steps)}", style="bold"))
    for sentence in describe_blame(found):
        console.print(indent(sentence))
    if found.whole is None or not found.slices:
        return
    console.print()
    if found.slices[0].blame < SEEN:
        console.print(indent("No slice is to blame: none holds more than chance gives some slice."))
    console.print(indent(_table(found.slices[:shown])))
    if any(RULED_OUT < item.chance < 1 for item in found.slices[:shown]):
        console.print(indent(Text("? may be chance, and counts in part", style="dim")))
    if (more := len(found.slices) - shown) > 0:
        console.print(indent(Text(f"and {more} more: --by COLUMN, or --json", style="dim")))
    if found.pairs:
        console.print(Text("\nTogether more than either column explains", style="bold"))
    for pair in found.pairs[:PAIRS_SHOWN]:
        console.print(indent(_pair(pair, found.whole)))
    if found.skipped:
        reasons = ", ".join(f"{column} ({why})" for column, why in found.skipped.items())
        console.print()
        console.print(indent(Text(f"not sliced by {reasons}", style="dim")))


def _steps(steps: tuple[int, ...]) -> str:
    if len(steps) == 1:
        return f"step {steps[0]}"
    return f"{len(steps)} steps, {steps[0]} to {steps[-1]}" if steps else "no step"


def describe_blame(found: Blame) -> Iterable[str]:
    """What was decomposed, in sentences: the basis, the whole, and what is left out."""
    whole = found.whole
    if whole is None:
        basis = f" on the basis {found.basis}" if found.basis else ""
        yield f"insufficient data{basis}: {found.reason}"
        return
    yield f"basis {found.basis}: {_BASES[str(found.basis)]}"
    yield (
        f"ESS {_percent(whole.ess_fraction)} ({whole.ess or 0:.1f} of {whole.rows} rows), "
        f"Gini {_number(whole.gini)}, top-5 % share {_percent(whole.top5_share)}; "
        f"the largest row holds {_percent(found.largest_share)} of sum x^2"
    )
    yield from (f"{metric}: insufficient data: {why}" for metric, why in whole.reasons.items())
    yield from (f"step {step} is left out: {why}" for step, why in found.left_out.items())
    if found.nonfinite:
        rows = "1 row is" if found.nonfinite == 1 else f"{found.nonfinite} rows are"
        yield f"{rows} left out: the value is not finite"
    if found.incomplete:
        yield f"incomplete: step {', '.join(map(str, found.incomplete))}"
    if not found.slices:
        yield "no column cuts these rows into slices"


def _table(slices: list[Slice]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("\nslice", overflow="fold")
    shares = ("\nblame ", "\nrows", "\nsum x^2", "\ntop 5%", "Gini\npart")
    for name in (*shares, "ESS\nwithout", "Gini\nwithout", "top 5%\nwithout"):
        table.add_column(name, justify="right", no_wrap=True)
    for item in slices:
        left = item.without
        table.add_row(
            Text(f"{item.column} = {item.slice}"),
            f"{item.blame:.2f}{'?' if RULED_OUT < item.chance < 1 else ' '}",
            _percent(item.share_of_rows),
            _percent(item.share_of_sum_sq),
            _percent(item.share_of_top),
            _number(item.gini_part),
            _percent(left.ess_fraction),
            _number(left.gini),
            _percent(left.top5_share),
            style="" if item.blame >= SEEN else "dim",
        )
    return table


def _pair(pair: Pair, whole: Metrics) -> str:
    (first, second), (a, b) = pair.columns, pair.slices
    return (
        f"{first} = {a} with {second} = {b}: {pair.rows} of {whole.rows} rows hold "
        f"{_percent(pair.share_of_sum_sq)} of sum x^2, where {_percent(pair.explained)} is "
        f"explained; without them ESS {_percent(pair.without.ess_fraction)}"
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
