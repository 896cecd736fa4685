"""Staged objectives: what can be verified is trained first, preferences join later.

After Challapally, *Engineering and algorithmic interventions for multimodal post-training at
Microsoft scale* (2026), first intervention: 30 % of training on verifiable rewards, then a linear
ramp; its companion is `EntropyFloor`. Cost: none to speak of, and no state. Bias: during the warmup
the policy is optimised for a proxy on purpose. The 30 % are the article's, found by hand;
`ReliabilitySchedule` measures instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy.typing as npt

from mmhealth.interventions.arrays import FloatArray, fraction, not_negative, positive
from mmhealth.interventions.composition import compose


@dataclass(kw_only=True, slots=True)
class StagedConfig:
    """When the preference enters, and how much of the reward it becomes."""

    warmup: float = 0.3
    """Fraction of all steps that trains verifiable rewards alone."""
    ramp: float = 0.15
    """Fraction of all steps over which the preference then enters linearly; 0 = at once."""
    preference: float = 0.5
    """Final weight of the preference."""

    def __post_init__(self) -> None:
        fraction(self.warmup, "warmup")
        not_negative(self.ramp, "ramp")
        fraction(self.preference, "preference")


class StagedObjectives:
    """Weights of the components ``verifiable`` and ``preference`` over a training run.

    Raises ValueError unless ``total_steps`` is positive.
    """

    def __init__(self, total_steps: int, config: StagedConfig | None = None) -> None:
        positive(total_steps, "total_steps")
        self.total_steps = total_steps
        self.config = config or StagedConfig()

    def weights(self, step: int) -> dict[str, float]:
        """Weights at ``step``; they sum to 1.

        The preference has ``preference * clip((step / total_steps - warmup) / ramp, 0, 1)``.
        """
        preference = self.config.preference * self._ramped(step)
        return {"verifiable": 1 - preference, "preference": preference}

    def compose(self, step: int, components: Mapping[str, npt.ArrayLike]) -> FloatArray:
        """Reward (rows,) of the components (rows,); NaN = pending, see `composition.compose`."""
        return compose(self.weights(step), components)

    def floor_active(self, step: int) -> bool:
        """Whether the entropy floor belongs to this step: until the ramp has ended."""
        return self._ramped(step) < 1

    def _ramped(self, step: int) -> float:
        past = step / self.total_steps - self.config.warmup
        if self.config.ramp == 0:
            return float(past >= 0)
        return min(max(past / self.config.ramp, 0.0), 1.0)
