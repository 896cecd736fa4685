"""Plays episodes with a policy."""

import torch
from torch import Tensor

from mmhealth.reference.environment import Environment, Outcome, Turn
from mmhealth.reference.episodes import Episodes
from mmhealth.reference.policy import Policy, entropy, sample, sequence_log_prob


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
    total = torch.zeros(len(prompt))
    total_strategic = torch.zeros(len(prompt))
    while (turn := play.turn()) is not None:
        log_probs = policy(turn.observations, turn.allowed)
        chosen = sample(log_probs, generator)
        turns.append(turn)
        actions.append(chosen)
        log_prob += sequence_log_prob(log_probs, chosen, turn.valid)
        surprise = (entropy(log_probs) * turn.valid).sum(1)
        total += surprise
        if turn.strategic:
            total_strategic += surprise
        play.act(chosen)
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
