"""Measures the steps of a run window by window, on an engine."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from mmhealth.engines import Engine
from mmhealth.health.metrics import StepMetrics, step_metrics
from mmhealth.health.step_intervals import Demand
from mmhealth.runlog import StepData, Tail
from mmhealth.runlog.commits import StepKey
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

    def steps(self, tail: Tail, engine: Engine | None) -> Iterator[tuple[StepKey, StepMetrics]]:
        """The steps of a tail, in order: here, or as windows on an engine. The results are the
        same."""
        if engine is None:
            yield from zip(tail.keys, map(self.step, tail.read(self.columns)), strict=True)
            return
        sources = map(tail.source, tail.keys)
        windows = (_Window(tuple(window), self) for window in _windows(sources))
        keys = iter(tail.keys)
        for found in engine.map(_measure, windows):
            if isinstance(found, _Moved):
                here = list(islice(keys, found.steps))
                yield from ((key, self.step(tail.build(key, self.columns))) for key in here)
            else:
                yield from zip(islice(keys, len(found)), found, strict=True)

    def step(self, data: StepData) -> StepMetrics:
        """Of one step."""
        return step_metrics(data, self.loss_ratio, self.demanded, self.metrics)


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


def _measure(window: _Window) -> list[StepMetrics] | _Moved:
    try:
        return list(map(window.measure.step, read_steps(window.sources, window.measure.columns)))
    except MovedError:
        return _Moved(len(window.sources))
