"""Plays episodes with a policy."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mmhealth.reference.environment import Environment, Outcome, Play, Turn
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
    for turn, log_probs, chosen in _moves(policy, play, generator):
        row = turn.valid.nonzero()[:, 0]
        log_prob.index_add_(0, row, log_probs.gather(1, chosen[:, None]).squeeze(1))
        surprise = torch.zeros_like(log_prob).index_add_(0, row, entropy(log_probs))
        total += surprise
        if turn.strategic:
            total_strategic += surprise
        turns.append(turn)
        actions.append(_acted(turn, chosen))
    valid = torch.cat([turn.valid for turn in turns], 1)
    strategic = torch.cat([turn.valid & turn.strategic for turn in turns], 1)
    widths = torch.tensor([turn.valid.shape[1] for turn in turns])
    spread = [turn.spread() for turn in turns]
    number = torch.arange(len(turns)).repeat_interleave(widths)
    episodes = Episodes(
        prompt=prompt,
        horizon=horizon,
        observations=torch.cat([seen for seen, _ in spread], 1),
        allowed=_allowed([part for _, part in spread], widths, len(prompt), environment.choices),
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


@torch.no_grad()
def outcome_of(
    policy: Policy,
    environment: Environment,
    *,
    prompt: Tensor,
    horizon: Tensor,
    generator: torch.Generator,
) -> tuple[Outcome, int]:
    """The outcome that `roll_out` would give, and the decisions of the longest episode."""
    play = environment.play(prompt, horizon, generator)
    decisions = sum(turn.valid.shape[1] for turn, _, _ in _moves(policy, play, generator))
    return play.outcome(), decisions


def _moves(
    policy: Policy, play: Play, generator: torch.Generator
) -> Iterator[tuple[Turn, Tensor, Tensor]]:
    """Each turn with its decisions: log-probabilities (decisions, choices) and what was chosen."""
    while (turn := play.turn()) is not None:
        log_probs = turn.ask(policy)
        chosen = sample(log_probs, generator)
        play.act(_acted(turn, chosen))
        yield turn, log_probs, chosen


def _acted(turn: Turn, chosen: Tensor) -> Tensor:
    acted = torch.zeros(turn.valid.shape, dtype=torch.int64)
    acted[turn.valid] = chosen
    return acted


def _allowed(parts: list[Tensor | None], widths: Tensor, rows: int, choices: int) -> Tensor | None:
    """What is allowed in all turns: (rows, decisions, choices); None where everything is."""
    if all(part is None for part in parts):
        return None
    everything = [
        torch.ones(rows, int(width), choices, dtype=torch.bool) if part is None else part
        for part, width in zip(parts, widths, strict=True)
    ]
    return torch.cat(everything, 1)
