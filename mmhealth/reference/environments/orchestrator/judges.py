"""What an episode is worth: a verifiable part, and what two raters say of the rest.

Verifiable is how much of the call is right in form, and how much of the work is done. Raters judge
tool and answers, if the call parses. If it does not they go by its surface, a popular tool, and are
less sure. Ratings come in the scale and noise of the prompt's source, and some of them late.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmhealth.reference.environments.orchestrator.call import Written
from mmhealth.reference.environments.orchestrator.orders import Orders

if TYPE_CHECKING:
    from mmhealth.reference.environments.orchestrator.world import Orchestrator

RATERS = 2
ENOUGH = 0.5
"""Share of right argument tokens with which nothing is lost."""


def verifiable(slots: int, written: Written, orders: Orders) -> Tensor:
    """(rows,) in [0, 1]: syntax, arguments and work, most of that for finishing it."""
    work = 0.3 * orders.done / orders.work + 0.7 * orders.finished.float()
    arguments = (written.arguments / ENOUGH).clamp(max=1)
    return 0.3 * written.syntax / slots + 0.3 * arguments + 0.4 * work


def quality(
    tool_right: Tensor, enough: Tensor, popular: Tensor, parses: Tensor, surface: float
) -> Tensor:
    """(rows,) in [0, 1]: what a rater sees in an episode."""
    seen = tool_right * (0.4 + 0.6 * enough)
    return torch.where(parses, seen, surface * popular)


def rate(
    world: "Orchestrator", prompt: Tensor, seen: Tensor, parses: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Ratings (rows, raters), confidence and delay in steps (rows,) of what is seen (rows,)."""
    config = world.config
    source = world.source[prompt]
    scale = torch.tensor(config.source_scales)[source]
    noise = torch.tensor(config.source_noise)[source] * torch.where(parses, 1.0, 2.0)
    own = torch.randn(len(prompt), RATERS, generator=generator)
    ratings = (scale * seen)[:, None] + noise[:, None] * own
    doubt = 0.1 * torch.rand(len(prompt), generator=generator)
    confidence = torch.where(parses, 0.95, 0.4) - doubt
    late = torch.rand(len(prompt), generator=generator) < config.late_share
    delay = torch.where(late & (source > 0), config.late_steps, 0)
    return ratings, confidence, delay
