"""F5: what is learned within six turns does not carry to twenty-five.

Environment and loop are those of the feasibility study, whose scans had seen the fix; policies
trained at one horizon confirmed them on seeds 0-9, nothing was moved, and the fix has nothing to
tune. In 120 steps mixed horizons sample about 865,000 decisions, as many as a curriculum of four
equal parts.
"""

from mmhealth.reference.config import Fixes, LoopConfig, TrainConfig
from mmhealth.reference.environments.horizon_budget import HorizonBudgetConfig


def baseline() -> TrainConfig:
    """Trained at horizon 6; ``loop.horizon_schedule`` says otherwise."""
    return TrainConfig(
        environment=HorizonBudgetConfig(),
        steps=120,
        loop=LoopConfig(
            group_size=16,
            hidden=32,
            learning_rate=0.006,
            advantage="horizon",
            entropy_bonus=0.01,
            eval_every=5,
            eval_episodes=512,
        ),
    )


def fixes() -> dict[str, Fixes]:
    """All horizons, drawn uniformly from the first step on."""
    return {"mixed": Fixes(horizons=(6, 10, 16, 25))}
