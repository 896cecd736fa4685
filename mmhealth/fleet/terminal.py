"""A fleet as a table on a terminal, or in Markdown."""

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from mmhealth.fleet.judge import Fleet
from mmhealth.fleet.summary import VERDICTS, RunSummary
from mmhealth.fleet.words import ago, firing_words, lead_words, trend_words, worst_words
from mmhealth.report.sparkline import sparkline
from mmhealth.report.terminal import STYLES

_BLOCKS = 12
_GAP = 2
_MARKUP = re.compile("<(?=[A-Za-z/!?])")


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    least: int
    """Cells that it needs to say something; it is left out where there are not so many."""
    right: bool = False


_COLUMNS = (
    _Column("verdict", 10),
    _Column("run", 14),
    _Column("worst metric", 20),
    _Column("firing since", 12),
    _Column("lead", 4, right=True),
    _Column("step", 4, right=True),
    _Column("course", _BLOCKS),
    _Column("trend", 12),
    _Column("last commit", 18),
)
"""In the order of how much they say: on a narrow terminal the last are left out."""


def print_fleet_table(fleet: Fleet, shown: Sequence[RunSummary], console: Console) -> None:
    """Print one line for each run shown, under how many runs have which verdict."""
    now = time.time()
    rows = [_cells(run, now) for run in shown]
    hidden = {"course"} if console.options.ascii_only else set[str]()
    hidden |= {c.name for c in _COLUMNS if not any(row[c.name].plain for row in rows)}
    columns = [column for column in _COLUMNS if column.name not in hidden]
    widths = _widths(columns, rows, console.width)
    console.print(Text(describe_fleet(fleet, len(shown)), style="bold"), soft_wrap=True)
    if rows:
        header = {column.name: Text(column.name, style="dim") for column in columns}
        for row in (header, *rows):
            console.print(_aligned(row, columns, widths), soft_wrap=True)


def fleet_markdown(fleet: Fleet, shown: Sequence[RunSummary]) -> str:
    """The same as a table in Markdown."""
    names = ("verdict", "run", "worst metric", "trend", "firing since", "lead", "step")
    lines = [describe_fleet(fleet, len(shown)), "", _line([*names, "why"])]
    lines.append(_line(["---"] * (len(names) + 1)))
    for run in shown:
        cells = _cells(run, time.time())
        lines.append(_line([*(cells[name].plain for name in names), run.why]))
    return "\n".join(lines) + "\n"


def describe_fleet(fleet: Fleet, shown: int) -> str:
    """How many runs there are, with which verdicts, and how many are shown."""
    return count_verdicts(fleet.runs, shown)


def count_verdicts(runs: Sequence[RunSummary], shown: int) -> str:
    """The same of runs."""
    total, times = len(runs), Counter(run.verdict for run in runs)
    counts = ", ".join(f"{times[name]:,} {name}" for name in VERDICTS if times[name])
    cut = "" if shown == total else f"; {shown:,} shown"
    return f"{total:,} run{'' if total == 1 else 's'}{': ' if counts else ''}{counts}{cut}"


def _cells(run: RunSummary, now: float) -> dict[str, Text]:
    worst = run.why if run.worst is None else worst_words(run.worst)
    return {
        "verdict": Text(run.verdict, style=STYLES.get(run.verdict, "bold red")),
        "run": Text(_one_line(run.label), style="bold"),
        "worst metric": Text(_one_line(worst)),
        "firing since": Text(firing_words(run)),
        "lead": Text(lead_words(run)),
        "step": Text("" if run.step is None else str(run.step)),
        "course": Text(sparkline(run.worst.course, _BLOCKS) if run.worst else ""),
        "trend": Text(trend_words(run)),
        "last commit": Text(
            f"{run.state} {ago(run.last_commit, now)}" if run.last_commit else "", style="dim"
        ),
    }


def _widths(
    columns: list[_Column], rows: Sequence[Mapping[str, Text]], width: int
) -> dict[str, int]:
    """Cells of each column that has room; every one gets what it needs, then the first all."""
    natural = {
        column.name: max(
            cell_len(text) for text in (column.name, *(r[column.name].plain for r in rows))
        )
        for column in columns
    }
    needed = {column.name: min(column.least, natural[column.name]) for column in columns}
    while len(columns) > 2 and sum(needed.values()) + _GAP * (len(columns) - 1) > width:
        needed.pop(columns.pop().name)
    left = width - sum(needed.values()) - _GAP * (len(columns) - 1)
    found = {}
    for name, least in needed.items():
        found[name] = least + max(min(natural[name] - least, left), 0)
        left -= found[name] - least
    return found


def _aligned(row: Mapping[str, Text], columns: list[_Column], widths: Mapping[str, int]) -> Text:
    cells = []
    for column in columns:
        cell = row[column.name].copy()
        cell.truncate(widths[column.name], overflow="ellipsis")
        cell.align("right" if column.right else "left", widths[column.name])
        cells.append(cell)
    line = Text(" " * _GAP).join(cells)
    line.rstrip()
    return line


def _line(cells: Sequence[str]) -> str:
    escaped = (_MARKUP.sub("&lt;", _one_line(cell)).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _one_line(text: str) -> str:
    """What a name or an error says, without line ends and codes that a terminal obeys."""
    return "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split())
    )
