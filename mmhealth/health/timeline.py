"""The timeline: one row a step, computed the same way for a finished run and for a growing one."""

import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from mmhealth.engines import Engine
from mmhealth.errors import RunUnavailableError
from mmhealth.health.bases import first_weighted, other_basis
from mmhealth.health.metrics import StepMetrics
from mmhealth.health.needs import ALL, columns_of
from mmhealth.health.shared import Shared
from mmhealth.health.step_intervals import Demand
from mmhealth.health.step_reading import reading_columns
from mmhealth.health.stepcache import StepCache
from mmhealth.health.windows import Measure
from mmhealth.runlog import Run

METRICS = (
    "ess_weight",
    "ess_signal",
    "ess_contribution",
    "ess_weight_update",
    "ess_signal_update",
    "ess_contribution_update",
    "ess_weight_nominal",
    "ess_signal_nominal",
    "ess_contribution_nominal",
    "ess_signal_unsolved",
    "ess_contribution_unsolved",
    "ess_signal_ceiling",
    "ess_weight_other",
    "gini_grad_norm",
    "gini_grad_norm_unsolved",
    "top5_share",
    "gradient_snr",
    "gradient_snr_low",
    "gradient_snr_high",
    "noise_scale",
    "noise_scale_low",
    "noise_scale_high",
    "gradient_diversity",
    "opposing_share",
    "baseline_gap",
    "weight_khat",
    "weight_khat_limit",
    "max_weight_share",
    "entropy",
    "strategic_entropy",
    "kl_ref",
    "violated_share",
    "retreat_share",
    "stuck_share",
    "solved_group_share",
    "failed_group_share",
    "dead_group_share",
    "dead_group_share_unsolved",
    "log_ratio_p95",
    "log_ratio_p95_tool",
    "reward",
    "reward_pending",
    "success_rate",
)
"""Metrics that are real numbers or unknown. ``*_update``: over rows that entered an update,
with the weight that the loss multiplied where ``weight_used`` is logged;
``*_nominal``: as a fraction of the nominal batch; ``*_unsolved``: without the groups that are
solved. All other ESS columns are fractions of the sampled rows: those of signal and contribution
count a sampled trajectory that entered no update as one that contributes nothing. ``*_low`` and
``*_high``: ends of the 90 % interval."""

SCHEMA: dict[str, Any] = {
    "step": pl.Int64,
    "attempt": pl.Int64,
    "n": pl.Int64,
    "nominal_batch": pl.Int64,
    "complete": pl.Boolean,
    **dict.fromkeys(METRICS, pl.Float64),
    "nonfinite": pl.Int64,
    "data_gap": pl.Float64,
    "time": pl.Float64,
}
"""Columns of `Timeline.frame`: counts are ``n`` sampled rows and ``nonfinite`` values."""

_UPDATE_SCHEMA: dict[str, Any] = {
    "step": pl.Int64,
    "attempt": pl.Int64,
    "update": pl.Int64,
    "n": pl.Int64,
    "ess_weight": pl.Float64,
    "ess_signal": pl.Float64,
    "ess_contribution": pl.Float64,
}

_SOURCE_SCHEMA: dict[str, Any] = {
    "step": pl.Int64,
    "attempt": pl.Int64,
    "source": pl.String,
    "rows": pl.Int64,
    "share_of_rows": pl.Float64,
    "second_moment": pl.Float64,
    "second_moment_share": pl.Float64,
}


class LivedStep(NamedTuple):
    """A step as one attempt lived it; ordered as they were lived."""

    attempt: int
    step: int


ENTRY = -(1 << 63)
"""``LivedStep(attempt, ENTRY)``: the moment at which an attempt starts, before all its steps."""


class Timeline:
    """Per-step health of a run; `update` takes in what is new.

    A row is a pure function of the step's visible data, so rows computed live equal rows computed
    afterwards; with one exception, which holds live and afterwards alike: once a step, as lived,
    has log weights, later steps without any have no signal ESS, because weights of 1 would be
    another basis. Steps of older attempts that a later one hides stay in `lived`, not in `frame`.

    ``demanded`` are the intervals that each step is to have (`Policy.demanded`): they cost time.
    ``metrics`` are those to compute, all by default: only what they need is read. Raises ValueError
    for one that is not of `METRICS`, nor ``nonfinite``. On an ``engine`` steps are measured window
    by window; without one, here, one after the other. ``cache`` is a folder of steps
    that were measured before (`mmhealth.health.stepcache`). The numbers are the same. With
    ``readings`` each step is read for a diagnosis in the same pass.
    """

    def __init__(
        self,
        run: Run,
        demanded: Collection[Demand] = (),
        metrics: Collection[str] | None = None,
        engine: Engine | None = None,
        cache: Path | None = None,
        *,
        readings: bool = False,
    ) -> None:
        self.run = run
        self.engine = engine
        self.readings = readings
        self.demanded = frozenset(demanded)
        self.metrics = None if metrics is None else _checked(metrics)
        self._cache: StepCache | None = None
        if cache is not None:
            metrics_asked = sorted(self.metrics or ("all",))
            question = (run.loss_ratio, sorted(self.demanded), metrics_asked, readings)
            self._cache = StepCache(cache / run.id, question)
        self.starts: dict[int, int] = {}
        self.lived: dict[LivedStep, StepMetrics] = {}
        self._order: list[LivedStep] = []
        self._measured: dict[LivedStep, StepMetrics] = {}
        self._shared = Shared()
        self._weighted: LivedStep | None = None
        self._frame: pl.DataFrame | None = None

    def update(self) -> LivedStep | None:
        """Read what is new; return the earliest that is new or changed, if anything is.

        That is a step, or with the step `ENTRY` the start of an attempt. Raises
        RunUnavailableError where rows cannot be had just now: the next call tries again.
        """
        tail = self.run.tail()
        ratio, columns = self.run.loss_ratio, self._columns
        measure = Measure(ratio, self.demanded, self.metrics, columns, self.readings)
        changed = []
        begun = time.monotonic()
        try:
            for place, metrics in measure.steps(tail, self.engine, self._cache):
                changed.append(key := LivedStep(place.attempt, place.step))
                if key not in self._measured:
                    insort(self._order, key)
                self._measured[key] = self._shared.share(metrics)
        except RunUnavailableError:
            tail.again.update(tail.keys)
            raise
        if self._cache is not None:
            self._cache.save(time.monotonic() - begun)
        changed = self._fix_basis(changed)
        if tail.starts != self.starts:
            new = [a for a, start in tail.starts.items() if self.starts.get(a) != start]
            changed += [LivedStep(attempt, ENTRY) for attempt in new]
            self.starts = dict(tail.starts)
        if changed:
            self._frame = None
        return min(changed, default=None)

    def lived_after(self, position: LivedStep) -> list[LivedStep]:
        """Steps of the same attempt that come after, in order."""
        first = bisect_right(self._order, position)
        last = bisect_left(self._order, LivedStep(position.attempt + 1, ENTRY), first)
        return self._order[first:last]

    @property
    def frame(self) -> pl.DataFrame:
        """One row a visible step, in order, with the columns of `SCHEMA`."""
        if self._frame is None:
            rows = [metrics.values for _, metrics in self.visible()]
            schema = {name: SCHEMA[name] for name in SCHEMA if self._has(name)}
            self._frame = pl.DataFrame(rows, schema=schema)
        return self._frame

    @property
    def updates(self) -> pl.DataFrame:
        """ESS of every single update."""
        rows = [row for _, metrics in self.visible() for row in metrics.updates]
        return pl.DataFrame(rows, schema=_UPDATE_SCHEMA)

    @property
    def sources(self) -> pl.DataFrame:
        """Second moments of the gradient by source; see `mmhealth.health.second_moments`.

        Steps whose trajectories are all of one source have none.
        """
        rows = [row for _, metrics in self.visible() for row in metrics.sources]
        return pl.DataFrame(rows, schema=_SOURCE_SCHEMA)

    def reason(self, step: int, metric: str) -> str | None:
        """Why a metric of a visible step is null; None when it is not."""
        for key, metrics in self.visible():
            if key.step == step:
                return metrics.reasons.get(metric)
        return None

    def reasons(self) -> dict[str, str]:
        """For each metric that is null in the last step, why."""
        visible = self.visible()
        return dict(visible[-1][1].reasons) if visible else {}

    def is_visible(self, key: LivedStep) -> bool:
        """Whether no later attempt hides the step."""
        return all(key.step < start for a, start in self.starts.items() if a > key.attempt)

    @property
    def _columns(self) -> frozenset[str]:
        metrics = ALL if self.metrics is None else self.metrics
        for metric, _ in self.demanded:
            metrics |= {metric, "ess_signal_unsolved"}
        columns = columns_of(metrics, self.run.loss_ratio)
        return (
            columns | reading_columns(self.run.schema("trajectories")) if self.readings else columns
        )

    def _has(self, column: str) -> bool:
        return self.metrics is None or column not in ALL or column in self.metrics

    def _fix_basis(self, changed: list[LivedStep]) -> list[LivedStep]:
        """Take changed steps over into `lived`; return them and those whose basis they decide."""
        before = self._weighted
        earlier = [key for key in changed if before is None or key <= before]
        if any(key == before or self._measured[key].has_weights for key in earlier):
            first = first_weighted(self.run)
            self._weighted = None if first is None else LivedStep(*first)
        if self._weighted != before:
            earliest = min(key for key in (before, self._weighted) if key is not None)
            later = self._order[bisect_left(self._order, earliest) :]
            changed = changed + [key for key in later if self._measured[key].assumes_weights]
        for key in changed:
            self.lived[key] = self._on_fixed_basis(key)
        return changed

    def _on_fixed_basis(self, key: LivedStep) -> StepMetrics:
        metrics = self._measured[key]
        why = other_basis(self._weighted, *key) if metrics.assumes_weights else None
        return metrics if why is None else metrics.without_signal(why)

    def visible(self) -> list[tuple[LivedStep, StepMetrics]]:
        """The steps that no later attempt hides, in order."""
        visible = [(key, m) for key, m in self.lived.items() if self.is_visible(key)]
        return sorted(visible, key=lambda item: item[0].step)


def _checked(metrics: Collection[str]) -> frozenset[str]:
    unknown = sorted(set(metrics) - ALL)
    if unknown:
        raise ValueError(f"no such metric: {', '.join(unknown)}; those are {sorted(ALL)}")
    return frozenset(metrics)


def build_timeline(
    run: Run,
    metrics: Collection[str] | None = None,
    engine: Engine | None = None,
    *,
    readings: bool = False,
) -> Timeline:
    """The timeline of everything that a run holds now: of all metrics, or of those named."""
    timeline = Timeline(run, metrics=metrics, engine=engine, readings=readings)
    timeline.update()
    return timeline
