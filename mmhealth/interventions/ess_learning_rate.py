"""A learning rate that shrinks with the effective sample size of the importance weights.

After VCPO: Huang, Zhang, Hu, Yang, Han, *Stable Asynchrony: Variance-Controlled Off-Policy RL for
LLMs* (arXiv 2602.17616): ``lr proportional to sqrt(ESS / B)``, the square-root batch-size rule of
Adam-like optimizers applied to the batch that is really there, with ESS from weights that are not
clipped. The floor and the smoothing are ours. Cost: one pass over the log weights. Bias: none in
the direction of the update; its size now depends on the batch, so steps are no longer exchangeable.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from mmhealth.estimators import ess
from mmhealth.interventions.arrays import as_numpy, fraction


class EssLearningRate:
    """Multiplier ``max(floor, sqrt(ESS / rows))`` of the learning rate.

    ``decay`` smooths ESS / rows over calls (weight of the past; 0 = none). Raises ValueError unless
    ``floor`` lies in [0, 1] and ``decay`` in [0, 1).
    """

    def __init__(self, floor: float = 0.1, decay: float = 0.0) -> None:
        fraction(floor, "floor")
        fraction(decay, "decay", below_one=True)
        self.floor = floor
        self.decay = decay
        self._mean: float | None = None

    def factor(self, log_weight: npt.ArrayLike) -> float:
        """Multiplier in [floor, 1] for an update with raw log weights (rows,), in nats.

        1 on policy. Raises ValueError (`EstimatorInputError`) for no rows, NaN or +inf.
        """
        logs = as_numpy(log_weight)
        share = ess(logs) / len(logs)
        past = share if self._mean is None else self._mean
        self._mean = self.decay * past + (1 - self.decay) * share
        return max(self.floor, math.sqrt(self._mean))

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: plain values only."""
        return {"mean": self._mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; floor and decay stay those of construction."""
        self._mean = None if state["mean"] is None else float(state["mean"])
