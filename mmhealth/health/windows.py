"""Measures the steps of a run window by window, on an engine."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from mmhealth.engines import Engine
from mmhealth.health.metrics import StepMetrics, step_metrics
from mmhealth.health.step_intervals import Demand
from mmhealth.health.step_reading import read_step
from mmhealth.health.stepcache import StepCache
from mmhealth.health.summary import summarised_metrics
from mmhealth.runlog import StepData, Tail
from mmhealth.runlog.commits import StepKey
from mmhealth.runlog.reduced import Summary
from mmhealth.runlog.source import MovedError, StepSource, read_steps

WINDOW_ROWS = 1 << 19
"""Rows from which on a window ends: what a worker is handed at once."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What is to be measured of each step."""

    loss_ratio: str
    demanded: frozenset[Demand]
    metrics: frozenset[str] | None
    columns: Collection[str]
    """What is read for it."""
    readings: bool = False
    """Whether each step is read for a diagnosis, too."""

    def steps(
        self, tail: Tail, engine: Engine | None, cache: StepCache | None = None
    ) -> Iterator[tuple[StepKey, StepMetrics]]:
        """The steps of a tail, in order: those that are reduced, from their summaries; those that
        ``cache`` knows; others measured here or as windows on an engine. The results are the same.
        """
        reduced = {key: found for key in tail.keys if (found := tail.summary(key)) is not None}
        left = [key for key in tail.keys if key not in reduced]
        measured = self._with_rows(replace(tail, keys=left), engine, cache)
        for key in tail.keys:
            if key in reduced:
                found = reduced.pop(key)
                yield key, self._summarised(found)
            else:
                yield next(measured)

    def _with_rows(
        self, tail: Tail, engine: Engine | None, cache: StepCache | None
    ) -> Iterator[tuple[StepKey, StepMetrics]]:
        if cache is None:
            for key, (found, _) in zip(tail.keys, self._measured(tail, engine), strict=True):
                yield key, found
            return
        names = {key: cache.key(tail.source(key)) for key in tail.keys}
        known = {key: cache.get(name) for key, name in names.items()}
        unknown = [key for key in tail.keys if known[key] is None]
        measured = self._measured(replace(tail, keys=unknown), engine)
        for key in tail.keys:
            if (cached := known.pop(key)) is not None:
                yield key, cached
                continue
            found, of_rows = next(measured)
            if of_rows and found.values["complete"]:
                cache.put(names[key], found)
            yield key, found

    def _measured(self, tail: Tail, engine: Engine | None) -> Iterator[tuple[StepMetrics, bool]]:
        """Metrics, and whether they are of rows: a step may be reduced while others are read."""
        if engine is None:
            yield from map(self.step, tail.read(self.columns))
            return
        sources = map(tail.source, tail.keys)
        windows = (_Window(tuple(window), self) for window in _windows(sources))
        done = 0
        for found in engine.map(_measure, windows):
            if isinstance(found, _Moved):
                here = tail.keys[done : done + found.steps]
                yield from (self.step(tail.build(key, self.columns)) for key in here)
                done += found.steps
            else:
                yield from found
                done += len(found)

    def step(self, data: StepData) -> tuple[StepMetrics, bool]:
        """Of one step; and whether they are of its rows."""
        if data.reduced is not None and data.measured is not None:
            return self._summarised((data.reduced, data.measured)), False
        found = step_metrics(data, self.loss_ratio, self.demanded, self.metrics)
        if self.readings:
            found = replace(found, reading=read_step(data, self.loss_ratio))
        return found, True

    def _summarised(self, summary: Summary) -> StepMetrics:
        return summarised_metrics(*summary, self.demanded, self.metrics, readings=self.readings)


@dataclass(frozen=True, slots=True)
class _Moved:
    """A window whose rows are not where they were: whoever asked is to read them."""

    steps: int


@dataclass(frozen=True, slots=True)
class _Window:
    """Neighbouring steps, as one worker measures them."""

    sources: Sequence[StepSource]
    measure: Measure


def _windows(sources: Iterator[StepSource]) -> Iterator[list[StepSource]]:
    window: list[StepSource] = []
    rows = 0
    for source in sources:
        window.append(source)
        rows += sum(place.num_rows for place in source.places.values())
        if rows >= WINDOW_ROWS:
            yield window
            window, rows = [], 0
    if window:
        yield window


def _measure(window: _Window) -> list[tuple[StepMetrics, bool]] | _Moved:
    try:
        return list(map(window.measure.step, read_steps(window.sources, window.measure.columns)))
    except MovedError:
        return _Moved(len(window.sources))
