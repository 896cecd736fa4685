"""Variance-correcting normalisation: each trajectory's term over sigma_source * sqrt(length).

After Challapally (2026), third intervention. The source's term takes out the magnitude of its
rewards and the noise of its raters; the length's rests on independent contributions of tokens,
under which the variance of a trajectory's gradient grows linearly. Cost: two numbers a source; one
pass. Bias: the objective becomes a reweighted one, in which noisy sources and long trajectories
count for less; and sigma is estimated with the batch it is applied to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmhealth.interventions.arrays import FloatArray, labels, mask, positive, vector
from mmhealth.interventions.moments import SecondMoments, divide


@dataclass(kw_only=True, slots=True)
class VarianceConfig:
    """What is corrected for, and how sigma is estimated."""

    decay: float = 0.9
    """Weight of the past in sigma^2, per batch; 0 = this batch alone."""
    by_source: bool = True
    """Divide by the sigma of the source; otherwise by that of all rows."""
    by_length: bool = True
    """Divide by sqrt(length)."""
    min_rows: float = 32
    """A source with fewer rows is topped up with rows of the pooled sigma (cold start)."""
    floor: float = 0.05
    """Smallest sigma as a fraction of the pooled one: what is solved is not amplified to noise."""
    reference_length: float = 1.0
    """Length at which the length's term is 1. A typical length keeps the size of the advantages,
    where other loss terms or a plain SGD depend on it."""

    def __post_init__(self) -> None:
        SecondMoments(self.decay, self.min_rows, self.floor)
        positive(self.reference_length, "reference_length")


class VarianceCorrection:
    """Divides advantages by ``sigma_source * sqrt(length / reference_length)``.

    sigma_source^2 is the mean squared advantage of the source over recent batches, this one
    included.
    """

    def __init__(self, config: VarianceConfig | None = None) -> None:
        self.config = config or VarianceConfig()
        self._moments = SecondMoments(self.config.decay, self.config.min_rows, self.config.floor)

    def normalise(
        self,
        advantage: npt.ArrayLike,
        source: npt.ArrayLike,
        length: npt.ArrayLike,
        *,
        observed: npt.ArrayLike | None = None,
    ) -> FloatArray:
        """Corrected advantages (rows,), after sigma has taken the observed rows into account.

        Args:
            advantage: (rows,).
            source: (rows,) labels, text or whole numbers.
            length: (rows,) tokens, above 0.
            observed: (rows,) bool, the rows that sigma learns from; default all. Leave out rows
                from a reserve; give all False for a further update on a batch already seen.

        A zero advantage stays zero; a source never observed has the pooled sigma. Raises ValueError
        for NaN or infinite values, missing labels, lengths that are not above 0, differing shapes,
        and where no sigma is known yet.
        """
        values = vector(advantage, "advantage")
        names, index = labels(source, "source", len(values))
        learn = mask(observed, "observed", len(values))
        stretch = self._stretch(length, len(values))
        self._moments.update(values[learn], names, index[learn])
        sigmas = [self._moments.sigma(n) if self.config.by_source else self.pooled for n in names]
        return divide(values, np.array(sigmas, dtype=np.float64)[index] * stretch)

    def sigma(self, source: str) -> float | None:
        """Root mean square advantage that rows of the source are divided by; None: never seen."""
        return self._moments.sigma(source) if source in self._moments else None

    @property
    def pooled(self) -> float | None:
        """Root mean square advantage over all sources; None before the first batch."""
        return self._moments.pooled

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: plain values only."""
        return self._moments.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; the configuration stays that of construction."""
        self._moments.load_state_dict(state)

    def _stretch(self, length: npt.ArrayLike, rows: int) -> FloatArray:
        """The length's term (rows,)."""
        lengths = vector(length, "length", rows)
        if not self.config.by_length:
            return np.ones(rows)
        if (lengths <= 0).any():
            raise ValueError("length: values that are not above 0; leave empty trajectories out")
        return np.sqrt(lengths / self.config.reference_length)
