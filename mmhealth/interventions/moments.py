"""Second moments of advantages by label, over the recent batches.

Kept as decayed sums of squares and of rows, so that their ratio is a mean over rows, whatever
number of rows a batch holds. Cost: two numbers a label; one pass over the batch.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mmhealth.interventions.arrays import FloatArray, fraction, not_negative


class SecondMoments:
    """Root mean square of the advantages of each label, and of all rows together.

    Args:
        decay: weight of the past per batch in which the label occurs; 0 = this batch alone.
        min_rows: a label with fewer (decayed) rows is topped up to this number with rows that have
            the pooled second moment.
        floor: smallest value, as a fraction of the pooled one.
    """

    def __init__(self, decay: float, min_rows: float, floor: float) -> None:
        fraction(decay, "decay", below_one=True)
        not_negative(min_rows, "min_rows")
        fraction(floor, "floor")
        self.decay = decay
        self.min_rows = min_rows
        self.floor = floor
        self._pooled = (0.0, 0.0)
        self._labels: dict[str, tuple[float, float]] = {}

    def update(self, advantage: FloatArray, names: list[str], index: npt.NDArray[np.intp]) -> None:
        """Add a batch: advantages (rows,), distinct labels, and each row's label (rows,)."""
        if len(advantage) == 0:
            return
        squares = np.bincount(index, advantage**2, minlength=len(names)).tolist()
        rows = np.bincount(index, minlength=len(names)).tolist()
        self._pooled = self._merged(self._pooled, sum(squares), sum(rows))
        for name, square, count in zip(names, squares, rows, strict=True):
            if count:
                past = self._labels.get(name, (0.0, 0.0))
                self._labels[name] = self._merged(past, square, count)

    def sigma(self, name: str) -> float | None:
        """Root mean square of a label, topped up and floored; the pooled one for a new label.

        None before the first batch.
        """
        pooled_square, pooled_rows = self._pooled
        if pooled_rows == 0:
            return None
        pooled = pooled_square / pooled_rows
        square, rows = self._labels.get(name, (0.0, 0.0))
        missing = max(self.min_rows - rows, 0.0)
        if rows + missing == 0:
            return math.sqrt(pooled)
        own = (square + missing * pooled) / (rows + missing)
        return max(math.sqrt(own), self.floor * math.sqrt(pooled))

    @property
    def pooled(self) -> float | None:
        """Root mean square of all rows; None before the first batch."""
        square, rows = self._pooled
        return math.sqrt(square / rows) if rows else None

    def __contains__(self, name: str) -> bool:
        return name in self._labels

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: plain values only."""
        labels = {name: list(sums) for name, sums in self._labels.items()}
        return {"pooled": list(self._pooled), "labels": labels}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; the settings stay those of construction."""
        square, rows = state["pooled"]
        self._pooled = (float(square), float(rows))
        self._labels = {name: (float(s), float(r)) for name, (s, r) in state["labels"].items()}

    def _merged(self, past: tuple[float, float], square: float, rows: float) -> tuple[float, float]:
        return self.decay * past[0] + square, self.decay * past[1] + rows


def divide(advantage: FloatArray, scale: FloatArray) -> FloatArray:
    """``advantage / scale`` (rows,); a zero advantage stays zero whatever its scale.

    Raises ValueError for another advantage whose scale is 0 or NaN.
    """
    known = scale > 0
    if (~known & (advantage != 0)).any():
        raise ValueError("advantage: no scale is known yet; all observed advantages were 0")
    return np.divide(advantage, scale, out=np.zeros_like(advantage), where=known)
