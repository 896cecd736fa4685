"""Where two columns together explain what neither explains by itself.

If only one of the columns mattered, the rows in a slice of both would hold their share, by rows, of
what that column's slice holds. A pair is listed when it holds `PAIR_EXCESS` of sum x^2 more than
either column explains that way, and when dealing the values anew within either slice, as in blame,
would give as much with a chance of at most `RULED_OUT`, all pairs looked at taken together.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mmhealth.estimators import decomposition
from mmhealth.health.basis_rows import BasisRows, Metrics
from mmhealth.health.rows import Array
from mmhealth.health.slices import MANY, Slicing

RULED_OUT = 0.05
"""A chance that counts as none."""
PAIR_EXCESS = 0.1
"""Share of sum x^2, beyond what either column explains, from which on a pair is listed."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Rows in one slice of each of two columns, which hold more than either column explains."""

    columns: tuple[str, str]
    slices: tuple[str, str]
    rows: int
    share_of_rows: float
    share_of_sum_sq: float
    explained: float
    """Share of sum x^2 that the rows would hold if that of a slice were spread evenly over it."""
    chance: float
    without: Metrics


def find_pairs(rows: BasisRows, squares: Array, slicings: list[Slicing]) -> list[Pair]:
    """The pairs that hold markedly more than the better of their columns explains.

    ``squares`` (rows,) is each row's share of sum x^2. Columns with more than `MANY` slices are not
    paired; of pairs that are the same rows the first is listed.
    """
    few = [slicing for slicing in slicings if len(slicing.labels) <= MANY]
    found, looked_at = [], 0
    for first, second in combinations(few, 2):
        cells = decomposition.cross(squares, first.codes, second.codes)
        looked_at += len(cells.rows)
        for i in np.flatnonzero(cells.held - cells.explained >= PAIR_EXCESS):
            found.append((first, second, cells, i))
    pairs: dict[bytes, Pair] = {}
    for first, second, cells, i in found:
        a, b = first.codes == cells.first[i], second.codes == cells.second[i]
        chance, inside = 0.0, a & b
        for within, other, place in ((a, second, cells.second[i]), (b, first, cells.first[i])):
            groups = None if other.groups is None else other.groups[within]
            there = (other.codes[within] == place).astype(np.int64)
            _, bound = decomposition.chance_of(squares[within], there, 2, groups)
            chance = max(chance, looked_at * float(bound))
        if chance > RULED_OUT or inside.tobytes() in pairs:
            continue
        pairs[inside.tobytes()] = Pair(
            columns=(first.column, second.column),
            slices=(first.labels[cells.first[i]], second.labels[cells.second[i]]),
            rows=int(cells.rows[i]),
            share_of_rows=float(cells.rows[i] / squares.size),
            share_of_sum_sq=float(cells.held[i]),
            explained=float(cells.explained[i]),
            chance=chance,
            without=rows.measure(~inside),
        )
    return sorted(pairs.values(), key=lambda pair: pair.explained - pair.share_of_sum_sq)
