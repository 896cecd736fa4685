"""Rows of the log, recomputed from a checkpoint by autograd, one trajectory at a time."""

import math

import pytest
import torch

from mmhealth.reference import ENVIRONMENTS, StepLog, Trainer, train
from mmhealth.reference import checkpoint as checkpoints

ROWS = 10
CLIP = 20.0


def choices(policy, episodes, row: int) -> torch.Tensor:
    """Log-probabilities (decisions, choices) of the decisions that one trajectory made."""
    valid = episodes.valid[row]
    logits = policy.output(torch.tanh(policy.hidden(episodes.observations[row, valid].double())))
    if episodes.allowed is not None:
        logits = torch.where(episodes.allowed[row, valid], logits, -math.inf)
    return logits - logits.exp().sum(-1, keepdim=True).log()


def entropies(log_probs: torch.Tensor) -> torch.Tensor:
    p = log_probs.exp()
    return -torch.where(p > 0, p * log_probs.clamp(min=-1e30), 0.0).sum(-1)


def credits_to_go(trainer: Trainer, outcome, episodes) -> torch.Tensor:
    """(rows, turns): reward-to-go by plain loops."""
    loop = trainer.config.loop
    rewards = sum(outcome.rewards.values()).double()
    for distance in outcome.distances.values():
        rewards = rewards - loop.violation_cost * (distance > 0).double()
    rows, turns = rewards.shape
    future = torch.full((rows, turns), math.nan, dtype=torch.float64)
    for row in range(rows):
        for turn in set(episodes.turn[row][episodes.valid[row]].tolist()):
            future[row, turn] = rewards[row, turn:].sum()
    centred = future - future.nanmean(0)
    return (centred / centred.square().nanmean().sqrt()).nan_to_num()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_ten_rows_agree_with_the_checkpoint(environment, small, tmp_path):
    config = small(environment, updates=2 if environment == "F2" else 1)
    logs: list[StepLog] = []
    train(
        environment,
        config=config,
        record=False,
        steps=6,
        checkpoint_dir=tmp_path,
        checkpoint_every=5,
        progress=False,
        on_step=logs.append,
    )
    trainer = Trainer(config, 0)
    about = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["config"]
    step, states = checkpoints.load(tmp_path, config=about)
    trainer.load_state_dict(states[0])
    episodes, outcome = trainer.sample(step)
    log, policy = logs[step], trainer.policy.double()
    columns = log.updates[0]
    norms, weights, means = [], [], []
    chosen = torch.linspace(0, len(episodes) - 1, ROWS).long().tolist()
    to_go = credits_to_go(trainer, outcome, episodes) if config.loop.advantage == "to_go" else None
    for row in chosen:
        policy.zero_grad()
        valid = episodes.valid[row]
        log_probs = choices(policy, episodes, row)
        taken = log_probs[torch.arange(len(log_probs)), episodes.actions[row, valid]]
        log_weight = taken.sum() - episodes.log_prob[row].double()
        weight = log_weight.clamp(-CLIP, CLIP).detach().exp()
        if to_go is None:
            credit = columns["advantage"][row].double().expand(len(taken))
        else:
            credit = to_go[row, episodes.turn[row, valid]]
        term = -weight * (credit * taken).sum()
        term = term - config.loop.entropy_bonus * entropies(log_probs).sum()
        (term / len(episodes)).backward()
        norms.append(math.sqrt(sum(float((p.grad**2).sum()) for p in policy.parameters())))
        weights.append(float(log_weight.detach()))
        behavior = choices(trainer.behavior.policy.double(), episodes, row)
        means.append(float(entropies(behavior.detach()).mean()))
    assert columns["grad_norm"][chosen].tolist() == pytest.approx(norms, rel=1e-5, abs=1e-9)
    assert columns["log_weight"][chosen].tolist() == pytest.approx(weights, abs=1e-5)
    assert log.trajectories["entropy"][chosen].tolist() == pytest.approx(means, abs=1e-5)
    assert max(norms) > 0
