"""One reward out of components, constraints and bonuses: where interventions I and IV act."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmhealth.interventions import ConstraintTable, ReliabilitySchedule, StagedObjectives
from mmhealth.interventions.composition import compose
from mmhealth.reference.config import TrainConfig
from mmhealth.reference.environment import Outcome
from mmhealth.reference.late import LateValues
from mmhealth.reference.ranks import Ranks

Weights = Mapping[str, float]
Array = npt.NDArray[np.float64]


class RewardComposer:
    """Rewards of one step after another: (rows,), or (rows, turns) where the environment says so.

    A component that is still pending (NaN) leaves the others, at weights that keep their sum.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._loop = config.loop
        fixes = config.fixes
        self.schedule: StagedObjectives | ReliabilitySchedule | None = None
        if fixes.reliability is not None:
            self.schedule = ReliabilitySchedule(
                config.loop.reward_weights, fixes.reliability, verifiable={"verifiable"}
            )
        elif fixes.staged is not None:
            self.schedule = StagedObjectives(config.steps, fixes.staged)
        self._soft = ConstraintTable(fixes.constraints) if fixes.constraints else None

    def weights(self, step: int) -> Weights:
        """Weight of each component in ``step``."""
        if self.schedule is None:
            return self._loop.reward_weights
        return {**self._loop.reward_weights, **self.schedule.weights(step)}

    def scalars(self, step: int) -> dict[str, float]:
        """What a schedule and annealed bonuses weigh in ``step``, for the log."""
        scalars: dict[str, float] = {}
        if self.schedule is not None:
            weights = self.schedule.weights(step)
            scalars |= {f"reward_weight_{name}": weight for name, weight in weights.items()}
        for constraint in self._soft or ():
            scalars[f"beta_{constraint.name}"] = constraint.beta(step)
        return scalars

    def floor_active(self, step: int) -> bool:
        """Whether an entropy floor has something to protect: rewards are still being introduced."""
        return self.schedule is None or self.schedule.floor_active(step)

    def hear(self, step: int, outcome: Outcome, known: Mapping[str, Tensor], ranks: Ranks) -> None:
        """Learn from what raters said at once of the rows of all ranks."""
        if not isinstance(self.schedule, ReliabilitySchedule):
            return
        for name, ratings in outcome.ratings.items():
            here = ~known[name].isnan()
            confidence = outcome.confidence.get(name, torch.zeros(len(here), 0))
            self._observe(
                step,
                name,
                ranks.whole(ratings[here])[0].double().numpy(),
                ranks.whole(confidence[here])[0].double().numpy(),
            )

    def hear_late(self, step: int, late: Sequence[LateValues]) -> None:
        """Learn from what raters said of earlier steps."""
        for one in late:
            self._observe(step, one.component, one.ratings, one.confidence)

    def _observe(self, step: int, name: str, ratings: Array, confidence: Array) -> None:
        if isinstance(self.schedule, ReliabilitySchedule) and len(ratings):
            self.schedule.observe(
                step,
                name,
                ratings=ratings if ratings.size else None,
                confidence=confidence if confidence.size else None,
            )

    def compose(self, step: int, outcome: Outcome, known: Mapping[str, Tensor]) -> Tensor:
        """Reward of the rows; ``known`` are the components with NaN where they are pending."""
        weights = {name: self.weights(step).get(name, 1.0) for name in known}
        every = sum(weights.values())
        wide = any(part.ndim == 2 for part in (*known.values(), *outcome.distances.values()))
        parts = {name: _at_the_end(values, outcome, wide) for name, values in known.items()}
        shape = next(iter(parts.values())).shape
        if not every > 0:
            return torch.zeros(shape) + self._constraints(step, outcome)
        columns = {name: part.flatten().double().numpy() for name, part in parts.items()}
        total = torch.as_tensor(every * compose(weights, columns)).view(shape)
        if bool(total.isnan().any()):
            raise ValueError(
                f"step {step}: some rows have no reward yet, every component that has a weight is "
                "pending; give weight to one that is known at once"
            )
        return total.float() + self._constraints(step, outcome)

    def _constraints(self, step: int, outcome: Outcome) -> Tensor:
        if self._soft is not None:
            arrays = {name: values.double().numpy() for name, values in outcome.distances.items()}
            bonuses = {name: values.double().numpy() for name, values in outcome.bonuses.items()}
            gained = self._soft.bonus(step, bonuses) if bonuses else 0.0
            lost = sum(np.nan_to_num(self._soft.penalty({n: d})) for n, d in arrays.items())
            return torch.as_tensor(np.asarray(lost + gained), dtype=torch.float32)
        violated = [(values > 0).float() for values in outcome.distances.values()]
        if not violated or not self._loop.violation_cost:
            return torch.zeros(())
        return -self._loop.violation_cost * torch.stack(violated).sum(0)


def _at_the_end(values: Tensor, outcome: Outcome, wide: bool) -> Tensor:
    """(rows,) rewards as (rows, turns) earned in the last one, if others are (rows, turns)."""
    if not wide or values.ndim == 2:
        return values
    turns = next(
        part.shape[1]
        for part in (*outcome.rewards.values(), *outcome.distances.values())
        if part.ndim == 2
    )
    spread = torch.zeros(len(values), turns)
    spread[:, -1] = values
    return spread
