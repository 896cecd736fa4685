"""What a step has to say: the only thing that leaves the loop."""

from dataclasses import dataclass, field

from mmhealth.reference.describe import Columns
from mmhealth.reference.late import LateValues


@dataclass(kw_only=True, slots=True)
class Evaluation:
    """Held-out episodes at one horizon."""

    horizon: int
    """Budget of turns."""
    episodes: int
    """Episodes played."""
    successes: int
    """Those that were solved."""
    train_horizons: list[int]
    """Horizons that the policy is trained at."""


@dataclass(kw_only=True, slots=True)
class StepLog:
    """Everything a step has to say; `mmhealth.reference.recording` writes it down."""

    step: int
    """The step."""
    trajectories: Columns
    """Columns of the trajectories table: sampled rows, then injected ones."""
    updates: list[Columns]
    """Columns of the updates table, one part an update."""
    scalars: dict[str, float]
    """Further numbers of the step."""
    evaluations: list[Evaluation] = field(default_factory=list)
    """Held-out evaluations after the step."""
    late: list[LateValues] = field(default_factory=list)
    """Reward components of earlier steps that became known."""
    control: str = "ess_adaptive"
    """Who anchors and repairs: ``ess_adaptive`` or ``unified``."""
    switched: bool | None = None
    """True: the control came on in this step; False: it went off; None: no change."""
