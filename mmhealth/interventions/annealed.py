"""An annealed auxiliary reward: ``r_total = r_task + beta(t) * r_auxiliary``.

After Challapally (2026), fourth intervention: early in training it points towards a behaviour, such
as parallel work, that the task reward alone does not reach out of a basin; then it fades and the
task reward alone decides. Cost: none, and no state. Bias: the objective is not the task's for a few
``decay_steps``; 5 % of beta0 are left after three of them.
"""

import math

import numpy.typing as npt

from mmhealth.interventions.arrays import FloatArray, not_negative, numbers, positive


class AnnealedReward:
    """``beta(step) = beta0 * exp(-step / decay_steps)``.

    Raises ValueError unless ``beta0`` is at least 0 and ``decay_steps`` above 0.
    """

    def __init__(self, beta0: float, decay_steps: float) -> None:
        not_negative(beta0, "beta0")
        positive(decay_steps, "decay_steps")
        self.beta0 = beta0
        self.decay_steps = decay_steps

    def beta(self, step: int) -> float:
        """Coefficient at ``step``, in units of reward per unit of the auxiliary one."""
        return self.beta0 * math.exp(-step / self.decay_steps)

    def reward(self, step: int, aux: npt.ArrayLike) -> FloatArray:
        """``beta(step) * aux``: what is added to the task reward, in the shape of ``aux``.

        One value a row, or a row and turn. NaN stays NaN. Raises ValueError for infinite values.
        """
        return self.beta(step) * numbers(aux, "aux", pending=True)
