"""A trainer's batch as rows: columns of tokens become columns of trajectories.

A column of tokens is a tensor (trajectories, tokens), padded or nested, on any device; all columns
of a batch are over the same tokens. Sums are in float64, and nothing is clipped or truncated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmhealth.errors import RecordError
from mmhealth.integrations.dumps.fields import FloatArray
from mmhealth.integrations.dumps.problems import Problems
from mmhealth.integrations.dumps.tokens import (
    BoolArray,
    Row,
    advantage_of,
    follows_tool,
    turns_of,
    weigh,
)

NO_SAMPLER = "log_weight: old or sampler's log probabilities are not in the batch"
TAKEN_OVER = (
    "log_weight: the old log probabilities are the sampler's own (verl's bypass_mode): on-policy "
    "by construction, every ratio is 1 and says nothing"
)


@dataclass(slots=True)
class Columns:
    """Columns of tokens of one batch; None where the trainer has no such thing."""

    own: Any
    """Not 0 where the policy wrote the token; 0 for tools' and padding."""
    counted: Any = None
    """Not 0 where the token enters the loss; None for all of its own."""
    old: Any = None
    """Log probabilities under the trainer's policy before the step's updates."""
    sampler: Any = None
    """Log probabilities as the sampler gave them."""
    reference: Any = None
    entropy: Any = None
    advantages: Any = None


def rows_of(columns: Columns, values: Sequence[Mapping[str, Any]], problems: Problems) -> list[Row]:
    """One row a trajectory; ``values`` are what is known of each apart from its tokens.

    A trajectory with no token in the loss is ``filtered``. Raises `RecordError` where a column has
    other trajectories or tokens than the mask.
    """
    own = [np.asarray(row != 0) for row in _split(columns.own)]
    if len(own) != len(values):
        raise RecordError(f"a batch of {len(own)} trajectories with values for {len(values)}")
    each = {
        name: _like(own, name, getattr(columns, name))
        for name in ("counted", "old", "sampler", "reference", "entropy", "advantages")
    }
    rows = []
    for number, (mask, known) in enumerate(zip(own, values, strict=True)):
        tokens = {name: column[number] for name, column in each.items() if column is not None}
        rows.append(_row(mask, tokens, dict(known), problems))
    return rows


def drop_trivial(rows: Sequence[Row], problems: Problems) -> None:
    """Take the weights out of a step in which every ratio is exactly 1."""
    known = [row.log_ratios for row in rows if row.log_ratios is not None]
    if not sum(ratios.size for ratios in known) or any(ratios.any() for ratios in known):
        return
    problems.note(TAKEN_OVER, len(rows))
    for row in rows:
        for name in [*weigh(np.zeros(1)), "log_weight_mismatch"]:
            row.values.pop(name, None)
        row.log_ratios = row.after_tool = None


def row_sums(column: Any) -> list[float]:
    """Per trajectory the sum over its tokens, as of rewards that stand at single tokens."""
    return [float(row.sum()) for row in _split(column)]


def _row(
    mask: BoolArray, tokens: dict[str, FloatArray], values: dict[str, Any], problems: Problems
) -> Row:
    count = int(mask.sum())
    counted = mask & (tokens["counted"] != 0) if "counted" in tokens else mask
    if count:
        values |= {"length": count, "turns": turns_of(mask)}
    if not counted.any():
        values["role"] = "filtered"
    if "advantages" in tokens:
        values["advantage"] = advantage_of(tokens["advantages"][counted], problems)
    if count and "entropy" in tokens:
        values |= {"entropy": float(tokens["entropy"][mask].mean()), "token_count": count}
    if count and {"old", "reference"} <= tokens.keys():
        gap = (tokens["reference"] - tokens["old"])[mask]
        with np.errstate(over="ignore", invalid="ignore"):
            kl = float((np.expm1(gap) - gap).mean())
        values |= {"kl_ref": kl, "token_count": count}
    if not {"old", "sampler"} <= tokens.keys():
        problems.note(NO_SAMPLER)
        return Row(values)
    with np.errstate(invalid="ignore"):
        ratios = (tokens["old"] - tokens["sampler"])[mask]
    weights = weigh(ratios)
    values |= weights
    if "log_weight" in weights:
        values["log_weight_mismatch"] = weights["log_weight"]
    return Row(values, ratios, follows_tool(mask))


def _like(own: Sequence[BoolArray], name: str, column: Any) -> list[FloatArray] | None:
    if column is None:
        return None
    rows = _split(column)
    if [row.size for row in rows] != [mask.size for mask in own]:
        raise RecordError(f"{name} has other trajectories or tokens than the mask of the response")
    return rows


def _split(column: Any) -> list[FloatArray]:
    return [row.detach().to("cpu").double().numpy() for row in column.unbind()]
