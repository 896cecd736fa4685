"""The training loop: group-relative policy gradient on rollouts that are one step old."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmhealth.gradnorm import GradNorms
from mmhealth.interventions import EssAdaptive, NearMissReserve
from mmhealth.reference.batch import Batch, Columns, StepBatches, assemble, describe
from mmhealth.reference.majority_rule import MajorityRule, MajorityRuleConfig
from mmhealth.reference.policy import Policy, kl_divergence, sequence_log_prob
from mmhealth.reference.repair import RepairConfig, remember
from mmhealth.reference.rollout import Episodes, roll_out


@dataclass(kw_only=True, slots=True)
class LoopConfig:
    """The trainer's knobs."""

    group_size: int = 16
    """Trajectories sampled per prompt and step."""
    hidden: int = 32
    """Units of the policy's hidden layer."""
    learning_rate: float = 0.012
    """Adam's step size."""
    warmup: int = 20
    """Steps over which the step size rises linearly from zero."""
    updates: int = 2
    """Full-batch optimizer updates in a step."""
    eval_group_size: int = 32
    """Held-out episodes per prompt and evaluation."""
    log_weight_clip: float = 20.0
    """Largest log importance ratio of sampled rows, either sign: a guard against overflow."""
    environment: MajorityRuleConfig = field(default_factory=MajorityRuleConfig)
    """The environment."""
    repair: RepairConfig = field(default_factory=RepairConfig)
    """The near-miss half of the fix; unused without a controller."""


@dataclass(kw_only=True, slots=True)
class StepLog:
    """Everything a step has to say; `mmhealth.reference.recording` writes it down."""

    step: int
    """The step."""
    trajectories: Columns
    """Columns of the trajectories table."""
    updates: list[Columns]
    """Columns of the updates table, in parts."""
    scalars: dict[str, float]
    """Further numbers of the step."""
    episodes: int
    """Held-out episodes played after the step."""
    successes: int
    """Those that were solved."""
    switched: bool | None
    """True: the intervention came on in this step; False: it went off; None: no change."""


class Trainer:
    """Policy, optimizer, random streams and fix of one run: deterministic for a seed.

    A step samples from the *behavior* policy (the parameters one step ago), takes the group mean as
    baseline and makes ``updates`` full-batch Adam updates on ``-(rho A)`` with the sequence
    importance ratio ``rho = pi / behavior`` (unclipped but for overflow). While ``controller`` is
    active, failed groups get near misses and the loss gets a KL divergence to the behavior policy.
    """

    def __init__(
        self, config: LoopConfig, seed: int, controller: EssAdaptive | None = None
    ) -> None:
        def stream(number: int) -> torch.Generator:
            return torch.Generator().manual_seed(1_000_003 * seed + number)

        self.config = config
        self.controller = controller
        self.environment = MajorityRule(config.environment, stream(0))
        features = self.environment.observations.shape[-1]
        choices = config.environment.choices
        self.policy = Policy(features, config.hidden, choices, stream(1))
        self.behavior = Policy(features, config.hidden, choices, stream(1))
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=config.learning_rate)
        self.reserve = NearMissReserve(config.repair.capacity)
        self._streams = {"rollouts": stream(2), "evaluations": stream(3)}
        self._updates_done = 0
        self._behavior_updates = 0
        self._active = False
        self._meter = GradNorms(self.policy)

    def step(self, step: int) -> StepLog:
        """Sample, update, evaluate; ``step`` is only what the controller is asked about."""
        active = self.controller is not None and self.controller.active(step)
        switched = active if active != self._active else None
        self._active = active
        kl_coef = self.controller.kl_coef(step) if self.controller else 0.0

        sampled = self._roll_out(self.behavior, "rollouts", self.config.group_size)
        reserve = self.reserve if active else None
        batches = assemble(sampled, self.environment, reserve, self.config.repair)
        trajectories = describe(batches, self.environment, self.config.repair, self._updates_done)
        with torch.no_grad():
            anchor = self.behavior(self.environment.observations)
        next_behavior = {name: value.clone() for name, value in self.policy.state_dict().items()}
        next_behavior_updates = self._updates_done
        updates: list[Columns] = []
        losses: list[float] = []
        for update in range(self.config.updates):
            parts, loss = self._update(update, batches, anchor, kl_coef)
            updates += parts
            losses.append(loss)
        self.behavior.load_state_dict(next_behavior)
        self._behavior_updates = next_behavior_updates
        if self.controller is not None:
            remember(self.reserve, sampled, self.environment, self.config.repair)

        held_out = self._roll_out(self.policy, "evaluations", self.config.eval_group_size)
        return StepLog(
            step=step,
            trajectories=trajectories,
            updates=updates,
            scalars={
                "loss": sum(losses) / len(losses),
                "lr": self.optimizer.param_groups[0]["lr"],
                "kl_coef": kl_coef,
                "injected": float(batches.trained.injected.sum()),
                "reserve_bytes": float(self.reserve.nbytes),
            },
            episodes=len(held_out),
            successes=int(held_out.success.sum()),
            switched=switched,
        )

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "policy": self.policy.state_dict(),
            "behavior": self.behavior.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "streams": {name: stream.get_state() for name, stream in self._streams.items()},
            "reserve": self.reserve.state_dict(),
            "controller": self.controller.state_dict() if self.controller else None,
            "updates_done": self._updates_done,
            "behavior_updates": self._behavior_updates,
            "active": self._active,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken, with the same seed and configuration."""
        self.policy.load_state_dict(state["policy"])
        self.behavior.load_state_dict(state["behavior"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, stream in self._streams.items():
            stream.set_state(state["streams"][name])
        self.reserve.load_state_dict(state["reserve"])
        if self.controller is not None:
            self.controller.load_state_dict(state["controller"])
        self._updates_done = state["updates_done"]
        self._behavior_updates = state["behavior_updates"]
        self._active = state["active"]

    def _roll_out(self, policy: Policy, stream: str, group_size: int) -> Episodes:
        return roll_out(
            policy,
            self.environment,
            group_size=group_size,
            updates=self._behavior_updates,
            generator=self._streams[stream],
        )

    def _learning_rate(self) -> float:
        config = self.config
        ramp = config.warmup * config.updates
        return config.learning_rate * min(1.0, (self._updates_done + 1) / max(1, ramp))

    def _update(
        self, update: int, batches: StepBatches, anchor: Tensor, kl_coef: float
    ) -> tuple[list[Columns], float]:
        """One optimizer update: columns of the rows swapped out and of those that entered it."""
        parts: list[Columns] = []
        if batches.trained is not batches.sampled:
            columns, _ = self._backward(batches.sampled, anchor, kl_coef)
            columns = {name: values[batches.replaced] for name, values in columns.items()}
            parts.append(columns | {"role": ["replaced"] * int(batches.replaced.sum())})
        columns, loss = self._backward(batches.trained, anchor, kl_coef)
        injected = batches.trained.injected.tolist()
        parts.append(columns | {"role": ["injected" if flag else "used" for flag in injected]})
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.optimizer.step()
        self._updates_done += 1
        for part in parts:
            part["update"] = [update] * len(part["role"])
        return parts, loss

    def _backward(
        self, batch: Batch, anchor: Tensor, kl_coef: float
    ) -> tuple[dict[str, Tensor], float]:
        """Leave the gradient of the mean loss in the policy; columns of the updates table."""
        config, episodes = self.config, batch.episodes
        self.optimizer.zero_grad()
        with self._meter.step(trajectories=len(episodes)) as norms:
            log_probs = self.policy(self.environment.observations[episodes.prompt])
            log_prob = sequence_log_prob(log_probs, episodes.actions)
            log_weight = log_prob.detach() - episodes.log_prob
            decisions = config.environment.decisions
            clip = config.log_weight_clip
            limits = config.repair
            weight = torch.where(
                batch.injected,
                (log_weight / decisions).clamp(limits.min_log_weight, limits.max_log_weight),
                log_weight.clamp(-clip, clip),
            ).exp()
            terms = -weight * batch.advantage * log_prob
            if kl_coef:
                divergence = kl_divergence(log_probs, anchor[episodes.prompt])
                terms = terms + kl_coef * divergence.sum(1)
            loss = terms.mean()
            loss.backward()  # type: ignore[no-untyped-call]
        columns = {
            "trajectory_id": batch.ids,
            "advantage": batch.advantage,
            "log_weight": log_weight,
            "weight_used": weight,
            "grad_norm": norms.per_trajectory().float(),
        }
        return columns, float(loss.detach())
