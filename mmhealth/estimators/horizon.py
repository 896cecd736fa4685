"""Success by horizon: one row a training regime, one column an evaluation horizon."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.checks import as_count

Regime = tuple[int, ...]
"""The horizons a policy was trained at, ascending, without repetition."""


def wilson_interval(successes: int, episodes: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval (low, high) of a success probability, within [0, 1].

    Wilson (1927), without continuity correction. Raises EstimatorInputError for no episodes,
    successes outside [0, episodes], or a confidence outside (0, 1).
    """
    won, n = as_count(successes, "successes"), as_count(episodes, "episodes")
    if n == 0 or won > n:
        raise EstimatorInputError(f"{won} successes in {n} episodes give no interval")
    if not 0.0 < confidence < 1.0:
        raise EstimatorInputError(f"confidence: {confidence} is not in (0, 1)")
    z = -NormalDist().inv_cdf((1.0 - confidence) / 2.0)
    share = won / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if won == 0 else max((centre - half) / scale, 0.0)
    high = 1.0 if won == n else min((centre + half) / scale, 1.0)
    return low, high


@dataclass(frozen=True, slots=True)
class HorizonCell:
    """Episodes played and solved at one evaluation horizon by policies of one training regime.

    Horizons in turns. Raises EstimatorInputError for no episodes, or more successes than those.
    """

    regime: Regime
    eval_horizon: int
    episodes: int
    successes: int

    def __post_init__(self) -> None:
        won, n = as_count(self.successes, "successes"), as_count(self.episodes, "episodes")
        if n == 0 or won > n:
            raise EstimatorInputError(f"{won} successes in {n} episodes make no cell")

    @property
    def success_rate(self) -> float:
        """Share of episodes solved."""
        return self.successes / self.episodes

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Wilson interval of the success rate; see `wilson_interval`."""
        return wilson_interval(self.successes, self.episodes, confidence)


@dataclass(frozen=True, slots=True)
class HorizonMatrix:
    """Measured cells, each (regime, evaluation horizon) once; what is not there is not measured."""

    cells: tuple[HorizonCell, ...]

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[Sequence[int], int, int, int]]) -> Self:
        """Matrix of rows (train horizons, eval horizon, episodes, successes), in any order.

        Rows of the same regime and horizon are added up; rows without episodes measure nothing and
        are left out. Raises EstimatorInputError for horizons or counts that are not whole, horizons
        below 1, a regime without horizons, or more successes than episodes.
        """
        counts: dict[tuple[Regime, int], tuple[int, int]] = {}
        for train_horizons, eval_horizon, episodes, successes in rows:
            key = (_regime(train_horizons), _horizon(eval_horizon))
            n, won = as_count(episodes, "episodes"), as_count(successes, "successes")
            if won > n:
                raise EstimatorInputError(f"successes: {won} in {n} episodes")
            if n:
                old_n, old_won = counts.get(key, (0, 0))
                counts[key] = (old_n + n, old_won + won)
        ordered = sorted(counts, key=lambda key: (len(key[0]), *key))
        return cls(tuple(HorizonCell(*key, *counts[key]) for key in ordered))

    @property
    def regimes(self) -> tuple[Regime, ...]:
        """Training regimes: single horizons first, then mixtures, each ascending."""
        return tuple(dict.fromkeys(cell.regime for cell in self.cells))

    @property
    def horizons(self) -> tuple[int, ...]:
        """Evaluation horizons, ascending, turns."""
        return tuple(sorted({cell.eval_horizon for cell in self.cells}))

    def cell(self, regime: Iterable[int], horizon: int) -> HorizonCell | None:
        """The cell of a regime at an evaluation horizon, or None: not measured."""
        wanted = _regime(regime)
        return next(
            (c for c in self.cells if c.regime == wanted and c.eval_horizon == horizon), None
        )

    def diagonality(self) -> float | None:
        """How much success depends on being evaluated at the horizon of training.

        Mean, over regimes of a single horizon, of the success rate at that horizon minus the mean
        success rate at the other measured horizons; in [-1, 1]. None when no such regime was
        measured at its own and at another horizon.
        """
        gaps = []
        for regime in (r for r in self.regimes if len(r) == 1):
            row = [c for c in self.cells if c.regime == regime]
            own = self.cell(regime, regime[0])
            others = [c.success_rate for c in row if c.eval_horizon != regime[0]]
            if own is not None and others:
                gaps.append(own.success_rate - math.fsum(others) / len(others))
        return math.fsum(gaps) / len(gaps) if gaps else None

    def worst_case(self, regime: Iterable[int]) -> HorizonCell | None:
        """The regime's cell with the lowest success rate, the longest horizon among equals.

        None when the regime was not measured.
        """
        wanted = _regime(regime)
        cells = [c for c in self.cells if c.regime == wanted]
        return min(cells, key=lambda c: (c.success_rate, -c.eval_horizon), default=None)


def _regime(horizons: Iterable[int]) -> Regime:
    regime = tuple(sorted({_horizon(horizon) for horizon in horizons}))
    if not regime:
        raise EstimatorInputError("train horizons: a regime needs at least one")
    return regime


def _horizon(value: int) -> int:
    horizon = as_count(value, "horizon")
    if horizon == 0:
        raise EstimatorInputError("horizon: must be positive")
    return horizon
