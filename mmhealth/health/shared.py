"""What many steps say alike, held once."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from mmhealth.health.metrics import StepMetrics

Value = TypeVar("Value")
_MOST = 1 << 12
"""Different ones that are remembered: a run in which none comes again costs no more than that."""


@dataclass(slots=True)
class Shared:
    """Reasons and counts of rows of the steps of a run: few differ, and each takes a kilobyte."""

    _known: dict[tuple[object, ...], dict[str, object]] = field(default_factory=dict)
    _values: dict[tuple[Any, ...], tuple[Any, ...]] = field(default_factory=dict)

    def share(self, metrics: StepMetrics) -> StepMetrics:
        """The same, with what steps before said alike in place of its own."""
        reading = metrics.reading
        if reading is not None:
            alike = (reading.known, reading.horizons, reading.names)
            known, horizons, names = (self._values.setdefault(one, one) for one in alike)
            reading = replace(reading, known=known, horizons=horizons, names=names)
        reasons, rows = self._of(metrics.reasons), self._of(metrics.rows)
        return replace(metrics, reasons=reasons, rows=rows, reading=reading)

    def _of(self, own: Mapping[str, Value]) -> dict[str, Value]:
        key = (*own.keys(), *own.values())
        if len(self._known) >= _MOST:
            self._known.clear()
        return self._known.setdefault(key, dict(own))  # type: ignore[return-value]
