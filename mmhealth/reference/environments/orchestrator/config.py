"""Size and difficulty of the orchestrator's world."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from mmhealth.reference.environments.orchestrator.world import Orchestrator


@dataclass(kw_only=True, slots=True)
class OrchestratorConfig:
    """Size and difficulty of the environment; shares are made exact over the prompts of a run."""

    families: int = 5
    """Tool families; the prompts of a family share its tool and its rule."""
    prompts_per_family: int = 3
    """Prompts of a family; the last one is an exception to its rule."""
    popular_families: int = 2
    """Families whose right tool is the popular one."""
    horizons: tuple[int, ...] = (6, 10, 16, 25)
    """Budgets in turns; two of them go to the tool and the call."""

    slots: int = 5
    """Syntax tokens in a call, and answers as many."""
    need: tuple[int, int] = (3, 4)
    """Range of the right answers that a prompt asks for."""
    private_features: int = 4
    """Faint features that tell the prompts of a family apart."""
    private_scale: float = 0.5
    """Norm of them."""
    length: tuple[int, int] = (100, 1960)
    """Range of the argument tokens of a call; log-uniform over the prompts."""
    syntax_slip: int = 1
    """Wrong syntax tokens with which a call still parses."""

    limit: tuple[float, float] = (2.4, 7.0)
    """Range of the load that a prompt allows in a turn."""
    unit_load: tuple[float, float] = (0.6, 2.0)
    """Range of the load of one sub-agent, drawn anew every turn."""
    load_noise: float = 0.1
    """Spread of the logarithm of a load around what was foreseen."""
    pace: tuple[float, float] = (0.35, 0.65)
    """Range of the work asked for, as a share of what full width in every turn would finish."""
    finish: float = 0.92
    """Probability that a sub-agent finishes its subtask under a fresh plan."""
    plan_lasts: int = 4
    """Turns of work before a plan begins to go stale."""
    stale: float = 0.75
    """Factor by which that probability falls with every further turn."""

    source_shares: tuple[float, ...] = (0.65, 0.23, 0.12)
    """Shares of the sources verifier, human and implicit among the prompts."""
    source_scales: tuple[float, ...] = (1.0, 2.0, 4.0)
    """Rating of a perfect episode, by source."""
    source_noise: tuple[float, ...] = (0.05, 0.2, 3.0)
    """Noise of a rating, by source."""
    surface: float = 0.5
    """Quality that raters see in a call of the popular tool that does not parse."""
    late_share: float = 0.1
    """Share of the human and implicit ratings that arrive late."""
    late_steps: int = 3
    """Steps by which they are late."""

    def build(self, generator: torch.Generator) -> "Orchestrator":
        """The prompts of one run."""
        from mmhealth.reference.environments.orchestrator.world import Orchestrator

        return Orchestrator(self, generator)
