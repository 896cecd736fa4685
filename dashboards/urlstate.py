"""What of the page is in its address, so that a view can be shared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import parse_qs, urlencode

from mmhealth.figures import Shown, Theme

DEFAULT_BASIS: Shown = "signal"
SHOWN: tuple[str, ...] = ("weight", "signal", "contribution", "all")
THEMES: tuple[str, ...] = ("auto", *get_args(Theme))


@dataclass(frozen=True, slots=True)
class UrlState:
    """Choices of the reader."""

    runs: tuple[str, ...]
    """Names of the runs shown."""
    step: int | None = None
    """The chosen step; None follows the latest."""
    basis: str = DEFAULT_BASIS
    theme: str = "auto"
    table: str | None = None
    """The run whose trajectories are listed; None: the first."""


def parse_query(search: str | None, known: Sequence[str]) -> UrlState:
    """Choices from a query string such as ``?runs=a&step=3``; what makes no sense is ignored."""
    query = parse_qs((search or "").removeprefix("?"))
    runs = tuple(name for name in known if name in query.get("runs", ()))
    step = query.get("step", [""])[0]
    table = query.get("table", [""])[0]
    return UrlState(
        runs=runs or tuple(known),
        step=int(step) if step.isdecimal() and len(step) < 16 else None,
        basis=_known(query.get("basis"), SHOWN, DEFAULT_BASIS),
        theme=_known(query.get("theme"), THEMES, "auto"),
        table=table if table in known else None,
    )


def format_query(state: UrlState, known: Sequence[str]) -> str:
    """The query string of choices, without those that are the default."""
    query: list[tuple[str, Any]] = []
    if set(state.runs) != set(known):
        query += [("runs", name) for name in state.runs]
    if state.step is not None:
        query.append(("step", state.step))
    if state.basis != DEFAULT_BASIS:
        query.append(("basis", state.basis))
    if state.theme != "auto":
        query.append(("theme", state.theme))
    if state.table not in (None, *known[:1]):
        query.append(("table", state.table))
    return f"?{urlencode(query)}" if query else ""


def _known(values: list[str] | None, known: Sequence[str], default: str) -> str:
    return values[0] if values and values[0] in known else default
