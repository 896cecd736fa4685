"""What a diagnosis reads of one step beside its metrics: numbers that stand for its rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from mmhealth.health.rows import Array, as_floats, present, with_role
from mmhealth.health.weight_parts import WEIGHT_COLUMNS, weight_parts
from mmhealth.runlog import StepData
from mmhealth.schema import SAMPLED_ROLES

MEANS = ("reward", "behavior_lag", "subagents", "turns", "serial")
"""Columns whose means signs ask for, beside the reward components."""
COLUMNS = (*MEANS, "success", "violated", "group_id", "horizon")
CHECKED = ("reward", "advantage", "log_weight", "weight_used", "grad_norm", "entropy")
"""Columns in which a value that is not finite is named."""
SAME = 1e-6
"""Range of a component, relative to its largest value, below which it is the same for a group."""
PRODUCTS = ("aa", "bb", "ab")
"""Squares and products of two columns around their means, summed."""


Codes: TypeAlias = np.ndarray[Any, np.dtype[np.intp]]


@dataclass(frozen=True, slots=True)
class StepReading:
    """What one step's rows were read for; nothing of it depends on other steps.

    Numbers, NaN or absent where they are not known, have these names:

    - ``mean NAME``: mean of the finite values
    - ``wide``: share of the trajectories that start more than one sub-agent
    - ``groups``: groups of two trajectories or more; ``same`` and ``differ``: those of them in
      which no reward component differs and in which one does; ``same reward`` and ``differ
      reward``: the like of the reward alone
    - ``told NAME aa``, ``bb``, ``ab``: `PRODUCTS` of success and a component within groups
    - ``use success aa`` ...: of success and sub-agents, within groups of one horizon;
      ``use reward aa`` ...: of reward and sub-agents among trajectories of one outcome there
    - ``fit rows``, ``fit sum NAME``, ``fit NAME NAME``: rows, sums, and the triangle R of the QR
      decomposition, of reward, violated and the components around their means within groups
    - those of `weight_parts`
    """

    known: tuple[str, ...]
    """Of `COLUMNS` and the reward components those that have values, as they were logged."""
    horizons: tuple[int, ...]
    """That trajectories were sampled with, ascending."""
    nonfinite: tuple[str, ...]
    """Of `CHECKED` those in which values are NaN or infinite, of whatever role."""
    names: tuple[str, ...]
    packed: bytes
    """The numbers, float64, in the order of ``names``."""

    @property
    def numbers(self) -> dict[str, float]:
        """Each under its name."""
        return dict(zip(self.names, np.frombuffer(self.packed).tolist(), strict=True))

    @property
    def components(self) -> list[str]:
        """Reward components with values, as they were logged."""
        return [name for name in self.known if is_component(name)]

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        plain = {name: getattr(self, name) for name in ("known", "horizons", "nonfinite")}
        return plain | {"numbers": self.numbers}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> "StepReading":
        """What `as_json` wrote, bit for bit."""
        known, horizons, bad = (tuple(content[name]) for name in ("known", "horizons", "nonfinite"))
        return _packed(known, horizons, bad, content["numbers"])


def is_component(name: str) -> bool:
    """Whether a column of trajectories is part of the reward."""
    return name.startswith("reward_")


def reading_columns(names: Iterable[str]) -> frozenset[str]:
    """The columns that readings are made of, where trajectories have columns of these names."""
    return frozenset({"role", *COLUMNS, *CHECKED, *WEIGHT_COLUMNS, *filter(is_component, names)})


def read_step(data: StepData, loss_ratio: str) -> StepReading:
    """Read one step, of which all columns of `reading_columns` are there."""
    rows = with_role(data.trajectories, SAMPLED_ROLES)
    known = tuple(name for name in rows.columns if _is_known(rows[name]))
    values = {name: as_floats(rows[name]) for name in known if name not in _KEYS}
    components = [name for name in known if is_component(name)]
    numbers = {
        f"mean {name}": _mean(values[name]) for name in (*MEANS, *components) if name in values
    }
    if "subagents" in values:
        numbers["wide"] = _mean(
            np.where(np.isfinite(values["subagents"]), values["subagents"] > 1, np.nan)
        )
    if "group_id" in known:
        numbers |= _within_groups(rows, values, components)
    if loss_ratio != "none":
        numbers |= weight_parts(data.updates)
    return _packed(known, _horizons(rows), _nonfinite(data), numbers)


def _packed(
    known: tuple[str, ...],
    horizons: tuple[int, ...],
    nonfinite: tuple[str, ...],
    numbers: Mapping[str, float],
) -> StepReading:
    packed = np.array(list(numbers.values()), np.float64).tobytes()
    return StepReading(known, horizons, nonfinite, tuple(numbers), packed)


def _nonfinite(data: StepData) -> tuple[str, ...]:
    return tuple(
        name
        for name in CHECKED
        if any(
            name in frame.columns and not np.isfinite(present(frame[name])).all()
            for frame in (data.trajectories, data.updates)
        )
    )


_KEYS = ("group_id", "horizon")


def _is_known(column: pl.Series) -> bool:
    """Whether a column is one that is read, and has values."""
    if column.null_count() == len(column):
        return False
    is_number = column.dtype.is_numeric() or column.dtype == pl.Boolean
    return column.name in _KEYS or (
        is_number and (column.name in COLUMNS or is_component(column.name))
    )


def _horizons(rows: pl.DataFrame) -> tuple[int, ...]:
    if "horizon" not in rows.columns:
        return ()
    return tuple(int(turns) for turns in np.unique(rows["horizon"].drop_nulls().to_numpy()))


def _mean(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(np.sum(np.sort(finite)) / finite.size) if finite.size else float("nan")


def _within_groups(
    rows: pl.DataFrame, values: Mapping[str, Array], components: Sequence[str]
) -> dict[str, float]:
    grouped = rows["group_id"].is_not_null().to_numpy()
    values = {name: column[grouped] for name, column in values.items()}
    groups = _codes(rows["group_id"].filter(pl.Series(grouped)))
    found = {}
    if "reward" in values:
        found = _contrast([values["reward"]], groups, " reward")
        found["groups"] = float((np.bincount(groups) > 1).sum())
        if components:
            found |= _contrast([values[name] for name in components], groups, "")
    for name in components if "success" in values else ():
        found |= _products(values["success"], values[name], groups, f"told {name}")
    if {"success", "reward", "subagents"} <= values.keys():
        success, reward, agents = (values[n] for n in ("success", "reward", "subagents"))
        whole = np.isfinite(success) & np.isfinite(reward) & np.isfinite(agents)
        alike = groups[whole]
        if "horizon" in rows.columns:
            alike = _pairs(alike, _codes(rows["horizon"].filter(pl.Series(grouped)))[whole])
        success, reward, agents = success[whole], reward[whole], agents[whole]
        found |= _products(success, agents, alike, "use success")
        found |= _products(reward, agents, _pairs(alike, _renumbered(success)), "use reward")
    if {"reward", "violated"} <= values.keys():
        found |= _fit({name: values[name] for name in ("reward", "violated", *components)}, groups)
    return found


def _contrast(columns: Sequence[Array], groups: Codes, of: str) -> dict[str, float]:
    """In how many groups of two or more no column differs, and in how many one does; only finite
    values are compared, and a group without any in a column is alike in none."""
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    same, differ = np.ones(sizes.size, np.bool_), np.zeros(sizes.size, np.bool_)
    for column in columns:
        values = column[order]
        finite = np.isfinite(values)
        most = np.maximum.reduceat(np.where(finite, values, -np.inf), starts)
        least = np.minimum.reduceat(np.where(finite, values, np.inf), starts)
        known = np.isfinite(most)
        largest = np.maximum(np.maximum(np.abs(most), np.abs(least)), 1e-12)
        alike = np.zeros(sizes.size, np.bool_)
        alike[known] = most[known] - least[known] <= SAME * largest[known]
        same &= alike
        differ |= known & ~alike
    several = sizes > 1
    return {
        f"same{of}": float((same & several).sum()),
        f"differ{of}": float((differ & several).sum()),
    }


def _products(a: Array, b: Array, groups: Codes, name: str) -> dict[str, float]:
    """`PRODUCTS` of two columns, of rows in which both are finite; nothing where there is none."""
    one, two = _around_means([a, b], groups)
    if not one.size:
        return {}
    pairs = ((one, one), (two, two), (one, two))
    return {
        f"{name} {of}": float(np.sum(x * y)) for of, (x, y) in zip(PRODUCTS, pairs, strict=True)
    }


def _fit(columns: Mapping[str, Array], groups: Codes) -> dict[str, float]:
    around = _around_means(list(columns.values()), groups)
    if not around[0].size:
        return {}
    found = {"fit rows": float(around[0].size)}
    found |= {
        f"fit sum {name}": float(np.sum(part)) for name, part in zip(columns, around, strict=True)
    }
    r = triangle(np.stack(around, 1))
    names = list(columns)
    for i, j in zip(*np.triu_indices(len(names)), strict=True):
        found[f"fit {names[i]} {names[j]}"] = float(r[i, j])
    return found


def triangle(rows: Array) -> Array:
    """R (columns, columns) of the QR decomposition of rows (n, columns): what least squares take of
    them; of columns that others explain, a row of zeros or nearly so.

    R of the rows so far stands in for them (Demmel, Grigori, Hoemmen and Langou 2012, SIAM J. Sci.
    Comput. 34(1)). Modified Gram-Schmidt: its R is as exact as Householder's (Bjoerck 1967, BIT
    7(1)), and its sums do not depend on how many threads a linear algebra library uses.
    """
    columns = rows.shape[1]
    left, r = rows.T.copy(), np.zeros((columns, columns))
    for i in range(columns):
        r[i, i] = np.sqrt(np.sum(left[i] ** 2))
        if r[i, i] == 0:
            continue
        left[i] /= r[i, i]
        for j in range(i + 1, columns):
            r[i, j] = np.sum(left[i] * left[j])
            left[j] -= r[i, j] * left[i]
    return r


def _around_means(columns: Sequence[Array], groups: Codes) -> list[Array]:
    """Values less the mean of their group, of rows in which all are finite."""
    finite = np.all([np.isfinite(column) for column in columns], axis=0)
    groups = groups[finite]
    counts = np.bincount(groups)
    around = []
    for column in columns:
        sums = np.bincount(groups, column[finite])
        with np.errstate(invalid="ignore"):
            around.append(column[finite] - (sums / counts)[groups])
    return around


def _codes(ids: pl.Series) -> Codes:
    """(n,) The same small number for equal ids, from 0; missing ones are equal."""
    if not ids.dtype.is_integer() or ids.has_nulls():
        return ids.rank("dense").fill_null(0).to_numpy().astype(np.intp)
    numbers = ids.to_numpy()
    if (numbers[1:] >= numbers[:-1]).all():
        return np.cumsum(np.diff(numbers, prepend=numbers[:1]) != 0).astype(np.intp)
    return _renumbered(numbers)


def _pairs(one: Codes, other: Codes) -> Codes:
    """(n,) The same small number where both are equal."""
    return _renumbered(one * (int(other.max(initial=0)) + 1) + other)


def _renumbered(values: Array | Codes) -> Codes:
    return np.unique(values, return_inverse=True)[1]
