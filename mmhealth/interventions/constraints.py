"""Soft constraints: a table of softplus penalties in place of a cliff.

After Challapally (2026), fourth intervention: ``penalty = -k * softplus(distance_to_boundary)``
keeps a gradient on both sides of the boundary, and each type of constraint has a scale, a width and
a decay constant of its own. Cost: one pass for each constraint given. Bias: a policy inside the
boundary pays too, about ``k * exp(-|distance| / width)``: that is what it is steered by.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmhealth.interventions.annealed import AnnealedReward
from mmhealth.interventions.arrays import FloatArray, not_negative, numbers, positive


@dataclass(frozen=True, slots=True)
class Constraint:
    """One type of constraint, with distances in its own unit; raises ValueError out of range."""

    name: str
    """What it is called in the table."""
    scale: float
    """k: penalty per softplus unit; far outside, ``scale / width`` per unit of distance."""
    width: float
    """Distance over which the penalty bends."""
    margin: float = 0.0
    """Distance inside the boundary at which the bend lies."""
    beta0: float = 0.0
    """Initial coefficient of its auxiliary reward; 0 = it has none."""
    decay_steps: float = 1.0
    """Steps in which that coefficient falls by a factor e."""

    def __post_init__(self) -> None:
        not_negative(self.scale, "scale")
        positive(self.width, "width")
        if not np.isfinite(self.margin):
            raise ValueError(f"margin must be finite, got {self.margin}")
        AnnealedReward(self.beta0, self.decay_steps)

    def penalty(self, distance: npt.ArrayLike) -> FloatArray:
        """``-scale * softplus((distance + margin) / width)``; above 0 it is violated.

        One value a row, or a row and turn. Does not overflow; NaN (unknown) stays NaN.
        Raises ValueError for infinite distances.
        """
        values = numbers(distance, f"distance of {self.name}", pending=True)
        with np.errstate(invalid="ignore"):
            bent: FloatArray = np.logaddexp(0.0, (values + self.margin) / self.width)
        return -self.scale * bent

    def beta(self, step: int) -> float:
        """Coefficient of its auxiliary reward at ``step``."""
        return AnnealedReward(self.beta0, self.decay_steps).beta(step)

    def bonus(self, step: int, aux: npt.ArrayLike) -> FloatArray:
        """Its annealed auxiliary reward at ``step``, in the shape of ``aux``."""
        return AnnealedReward(self.beta0, self.decay_steps).reward(step, aux)


class ConstraintTable:
    """Constraints by name; raises ValueError if two have the same one."""

    def __init__(self, constraints: Iterable[Constraint]) -> None:
        self._constraints: dict[str, Constraint] = {}
        for constraint in constraints:
            if constraint.name in self._constraints:
                raise ValueError(f"constraints: {constraint.name!r} is there twice")
            self._constraints[constraint.name] = constraint

    @classmethod
    def from_toml(cls, source: Path | str) -> "ConstraintTable":
        """Read a file (`Path`) or TOML text (`str`) with a table for each constraint::

            [constraints.parallel_calls]
            scale = 2.0         # k
            width = 0.15        # in units of the distance
            margin = 0.2
            beta0 = 2.0         # auxiliary reward for working in parallel
            decay_steps = 25

            [constraints.latency]
            scale = 1.0
            width = 0.5

        Raises ValueError that names the constraint and its line; OSError if there is no file.
        """
        where = str(source) if isinstance(source, Path) else "constraints"
        text = source.read_text("utf-8") if isinstance(source, Path) else source
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            hint = "" if isinstance(source, Path) else "; give a pathlib.Path to read a file"
            raise ValueError(f"{where}: not valid TOML: {error}{hint}") from error
        tables = content.get("constraints")
        if content.keys() != {"constraints"} or not isinstance(tables, dict) or not tables:
            raise ValueError(f"{where}: expected [constraints.NAME] tables and nothing else")
        return cls(_parse(name, table, text, where) for name, table in tables.items())

    def __iter__(self) -> Iterator[Constraint]:
        return iter(self._constraints.values())

    def __len__(self) -> int:
        return len(self._constraints)

    def __getitem__(self, name: str) -> Constraint:
        """The constraint of this name; raises ValueError that lists those there are."""
        if name not in self._constraints:
            raise ValueError(f"no constraint {name!r}; the table has {sorted(self._constraints)}")
        return self._constraints[name]

    def penalty(self, distances: Mapping[str, npt.ArrayLike]) -> FloatArray:
        """Sum of the penalties, (rows,), of the signed distances (rows,) given by name.

        A distance above 0 is a violation. A constraint that is not given does not apply; a row with
        an unknown distance (NaN) has an unknown penalty (NaN). Distances may be (rows, turns), and
        so are the penalties then. Raises ValueError for unknown names, differing shapes, infinite
        distances, or none at all.
        """
        return _sum({n: self[n].penalty(d) for n, d in distances.items()}, "distances")

    def bonus(self, step: int, aux: Mapping[str, npt.ArrayLike]) -> FloatArray:
        """Sum of the annealed auxiliary rewards at ``step``; shapes and errors as in `penalty`."""
        return _sum({n: self[n].bonus(step, values) for n, values in aux.items()}, "aux")


def hard_penalty(distance: npt.ArrayLike, cost: float) -> FloatArray:
    """The cliff, for comparison: ``-cost`` where the distance is above 0, else 0.

    NaN stays NaN. Raises ValueError for infinite distances or a negative cost.
    """
    not_negative(cost, "cost")
    values = numbers(distance, "distance", pending=True)
    return np.where(np.isnan(values), np.nan, np.where(values > 0, -cost, 0.0))


def _sum(columns: dict[str, FloatArray], argument: str) -> FloatArray:
    shapes = {name: column.shape for name, column in columns.items()}
    if not columns:
        raise ValueError(f"{argument}: none given; without one the number of rows is not known")
    if len(set(shapes.values())) > 1:
        raise ValueError(f"{argument}: shapes differ: {shapes}")
    total: FloatArray = np.sum(list(columns.values()), axis=0)
    return total


_KEYS = {field.name: field for field in fields(Constraint) if field.name != "name"}


def _parse(name: str, table: Any, text: str, where: str) -> Constraint:
    if not isinstance(table, dict):
        raise ValueError(f"{where}: [constraints.{name}] must be a table")

    def at(key: str | None = None) -> str:
        return f"{where}, line {_line(text, name, key)}, constraint {name!r}"

    for key, value in table.items():
        if key not in _KEYS:
            raise ValueError(f"{at(key)}: unknown key {key!r}; known: {', '.join(_KEYS)}")
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"{at(key)}: {key} must be a number, got {value!r}")
    for key, field in _KEYS.items():
        if field.default is MISSING and key not in table:
            raise ValueError(f"{at()}: {key} is missing")
    try:
        return Constraint(name, **{key: float(value) for key, value in table.items()})
    except ValueError as error:
        key = str(error).split(maxsplit=1)[0]
        raise ValueError(f"{at(key)}: {error}") from error


def _line(text: str, name: str, key: str | None) -> int:
    """Line of the key in the constraint's table, or of the table's header."""
    inside, header = False, 1
    for number, line in enumerate(text.splitlines(), 1):
        if found := re.match(r"\s*\[\s*constraints\s*\.\s*([^\]]+?)\s*\]", line):
            inside = found[1].strip("\"'") == name
            header = number if inside else header
        elif inside and key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return number
    return header
