"""Which slices of a step's trajectories are to blame for its ESS, Gini and top share.

*Blame* of a slice: its share of sum x^2, the denominator of the ESS, beyond its share of the rows,
as far as chance does not explain it. ``chance`` is the slice's p-value after Bonferroni over its
column: the number of slices times a bound of how likely a slice of this very size holds as much
where values are dealt at random, those of a group to a group and there to its rows. Nothing
corrects over columns. Blame counts in full where ``chance`` is at most `RULED_OUT`, not at all
where it is 1, and in between by its logarithm. Where one trajectory (or group) holds nearly
everything, it lies in some slice of every column, and none is to blame for it.

x are the values of one basis, over the rows that the timeline's ``ess_*`` are taken over: sampled
trajectories, each as it entered its last update. One that entered no update holds nothing; it
counts among the rows of the ESS of signal and contribution, and not in Gini and top share. Several
steps are taken as one batch. docs/blame.md has the algebra.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mmhealth.estimators import decomposition
from mmhealth.health.bases import BASES, Basis
from mmhealth.health.basis_rows import ALL_ZERO, TOP, BasisRows, Metrics, basis_rows
from mmhealth.health.pairs import RULED_OUT, Pair, find_pairs
from mmhealth.health.slices import Slicing, cut
from mmhealth.runlog import Run

LISTED = 64
"""Slices of a column that are listed: those most to blame."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What one slice holds. Shares are of the whole; over a column's slices they sum to 1."""

    column: str
    slice: str
    rows: int
    share_of_rows: float
    share_of_sum: float
    share_of_sum_sq: float
    share_of_top: float
    """Of what the largest 5 % of rows hold."""
    gini_part: float
    """Over a column's slices these sum to the Gini coefficient; negative below the middle."""
    chance: float
    """Number of slices times the bound for a slice of this very size; at most 1. It corrects over
    the slices of the column, not over columns."""
    blame: float
    without: Metrics
    """The rows that are left without the slice, measured anew."""


@dataclass(frozen=True, slots=True)
class Blame:
    """Everything found; ``slices`` and ``pairs`` with the most to blame first."""

    steps: tuple[int, ...]
    basis: Basis | None
    reason: str | None
    """Why there is nothing: insufficient data. None where there is something."""
    left_out: dict[int, str] = field(default_factory=dict)
    """Steps in which the basis is not known, and why."""
    incomplete: tuple[int, ...] = ()
    """Steps of which rows are missing or yet to come."""
    nonfinite: int = 0
    """Rows left out because their value is NaN or infinite."""
    largest_share: float | None = None
    """Share of sum x^2 that the single largest row holds."""
    whole: Metrics | None = None
    columns: dict[str, int] = field(default_factory=dict)
    """Columns sliced by, each with its number of slices, of which at most `LISTED` are listed."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Other columns, and why."""
    slices: list[Slice] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)


def last_steps(run: Run, count: int = 1) -> list[int]:
    """The last steps of a run that are complete; where none is, the last as they are."""
    steps = run.complete_steps()
    if not steps and len(run.steps):
        steps = run.steps["step"].unique().sort().to_list()
    return steps[-count:]


def blame(
    run: Run,
    steps: Sequence[int],
    *,
    basis: Basis | None = None,
    by: Sequence[str] | None = None,
    pairs: bool = True,
) -> Blame:
    """Decompose the metrics of these steps, taken together, by the slices of every column.

    Without a ``basis`` it is the first that any of the steps has of contribution, signal and
    weight; steps that lack it are left out, never filled in with another. ``by``: only these
    columns. ``pairs``: look at two columns together, too, which takes most of the time. Raises
    RunError for a step that the run does not have.
    """
    data = [run.require_step(step) for step in sorted(set(steps))]
    incomplete = tuple(item.step for item in data if not item.complete)
    why: list[str] = [] if data else ["no step is logged"]
    for choice in (basis,) if basis else reversed(BASES):
        rows, left_out = basis_rows(run, data, choice)
        if rows is not None:
            used = tuple(item.step for item in data if item.step not in left_out)
            return _decompose(rows, used, left_out, incomplete, by, pairs=pairs)
        why += [reason for reason in left_out.values() if reason not in why]
        if ALL_ZERO in left_out.values():
            basis = choice
            break
    return Blame(tuple(item.step for item in data), basis, ", ".join(why), incomplete=incomplete)


def _decompose(
    rows: BasisRows,
    steps: tuple[int, ...],
    left_out: dict[int, str],
    incomplete: tuple[int, ...],
    by: Sequence[str] | None,
    *,
    pairs: bool,
) -> Blame:
    slicings, skipped = cut(rows.frame, by)
    parts = _Parts(rows)
    slices = [item for slicing in slicings for item in _slices(rows, parts, slicing)]
    return Blame(
        steps=steps,
        basis=rows.basis,
        reason=None,
        left_out=left_out,
        incomplete=incomplete,
        nonfinite=rows.nonfinite,
        largest_share=float(parts.squares.max()),
        whole=rows.measure(np.ones_like(rows.updated)),
        columns={slicing.column: len(slicing.labels) for slicing in slicings},
        skipped=skipped,
        slices=sorted(slices, key=_most_to_blame_first),
        pairs=find_pairs(rows, parts.squares, slicings) if pairs else [],
    )


class _Parts:
    """What each row holds of each metric."""

    def __init__(self, rows: BasisRows) -> None:
        updated = rows.log_values[rows.updated]
        self.total = decomposition.sum_parts(rows.log_values)
        self.squares = decomposition.square_parts(rows.log_values)
        self.gini, self.top = np.zeros((2, len(self.total)))
        self.gini[rows.updated] = decomposition.gini_parts(updated)
        self.top[rows.updated] = decomposition.top_parts(updated, TOP)


def _most_to_blame_first(item: Slice) -> tuple[float, float, str, str]:
    return (-item.blame, item.share_of_rows - item.share_of_sum_sq, item.column, item.slice)


def _slices(rows: BasisRows, parts: _Parts, slicing: Slicing) -> list[Slice]:
    codes, count = slicing.codes, len(slicing.labels)
    size = np.bincount(codes, minlength=count)
    total, squares, gini, top = (
        decomposition.by_slice(part, codes, count)
        for part in (parts.total, parts.squares, parts.gini, parts.top)
    )
    bound = decomposition.chance_of(parts.squares, codes, count, slicing.groups)
    chance = np.minimum(count * bound, 1.0)
    excess = squares - size / codes.size
    sure = np.log(np.maximum(chance, RULED_OUT)) / math.log(RULED_OUT)
    blame_of = np.where((excess > 0) & (chance < 1), excess * sure, 0.0)
    order = np.lexsort((-excess, -blame_of))
    return [
        Slice(
            column=slicing.column,
            slice=slicing.labels[i],
            rows=int(size[i]),
            share_of_rows=float(size[i] / codes.size),
            share_of_sum=float(total[i]),
            share_of_sum_sq=float(squares[i]),
            share_of_top=float(top[i] / top.sum()),
            gini_part=float(gini[i]),
            chance=float(chance[i]),
            blame=float(blame_of[i]),
            without=rows.measure(codes != i),
        )
        for i in order[:LISTED]
    ]
