"""The trajectories of a step as rows of the grid."""

import math
from typing import Any

import polars as pl

from mmhealth.health.contribution import StepContribution

MOST_ROWS = 2000

_FIRST = (
    "contribution_share",
    "contribution",
    "trajectory_id",
    "group_id",
    "reward",
    "success",
    "advantage",
    "log_weight",
    "grad_norm",
    "grad_cosine",
    "length",
    "turns",
    "source",
)
_LEFT_OUT = ("step", "attempt", "token_logsum_w", "token_logsum_w2", "log_ratio_p95", "update")
_ONLY_IF_VARIED = ("rank", "role", "weight_at", "behavior_lag")
_HEADINGS = {"contribution_share": "share", "trajectory_id": "trajectory", "group_id": "group"}


def columns(frame: pl.DataFrame) -> list[str]:
    """Columns worth showing: those with values, the telling ones first."""
    known = [
        name
        for name in frame.columns
        if name not in _LEFT_OUT and frame[name].null_count() < len(frame)
    ]
    known = [n for n in known if n not in _ONLY_IF_VARIED or frame[n].n_unique() > 1]
    return [n for n in _FIRST if n in known] + [n for n in known if n not in _FIRST]


def column_defs(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Column definitions of the grid."""
    definitions = []
    for name in columns(frame):
        heading = _HEADINGS.get(name, name.replace("_", " "))
        definition: dict[str, Any] = {"field": name, "headerName": heading, "headerTooltip": name}
        dtype = frame[name].dtype
        if dtype.is_numeric():
            form = "mmhealthShare" if name.endswith("_share") else "mmhealthNumber"
            definition["valueFormatter"] = {"function": f"{form}(params.value)"}
            definition["cellDataType"] = False
            if not name.endswith("_id"):
                definition["type"] = "rightAligned"
        definitions.append(definition)
    return definitions


def rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """At most `MOST_ROWS` rows; NaN and infinities as text, so that they are seen."""
    shown = frame.select(columns(frame)).head(MOST_ROWS)
    floats = {name for name, dtype in shown.schema.items() if dtype.is_float()}
    nested = {name for name, dtype in shown.schema.items() if dtype.is_nested()}
    result = shown.to_dicts()
    for name in floats | nested:
        for row in result:
            value = row[name]
            if name in nested:
                row[name] = None if value is None else str(value)
            elif value is not None and not math.isfinite(value):
                row[name] = str(value)
    return result


def describe(run: str, step: StepContribution) -> str:
    """What the table shows, in a sentence."""
    total = len(step.frame)
    cut = f"the first {MOST_ROWS:,} of {total:,}" if total > MOST_ROWS else f"{total:,}"
    return (
        f"Step {step.step} of {run}: {cut} trajectories, largest contribution first; "
        f"{step.describe()}."
    )
