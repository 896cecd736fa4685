"""Two runs at the same steps: means of a metric, and held-out success with its difference."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from mmhealth.estimators import newcombe_interval, wilson_interval
from mmhealth.health.heldout import own_evaluations
from mmhealth.runlog import Run

LAST_STEPS = 10
"""Steps whose mean stands for a metric, where nothing else is asked for."""


def common_steps(first: pl.DataFrame, second: pl.DataFrame, last: int) -> list[int]:
    """The last ``last`` steps that both timelines have, ascending."""
    return sorted(set(first["step"]) & set(second["step"]))[-last:]


def values_at(frame: pl.DataFrame, metric: str, steps: Sequence[int]) -> dict[int, float]:
    """The metric at those of the steps at which it is known and finite."""
    rows = frame.filter(pl.col("step").is_in(list(steps))).select("step", metric).iter_rows()
    return {step: float(v) for step, v in rows if v is not None and math.isfinite(v)}


def mean_of(values: Iterable[float]) -> float:
    """Mean of at least one value, whatever their order."""
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)


def is_enough(known: int, steps: int) -> bool:
    """Whether a mean over ``known`` of the steps may stand for them: over at least half of them."""
    return known > 0 and 2 * known >= steps


@dataclass(frozen=True, slots=True)
class Share:
    """Episodes played and solved at one evaluation."""

    successes: int
    episodes: int

    @property
    def rate(self) -> float:
        """Share of episodes solved."""
        return self.successes / self.episodes

    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the success rate."""
        return wilson_interval(self.successes, self.episodes)

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.rate:.3f} [{low:.3f} {high:.3f}]"


Shares = dict[tuple[int | None, int], Share]
"""Evaluations of a run by (evaluation horizon, step); the horizon is None where not logged."""


Told = Literal["first", "second", "not told apart"]


@dataclass(frozen=True, slots=True)
class HeldOutPair:
    """Held-out success of two runs at one horizon, at the last step at which both have it."""

    step: int
    eval_horizon: int | None
    first: Share
    second: Share

    @property
    def difference(self) -> float:
        """Success rate of the second minus that of the first."""
        return self.second.rate - self.first.rate

    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference (`mmhealth.estimators.newcombe_interval`)."""
        second, first = self.second, self.first
        return newcombe_interval(second.successes, second.episodes, first.successes, first.episodes)

    @property
    def higher(self) -> Told:
        """Whose success is higher beyond the interval of the difference."""
        low, high = self.interval()
        if low > 0:
            return "second"
        return "first" if high < 0 else "not told apart"


def held_out_shares(run: Run, up_to: int | None = None) -> Shares:
    """Evaluations of the run's own policy; those of one step and horizon are added up."""
    own = own_evaluations(run.evaluations)
    if own.is_empty():
        return {}
    own = own.filter(pl.col("successes").is_between(0, pl.col("episodes")))
    if up_to is not None:
        own = own.filter(pl.col("step") <= up_to)
    sums = own.group_by("eval_horizon", "step").agg(
        pl.col("successes").sum(), pl.col("episodes").sum()
    )
    return {(horizon, step): Share(won, n) for horizon, step, won, n in sums.iter_rows()}


def held_out_pairs(first: Shares, second: Shares) -> tuple[HeldOutPair, ...]:
    """The last evaluation that both have at each horizon that both have, in order of horizon."""
    both = first.keys() & second.keys()
    return tuple(
        HeldOutPair(step, horizon, first[horizon, step], second[horizon, step])
        for horizon, step in last_steps(both).items()
    )


def last_steps(evaluations: Iterable[tuple[int | None, int]]) -> dict[int | None, int]:
    """The last step of each horizon, in order of horizon; one that is not logged comes last."""
    last: dict[int | None, int] = {}
    for horizon, step in evaluations:
        last[horizon] = max(step, last.get(horizon, step))
    return dict(sorted(last.items(), key=lambda item: (item[0] is None, item[0] or 0)))
