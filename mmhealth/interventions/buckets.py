"""Per-bucket normalisation: every bucket of the batch gets the same weight in the update.

Per-task normalisation is the textbook's answer that Challapally (2026) found wanting, because it
ignores the variance within a task; with capabilities or modalities as labels the same code compares
the two groupings. Cost: two numbers a bucket; one pass. Bias: the objective is reweighted.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mmhealth.interventions.arrays import FloatArray, labels, mask, vector
from mmhealth.interventions.moments import SecondMoments, divide


class BucketNormalizer:
    """Divides advantages by the root mean square of their bucket over recent batches.

    Args:
        decay: weight of the past, per batch in which the bucket occurs; 0 = this batch alone.
        equal_share: also give every bucket of a batch the same sum of squares, however many rows it
            has, with the mean square of the batch unchanged; else a bucket counts by its rows.
        min_rows: a bucket with fewer rows is topped up with rows of the pooled value.
        floor: smallest divisor as a fraction of the pooled root mean square.

    Raises ValueError for settings out of range.
    """

    def __init__(
        self,
        decay: float = 0.9,
        *,
        equal_share: bool = False,
        min_rows: float = 0.0,
        floor: float = 0.0,
    ) -> None:
        self.equal_share = equal_share
        self._moments = SecondMoments(decay, min_rows, floor)

    def normalise(
        self,
        advantage: npt.ArrayLike,
        bucket: npt.ArrayLike,
        *,
        observed: npt.ArrayLike | None = None,
    ) -> FloatArray:
        """Normalised advantages (rows,), after the scales have taken the observed rows in.

        Args:
            advantage: (rows,).
            bucket: (rows,) labels, text or whole numbers.
            observed: (rows,) bool, the rows that the scales learn from; default all.

        A zero advantage stays zero; a bucket never observed has the pooled scale. Raises ValueError
        for NaN or infinite values, missing labels, differing shapes, and where no scale is known.
        """
        values = vector(advantage, "advantage")
        names, index = labels(bucket, "bucket", len(values))
        learn = mask(observed, "observed", len(values))
        self._moments.update(values[learn], names, index[learn])
        scale = np.array([self._moments.sigma(name) for name in names], dtype=np.float64)
        if self.equal_share:
            scale = scale * np.sqrt(np.bincount(index) * (len(names) / max(len(values), 1)))
        return divide(values, scale[index])

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: plain values only."""
        return self._moments.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; the settings stay those of construction."""
        self._moments.load_state_dict(state)
