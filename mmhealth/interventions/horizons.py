"""Mixed horizons: every group gets its budget of turns at random, from the first step on.

After Challapally (2026), fifth intervention: no curriculum, because short-horizon training prunes
what long horizons need. Cost: long rollouts are paid for while the policy cannot use them yet.
Bias: the objective is the mean over horizons, each with the same weight in the update, so the best
single-horizon policy is better at its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmhealth.interventions.arrays import FloatArray, labels, vector


class MixedHorizons:
    """Draws horizons, uniformly unless ``weights`` say otherwise.

    Draw number n depends on (seed, n) alone, so a restart goes on exactly. Raises ValueError for
    horizons that are not whole and positive, or weights that do not fit.
    """

    def __init__(
        self,
        horizons: Sequence[int] = (6, 10, 16, 25),
        seed: int = 0,
        *,
        weights: Sequence[float] | None = None,
    ) -> None:
        if not horizons or any(h != int(h) or h < 1 for h in horizons):
            raise ValueError(f"horizons: expected whole numbers above 0, got {tuple(horizons)}")
        shares = vector(weights if weights is not None else [1.0] * len(horizons), "weights")
        if len(shares) != len(horizons) or (shares < 0).any() or not shares.sum() > 0:
            raise ValueError("weights: expected one number of at least 0 for each horizon")
        self.horizons = tuple(int(h) for h in horizons)
        self.seed = seed
        self._shares = shares / shares.sum()
        self._draws = 0

    def sample(self, count: int, group_size: int = 1) -> npt.NDArray[np.int64]:
        """Horizons in turns, (count * group_size,): one for each of ``count`` groups, repeated."""
        rng = np.random.default_rng([self.seed, self._draws])
        self._draws += 1
        drawn = rng.choice(np.array(self.horizons, dtype=np.int64), size=count, p=self._shares)
        return np.repeat(drawn, group_size)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: plain values only."""
        return {"seed": self.seed, "draws": self._draws}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; the horizons stay those of construction."""
        self.seed = int(state["seed"])
        self._draws = int(state["draws"])


def advantages_within_horizon(
    reward: npt.ArrayLike, horizon: npt.ArrayLike, groups: npt.ArrayLike | None = None
) -> FloatArray:
    """Advantages (rows,), standardised among the rows of the same horizon.

    The baseline is the mean reward of the horizon, or with ``groups`` (rows,) that of the group;
    the divisor is the root mean square of what is left, over the horizon. Where all rewards of a
    horizon (or of every group in it) are equal the advantages are 0. Raises ValueError for NaN or
    infinite values and differing lengths.
    """
    rewards = vector(reward, "reward")
    names, at = labels(horizon, "horizon", len(rewards))
    cell = at
    if groups is not None:
        members, member = labels(groups, "groups", len(rewards))
        cell = at * len(members) + member
    left = _centred(rewards, cell)
    count = np.maximum(np.bincount(at, minlength=len(names)), 1)
    spread = np.sqrt(np.bincount(at, left**2, minlength=len(names)) / count)[at]
    return np.divide(left, spread, out=np.zeros_like(left), where=spread > 0)


def _centred(values: FloatArray, cell: npt.NDArray[np.intp]) -> FloatArray:
    """Values minus the mean of their cell: exactly 0 where all of the cell are equal."""
    cells, index = np.unique(cell, return_inverse=True)
    low, high = np.full(len(cells), np.inf), np.full(len(cells), -np.inf)
    np.minimum.at(low, index, values)
    np.maximum.at(high, index, values)
    mean = np.bincount(index, values, minlength=len(cells)) / np.maximum(np.bincount(index), 1)
    return np.where(low[index] == high[index], 0.0, values - mean[index])
