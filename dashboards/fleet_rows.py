"""The runs of a fleet as rows of the grid."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from mmhealth.fleet.select import varied_settings
from mmhealth.fleet.summary import VERDICTS, RunSummary
from mmhealth.fleet.watch import Row
from mmhealth.fleet.words import firing_words, lead_words, trend_words, worst_words

MOST_SETTINGS = 12
"""Most settings that have a column."""
_SETTING = "setting:"

_COLUMNS: tuple[dict[str, Any], ...] = (
    {
        "field": "name",
        "headerName": "run",
        "cellRenderer": "MmhealthRunLink",
        "width": 180,
        "pinned": "left",
        "tooltipField": "path",
    },
    {
        "field": "gravity",
        "headerName": "verdict",
        "cellRenderer": "MmhealthVerdict",
        "sort": "asc",
        "filterValueGetter": {"function": "params.data.verdict"},
        "filter": "agTextColumnFilter",
        "width": 136,
        "headerTooltip": "The gravest first; among equals the least headroom",
    },
    {
        "field": "headroom",
        "headerName": "worst metric",
        "valueFormatter": {"function": "params.data.worst"},
        "width": 230,
        "tooltipField": "why",
        "headerTooltip": "Sorted by headroom: how many times its threshold is away",
    },
    {
        "field": "course",
        "headerName": "course",
        "filter": False,
        "cellRenderer": "MmhealthCourse",
        "sortable": False,
        "width": 120,
        "headerTooltip": "The worst metric over the run; dashed: its threshold",
        "cellDataType": False,
    },
    {
        "field": "crossing",
        "headerName": "trend",
        "valueFormatter": {"function": "params.data.trend"},
        "width": 230,
        "headerTooltip": "Sorted by steps to the next crossing that is forecast",
    },
    {
        "field": "since",
        "headerName": "firing since",
        "valueFormatter": {"function": "params.data.firing"},
        "width": 120,
    },
    {
        "field": "lead",
        "headerName": "lead",
        "valueFormatter": {"function": "params.data.leads"},
        "width": 84,
        "headerTooltip": "Steps from the first alert to the stall of held-out success",
    },
    {"field": "step", "headerName": "step", "width": 90},
    {
        "field": "commit",
        "headerName": "last commit",
        "valueFormatter": {"function": "mmhealthAgo(params.value)"},
        "width": 120,
    },
    {"field": "state", "headerName": "state", "width": 100},
    {"field": "modes", "headerName": "failure mode", "width": 180},
)


def column_defs(runs: Sequence[RunSummary]) -> list[dict[str, Any]]:
    """Column definitions of the grid, the settings that vary at the end."""
    keys = varied_settings(runs)[:MOST_SETTINGS]
    return [*_COLUMNS, *({"field": f"{_SETTING}{key}", "headerName": key} for key in keys)]


def grid_rows(rows: Iterable[Row], settings: Iterable[str]) -> list[dict[str, Any]]:
    """One row a run; ``settings`` are the columns that hold any."""
    keys = [name.removeprefix(_SETTING) for name in settings if name.startswith(_SETTING)]
    return [_row(row, keys) for row in rows]


def _row(row: Row, keys: Sequence[str]) -> dict[str, Any]:
    run, worst = row.summary, row.summary.worst
    return {
        "id": str(row.number),
        "href": f"run/{row.number}/" if run.verdict != "unreadable" else None,
        "gravity": _gravity(run),
        "verdict": run.verdict,
        "name": run.label,
        "path": run.path,
        "why": run.why,
        "worst": run.why if worst is None else worst_words(worst),
        "headroom": None if worst is None else _finite(worst.headroom),
        "course": None if worst is None else list(worst.course),
        "threshold": None if worst is None else _finite(worst.threshold),
        "beyond": worst is not None and worst.firing,
        "crossing": None if run.forecast is None else run.forecast.steps,
        "trend": trend_words(run),
        "since": min((alert.step for alert in run.firing), default=None),
        "firing": firing_words(run),
        "lead": None if run.lead is None else run.lead.steps,
        "leads": lead_words(run),
        "step": run.step,
        "commit": run.last_commit,
        "state": "" if run.verdict == "unreadable" else run.state,
        "modes": ", ".join(run.failure_modes),
        **{f"{_SETTING}{key}": _cell(run.config.get(key)) for key in keys},
    }


def _gravity(run: RunSummary) -> float:
    """A number that sorts as `mmhealth.fleet.select.gravity` does."""
    room = math.inf if run.worst is None else run.worst.headroom
    share = 1.0 if math.isinf(room) else room / (1.0 + room)
    quiet = run.worst is None or not run.worst.firing
    return VERDICTS.index(run.verdict) + 0.5 * quiet + 0.49 * share


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _cell(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float) else str(value)
