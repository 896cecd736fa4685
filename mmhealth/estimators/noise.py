"""Gradient noise: how much of an update is signal, from norms and cosines alone.

Trajectory i of an update of n rows has the gradient G_i, with a_i = |G_i| and the cosine c_i with
G = sum_i G_i, |G| = sum a_i c_i. With mu and Sigma the mean and the covariance of G_i,

    |mu|^2 = (|G|^2 - sum a_i^2) / (n (n - 1))      mean of G_i . G_j over all pairs: a U-statistic
    tr Sigma = mean a_i^2 - |mu|^2                  trace of the sample covariance
    noise scale = tr Sigma / |mu|^2                 trajectories: the batch whose noise equals its
                                                    signal, B_simple of McCandlish et al. (2018,
                                                    arXiv 1812.06162)
    signal-to-noise ratio = n |mu|^2 / tr Sigma     of the update: |E G|^2 over tr Cov G

Both moments are unbiased for independent rows, so |mu|^2 can come out below 0: then the batch does
not *resolve* the mean gradient, and the noise scale is infinite. The ratio is given as it comes
out, below 0 too: clipped, its mean over steps would be too high.

**Interval.** Without row i, |G - G_i|^2 = |G|^2 - 2 a_i c_i |G| + a_i^2, so the delete-one
jackknife is exact. It is taken of |mu|^2 / tr Sigma, which has no bounds to speak of; the noise
scale is its reciprocal, with an infinite upper end where the interval reaches 0.

**Groups.** Rows of one prompt are not independent, and all of this takes them to be. With GRPO's
advantage (reward minus the mean of k) and scores of mean 0 (on policy, summed over tokens), a pair
within a group has the mean (1 - 2/k + 2/k^2) |h|^2, h the gradient of its prompt, and one between
groups (1 - 1/k)^2 |E h|^2. So the pairs within groups, a share (k - 1) / (n - 1) of all, lift
|mu|^2 where prompts differ, and the noise scale comes out too small. Where the scores of a prompt
have a mean of their own (length-normalised terms, stale samples), the advantages, which sum to 0,
are correlated by -1 / (k - 1) and pull |mu|^2 down by it. To leave such pairs out, or one group at
a time, takes the norm of each group's summed gradient, which norms and cosines of rows do not tell:
so there is no jackknife by group. Read the interval as a lower limit of the uncertainty; one wholly
below 0 says that rows pull against each other, as independent ones do not.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mmhealth.errors import EstimatorInputError
from mmhealth.estimators.alignment import AlignedRows, aligned_rows
from mmhealth.estimators.checks import FloatArray
from mmhealth.estimators.jackknife import Jackknife

MIN_ROWS = 3
"""Fewest rows of an update: without one of them there must still be a pair."""
_ROUNDING = 1e-12
"""Spread, as a part of mean a_i^2, that is rounding noise."""


@dataclass(frozen=True, slots=True, eq=False)
class GradientNoise:
    """Signal and noise of an update, or of several taken together; see `gradient_noise`."""

    rows: int
    updates: int
    mean_square: float
    """|mu|^2, unbiased: below 0 where the mean gradient is not resolved. Unit of a_i squared."""
    spread: float
    """tr Sigma, unbiased, >= 0. Unit of a_i squared."""
    _ratio: Jackknife
    """|mu|^2 / tr Sigma and what it is without each row; infinite without spread."""

    @property
    def snr(self) -> float:
        """Signal-to-noise ratio of an update of its rows; inf where gradients do not differ.

        At 1 the batch is as large as the noise scale; below 0 the batch resolves no signal.
        """
        return self.rows / self.updates * self._ratio.estimate

    @property
    def noise_scale(self) -> float:
        """Simple noise scale, trajectories: 0 without spread, inf where |mu|^2 is not resolved."""
        return _reciprocal(self._ratio.estimate)

    def snr_interval(self, level: float = 0.9) -> tuple[float, float]:
        """Interval of the signal-to-noise ratio; what of it lies below 0 is out of the question.

        Raises EstimatorInputError where gradients do not differ, or all but one do not.
        """
        if not 0.0 < level < 1.0:
            raise EstimatorInputError(f"level: {level} is not in (0, 1)")
        if not math.isfinite(self._ratio.estimate):
            raise EstimatorInputError("the gradients do not differ: there is no noise")
        if not self._ratio.defined:
            raise EstimatorInputError("without one of the rows the other gradients do not differ")
        low, high = self._ratio.interval(level)
        per_update = self.rows / self.updates
        return low * per_update, high * per_update

    def noise_scale_interval(self, level: float = 0.9) -> tuple[float, float]:
        """Interval of the noise scale, trajectories; an end is inf where |mu|^2 is not resolved.

        Raises EstimatorInputError as `snr_interval` does.
        """
        low, high = self.snr_interval(level)
        per_update = self.rows / self.updates
        return _reciprocal(high / per_update), _reciprocal(low / per_update)


def gradient_noise(
    norms: ArrayLike, cosines: ArrayLike, updates: ArrayLike | None = None
) -> GradientNoise:
    """Signal and noise of complete updates from norms and cosines with the whole update (n,).

    ``updates`` (n,): which update a row is of, integers or text; None: all of one. Of several, each
    update's moments count by its rows. That is consistent for the ratios even where the updates
    are scaled differently; rows are taken to be independent across updates, too. The cosine of a
    norm of 0 is not looked at.

    Raises EstimatorInputError for empty or non-finite input, negative norms, norms that are all 0,
    lengths that differ, cosines that no update can have, or an update of fewer than three rows.
    """
    rows = aligned_rows(norms, cosines, updates)
    if rows.rows.min() < MIN_ROWS:
        raise EstimatorInputError(
            f"updates: one has {rows.rows.min():.0f} rows, its noise needs {MIN_ROWS}"
        )
    n = rows.norms.size
    signals, spreads = _moments(rows.rows, rows.total**2, rows.square)
    signal, spread = np.array(signals.sum() / n), np.array(spreads.sum() / n)
    floor = _ROUNDING * float(rows.square.sum()) / n
    without = _without_one(rows, signals, spreads)
    return GradientNoise(
        rows=n,
        updates=rows.rows.size,
        mean_square=float(signal) * rows.largest * rows.largest,
        spread=float(spread if spread > floor else 0.0) * rows.largest * rows.largest,
        _ratio=Jackknife(float(_ratio(signal, spread, floor)), _ratio(*without, floor)),
    )


def _moments(
    rows: FloatArray, total_sq: FloatArray, square: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """|mu|^2 and tr Sigma of updates, each times its rows."""
    signal = (total_sq - square) / (rows - 1)
    spread = np.maximum(square * rows - total_sq, 0.0) / (rows - 1)
    return np.asarray(signal, np.float64), np.asarray(spread, np.float64)


def _without_one(
    rows: AlignedRows, signals: FloatArray, spreads: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """|mu|^2 and tr Sigma (n,) without each row in turn."""
    of = rows.codes
    total, norms = rows.total[of], rows.norms
    total_sq = np.maximum(total**2 - 2 * norms * rows.cosines * total + norms**2, 0.0)
    square = np.maximum(rows.square[of] - norms**2, 0.0)
    signal, spread = _moments(rows.rows[of] - 1, total_sq, square)
    others = norms.size - 1
    return (
        (signals.sum() - signals[of] + signal) / others,
        (spreads.sum() - spreads[of] + spread) / others,
    )


def _ratio(signal: FloatArray, spread: FloatArray, floor: float) -> FloatArray:
    """|mu|^2 / tr Sigma; infinite without spread."""
    ratio = np.full(np.shape(spread), math.inf)
    np.divide(signal, spread, out=ratio, where=np.greater(spread, floor))
    return ratio


def _reciprocal(ratio: float) -> float:
    if ratio == math.inf:
        return 0.0
    return 1 / ratio if ratio > 0 else math.inf
