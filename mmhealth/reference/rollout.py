"""Plays episodes with a policy."""

import torch
from torch import Tensor

from mmhealth.reference.environment import Environment, Outcome, Turn
from mmhealth.reference.episodes import Episodes
from mmhealth.reference.policy import Policy, entropy, sample


@torch.no_grad()
def roll_out(
    policy: Policy,
    environment: Environment,
    *,
    prompt: Tensor,
    horizon: Tensor,
    updates: int,
    generator: torch.Generator,
) -> tuple[Episodes, Outcome]:
    """Play one episode a row: prompt (rows,) int64, horizon (rows,) int64.

    ``updates`` is the number of optimizer updates the policy has seen.
    """
    play = environment.play(prompt, horizon, generator)
    turns: list[Turn] = []
    actions: list[Tensor] = []
    log_prob = torch.zeros(len(prompt), dtype=torch.float64)
    total, total_strategic = torch.zeros_like(log_prob), torch.zeros_like(log_prob)
    while (turn := play.turn()) is not None:
        row = turn.valid.nonzero()[:, 0]
        allowed = None if turn.allowed is None else turn.allowed[turn.valid]
        log_probs = policy(turn.observations[turn.valid], allowed)
        chosen = sample(log_probs, generator)
        log_prob.index_add_(0, row, log_probs.gather(1, chosen[:, None]).squeeze(1))
        surprise = torch.zeros_like(log_prob).index_add_(0, row, entropy(log_probs))
        total += surprise
        if turn.strategic:
            total_strategic += surprise
        acted = torch.zeros(turn.valid.shape, dtype=torch.int64)
        acted[turn.valid] = chosen
        turns.append(turn)
        actions.append(acted)
        play.act(acted)
    valid = torch.cat([turn.valid for turn in turns], 1)
    strategic = torch.cat([turn.valid & turn.strategic for turn in turns], 1)
    widths = torch.tensor([turn.valid.shape[1] for turn in turns])
    number = torch.arange(len(turns)).repeat_interleave(widths)
    episodes = Episodes(
        prompt=prompt,
        horizon=horizon,
        observations=torch.cat([turn.observations for turn in turns], 1),
        allowed=_allowed(turns, environment.choices),
        valid=valid,
        strategic=strategic,
        turn=number.expand(len(prompt), -1),
        actions=torch.cat(actions, 1),
        log_prob=log_prob,
        entropy=total / valid.sum(1).clamp(min=1),
        strategic_entropy=total_strategic / strategic.sum(1),
        sampled_at=torch.full_like(prompt, updates),
    )
    return episodes, play.outcome()


def _allowed(turns: list[Turn], choices: int) -> Tensor | None:
    if all(turn.allowed is None for turn in turns):
        return None
    everything = [torch.ones(*turn.valid.shape, choices, dtype=torch.bool) for turn in turns]
    return torch.cat(
        [
            every if turn.allowed is None else turn.allowed
            for turn, every in zip(turns, everything, strict=True)
        ],
        1,
    )
