"""F4: a hard penalty empties the neighbourhood of a boundary; a softened one is worked at.

`baseline` and `fixes` have a load limit, from which the policy flees into serial work;
`needless_baseline` and `needless_fixes` a latency limit, from which it flees into sub-agents that
nobody needs.

World, loop and hard cost were chosen on the baseline alone (seeds 0-9, latency 0-2) and frozen
before any fix was run; the constraints' scales, widths and bonuses were tuned on seeds 0-3 and 1-2.
"""

from mmhealth.interventions import Constraint
from mmhealth.reference.config import Fixes, LoopConfig, TrainConfig
from mmhealth.reference.environments.width_limits import WidthLimitsConfig


def baseline() -> TrainConfig:
    """A load limit; every violation costs more than the whole task is worth."""
    return _hard(WidthLimitsConfig())


def fixes() -> dict[str, Fixes]:
    """A softplus penalty, and an annealed bonus for work in parallel."""
    load = Constraint(name="load", scale=2.0, width=0.15, margin=0.2, beta0=2.0, decay_steps=25.0)
    return {"soft": Fixes(constraints=(load,))}


def needless_baseline() -> TrainConfig:
    """A latency limit, sub-agents that often fail, and a pool for few more than needed."""
    return _hard(
        WidthLimitsConfig(
            constraint="latency", work_low=0.15, work_high=0.3, reliability=0.7, pool=1.8
        )
    )


def needless_fixes() -> dict[str, Fixes]:
    """A softplus penalty, and an annealed bonus for starting no more than there is to do."""
    latency = Constraint(
        name="latency", scale=1.0, width=0.3, margin=0.4, beta0=4.0, decay_steps=40.0
    )
    return {"soft": Fixes(constraints=(latency,))}


def _hard(environment: WidthLimitsConfig) -> TrainConfig:
    return TrainConfig(
        environment=environment,
        steps=120,
        loop=LoopConfig(
            group_size=8,
            hidden=32,
            learning_rate=0.01,
            advantage="to_go",
            entropy_bonus=0.03,
            violation_cost=12.0,
        ),
    )
