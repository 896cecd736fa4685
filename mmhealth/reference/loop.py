"""The training loop: policy gradient on rollouts, with whatever fixes are switched on."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from mmhealth.interventions import (
    EntropyFloor,
    EssAdaptive,
    EssLearningRate,
    NearMissReserve,
    minimum_variance_baseline,
)
from mmhealth.reference.advantages import advantages, reference_key, to_go, within_horizon
from mmhealth.reference.backward import BackwardPass, Terms
from mmhealth.reference.batch import Batch, padded
from mmhealth.reference.behavior import BehaviorPolicy
from mmhealth.reference.config import Fixes, LoopConfig, RepairConfig, TrainConfig
from mmhealth.reference.contributions import Contributions
from mmhealth.reference.describe import Columns, describe
from mmhealth.reference.environment import Environment, Outcome
from mmhealth.reference.episodes import Episodes
from mmhealth.reference.late import LateRewards
from mmhealth.reference.policy import Policy, sequence_log_prob
from mmhealth.reference.ranks import Ranks
from mmhealth.reference.repair import remember, repair
from mmhealth.reference.rewards import RewardComposer
from mmhealth.reference.rollout import outcome_of, roll_out
from mmhealth.reference.steplog import Evaluation, StepLog
from mmhealth.reference.tasks import Tasks
from mmhealth.reference.trajectories import Trajectories, concatenate, judged


class Trainer:
    """Policy, optimizer, random streams and fixes of one run: deterministic for a seed.

    A step samples from the *behavior* policy (the parameters ``lag`` steps ago), turns rewards into
    advantages, and makes ``updates`` Adam updates of ``-(rho A log pi)`` with the importance ratio
    ``rho`` of the behavior policy (unclipped but for overflow).

    Args:
        config: world, loop and fixes.
        seed: draws the world, the policy, the rollouts and the evaluations.
        controller: answers for ``config.fixes.ess``; connect its ``on_alert`` to a monitor.
        alignment: take the cosine of each trajectory's gradient with the update's, where one rank
            has the whole update.
    """

    def __init__(
        self,
        config: TrainConfig,
        seed: int,
        controller: EssAdaptive | None = None,
        *,
        alignment: bool = False,
    ) -> None:
        def stream(number: int) -> torch.Generator:
            return torch.Generator().manual_seed(1_000_003 * seed + number)

        loop, fixes = config.loop, config.fixes
        _check(loop, fixes, controller)
        self.config = config
        self.controller = controller
        self.ranks = Ranks()
        self.environment: Environment = config.environment.build(stream(0))
        world = self.environment
        self.policy = Policy(world.features, loop.hidden, world.choices, stream(1), world.prior)
        sampler = Policy(world.features, loop.hidden, world.choices, stream(1), world.prior)
        self.behavior = BehaviorPolicy(sampler, loop.lag)
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=loop.learning_rate)
        self.repair = fixes.repair or RepairConfig(swap=0)
        self.reserve = NearMissReserve(self.repair.capacity, max_bytes=self.repair.max_bytes)
        self._rewards = RewardComposer(config)
        self._contributions = Contributions(fixes, self.ranks)
        self._floor = EntropyFloor(fixes.floor.threshold, fixes.floor.coef) if fixes.floor else None
        self._ess_rate = EssLearningRate() if fixes.ess_learning_rate else None
        self._tasks = Tasks(config, world, self.ranks, seed)
        self._late = LateRewards()
        self._alignment = alignment and self.ranks.size == 1
        self._backward = BackwardPass(
            self.policy, sampler, loop, self.repair, alignment=self._alignment
        )
        self._streams = {
            "rollouts": stream(2 + 10 * self.ranks.rank),
            "evaluations": stream(3),
        }
        self._updates_done = 0
        self._active = False
        self._replay = False
        self._kl_coef = 0.0

    def step(self, step: int) -> StepLog:
        """Sample, update, evaluate; ``step`` counts from 0."""
        was_active = self._active
        late = self._late.arrived(step)
        self._rewards.hear_late(step, [one for part in self.ranks.gather(late) for one in part])
        episodes, outcome = self.sample(step)
        batch = self._assemble(step, episodes, outcome)
        trajectories = describe(batch, outcome, self.repair, self._updates_done)
        self._late.wait(step, outcome)
        floor = self._floor if self._rewards.floor_active(step) else None
        terms = Terms(
            kl_coef=self._kl_coef, floor=floor, entropy_bonus=self.config.loop.entropy_bonus
        )
        updates, losses = [], []
        for update in range(self.config.loop.updates):
            columns, loss = self._update(update, batch, terms)
            updates.append(columns)
            losses.append(loss)
        if self.config.fixes.repair is not None:
            remember(self.reserve, batch.rows, ~batch.injected, self.repair)
        return StepLog(
            step=step,
            trajectories=trajectories,
            updates=updates,
            scalars={
                "loss": sum(losses) / len(losses),
                "lr": self.optimizer.param_groups[0]["lr"],
                "kl_coef": self._kl_coef,
                "active": float(self._active),
                "injected": float(batch.injected.sum()),
                "reserve_bytes": float(self.reserve.nbytes),
            }
            | self._rewards.scalars(step),
            evaluations=self._evaluations(step),
            late=late,
            control="ess_adaptive" if self.config.fixes.unified is None else "unified",
            switched=None if self._active == was_active else self._active,
        )

    def sample(self, step: int) -> tuple[Episodes, Outcome]:
        """Play this rank's share of the step's episodes with the behavior policy."""
        self.environment.advance(step, self.config.steps)
        self.behavior.follow(self.policy, self._updates_done)
        return self._roll_out(self.behavior.policy, "rollouts", *self._tasks.draw(step))

    def evaluate(self, horizon: int, episodes: int) -> Evaluation:
        """Play held-out episodes with the policy as it is; rounded up to whole prompts."""
        prompts = self.environment.prompts
        prompt = torch.arange(prompts).repeat_interleave(-(-episodes // prompts))
        budget = torch.full_like(prompt, horizon)
        solved, start, size = 0, 0, _FEWEST
        while start < len(prompt):
            at = slice(start, start + size)
            outcome, decisions = outcome_of(
                self.policy,
                self.environment,
                prompt=prompt[at],
                horizon=budget[at],
                generator=self._streams["evaluations"],
            )
            solved += int(outcome.success.sum())
            start += size
            size = max(_FEWEST, _DECISIONS // decisions)
        return Evaluation(
            horizon=horizon,
            episodes=len(prompt),
            successes=solved,
            train_horizons=self._tasks.horizons,
        )

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "streams": {name: stream.get_state() for name, stream in self._streams.items()},
            "parts": {name: part.state_dict() for name, part in self._parts().items()},
            "updates_done": self._updates_done,
            "active": self._active,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken, with the same seed and configuration."""
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, stream in self._streams.items():
            stream.set_state(state["streams"][name])
        for name, part in self._parts().items():
            part.load_state_dict(state["parts"][name])
        self._updates_done = state["updates_done"]
        self._active = state["active"]

    def _parts(self) -> dict[str, Any]:
        parts = {
            "reserve": self.reserve,
            "controller": self.controller,
            "rewards": self._rewards.schedule if self.config.fixes.reliability else None,
            "contributions": self._contributions,
            "ess_rate": self._ess_rate,
            "tasks": self._tasks,
            "behavior": self.behavior,
            "late": self._late,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def _switch(self, step: int) -> None:
        """Ask who decides about anchor and replay in this step."""
        verdict = self._contributions.verdict
        if verdict is not None:
            self._active, self._kl_coef, self._replay = (
                verdict.active,
                verdict.kl_coef,
                verdict.replay,
            )
        elif self.controller is not None:
            self._active, self._kl_coef = (
                self.controller.active(step),
                self.controller.kl_coef(step),
            )
            self._replay = self._active and not self.controller.fading(step)

    def _roll_out(
        self, policy: Policy, stream: str, prompt: Tensor, horizon: Tensor
    ) -> tuple[Episodes, Outcome]:
        return roll_out(
            policy,
            self.environment,
            prompt=prompt,
            horizon=horizon,
            updates=self.behavior.updates,
            generator=self._streams[stream],
        )

    def _assemble(self, step: int, episodes: Episodes, outcome: Outcome) -> Batch:
        """Rewards, advantages, and the repair if the ESS loop is active."""
        kind = self.config.loop.advantage
        known = self._late.known_now(outcome)
        self._rewards.hear(step, outcome, known, self.ranks)
        reward = self._rewards.compose(step, outcome, known)
        rows = judged(episodes, outcome, reward)
        nothing = torch.zeros(len(rows), dtype=torch.bool)
        if kind == "to_go":
            turns = reward.shape[1]
            played = torch.zeros_like(reward).scatter_add_(1, episodes.turn, episodes.valid.float())
            most = max(self.ranks.gather(turns))
            whole, mine = self.ranks.whole(pad(reward, (0, most - turns)))
            took_place, _ = self.ranks.whole(pad(played, (0, most - turns)) > 0)
            advantage = to_go(whole, took_place)[mine, :turns]
            return Batch(rows=rows, advantage=advantage, replaced=nothing, injected=nothing)
        sampled_reward, mine = self.ranks.whole(rows.reward)
        sampled_key, _ = self.ranks.whole(reference_key(kind, episodes))
        if kind == "horizon":
            advantage = within_horizon(sampled_reward, sampled_key)[mine]
        else:
            baseline = self._minimum_variance(rows) if self.config.fixes.minimum_variance else None
            advantage = advantages(kind, rows, sampled_reward, sampled_key, baseline)
        advantage = self._contributions.normalise(rows, advantage, self._log_weight(episodes))
        self._switch(step)
        if not self._replay:
            return Batch(rows=rows, advantage=advantage, replaced=nothing, injected=nothing)
        swapped, extra = repair(rows, self.reserve, self.repair)
        if extra is None:
            return Batch(rows=rows, advantage=advantage, replaced=nothing, injected=nothing)
        added = advantages(kind, extra, sampled_reward, sampled_key)
        every = concatenate([rows, extra])
        return Batch(
            rows=every,
            advantage=torch.cat([advantage, self._contributions.apply(extra, added)]),
            replaced=padded(swapped, len(every)),
            injected=torch.arange(len(every)) >= len(rows),
        )

    @torch.no_grad()
    def _log_weight(self, episodes: Episodes) -> Tensor:
        """(rows,) raw log importance weights under the policy that learns."""
        if not self.config.loop.lag:
            return torch.zeros(len(episodes), dtype=torch.float64)
        log_probs = self.policy(episodes.observations, episodes.allowed)
        return sequence_log_prob(log_probs, episodes.actions, episodes.valid) - episodes.log_prob

    def _minimum_variance(self, rows: Trajectories) -> Tensor:
        """(rows,) baseline of each row's group; its norms cost a backward pass."""
        count = len(rows)
        nothing = torch.zeros(count, dtype=torch.bool)
        score = self._backward.run(rows.episodes, torch.ones(count), nothing, Terms(), 1).grad_norm
        groups = rows.episodes.prompt.numpy()
        baseline = minimum_variance_baseline(rows.reward.numpy(), score.numpy(), groups)
        return torch.as_tensor(baseline, dtype=torch.float32)

    def _update(self, update: int, batch: Batch, terms: Terms) -> tuple[Columns, float]:
        """One optimizer update: columns of the updates table, and the loss."""
        trained = batch.trained
        divisor = sum(self.ranks.gather(int(trained.sum())))
        columns = {
            name: torch.zeros(len(trained), dtype=torch.float64)
            for name in ("log_weight", "weight_used", "grad_norm")
        }
        if self._alignment:
            columns["grad_cosine"] = torch.full((len(trained),), torch.nan, dtype=torch.float64)
        self.optimizer.zero_grad()
        loss = 0.0
        for chosen in (batch.replaced, trained):
            if not bool(chosen.any()):
                continue
            self.optimizer.zero_grad()
            everything = bool(chosen.all())
            part = batch.rows.episodes if everything else batch.rows.episodes.rows(chosen)
            measured = self._backward.run(
                part, batch.advantage[chosen], batch.injected[chosen], terms, divisor
            )
            loss = measured.loss
            columns["log_weight"][chosen] = measured.log_weight
            columns["weight_used"][chosen] = measured.weight
            columns["grad_norm"][chosen] = measured.grad_norm
            if measured.grad_cosine is not None and chosen is trained:
                columns["grad_cosine"][chosen] = measured.grad_cosine
        self.ranks.sum_gradients(self.policy.parameters())
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(columns["log_weight"][~batch.injected])
        self.optimizer.step()
        self._updates_done += 1
        advantage = batch.advantage if batch.advantage.ndim == 1 else batch.advantage.mean(1)
        about: Columns = {
            "update": [update] * len(trained),
            "trajectory_id": torch.arange(len(trained)),
            "role": batch.roles,
            "advantage": advantage,
        }
        return about | columns, sum(self.ranks.gather(loss))

    def _learning_rate(self, log_weight: Tensor) -> float:
        loop = self.config.loop
        ramp = loop.warmup * loop.updates
        rate = loop.learning_rate * min(1.0, (self._updates_done + 1) / max(1, ramp))
        if self._ess_rate is not None:
            whole, _ = self.ranks.whole(log_weight)
            rate *= self._ess_rate.factor(whole.double().numpy())
        return rate

    def _evaluations(self, step: int) -> list[Evaluation]:
        loop = self.config.loop
        if (step + 1) % loop.eval_every or not loop.eval_episodes or self.ranks.rank:
            return []
        return [self.evaluate(h, loop.eval_episodes) for h in self.environment.horizons]


def _check(loop: LoopConfig, fixes: Fixes, controller: EssAdaptive | None) -> None:
    """Raise ValueError for fixes that would silently do nothing."""
    if fixes.ess is not None and controller is None:
        raise ValueError("the ESS loop needs a controller: mmhealth.interventions.EssAdaptive")
    if fixes.repair is not None and fixes.bucket is not None:
        raise ValueError("bucket has no scale for rows from a reserve: leave out bucket or repair")
    if loop.advantage == "horizon" and (fixes.repair is not None or fixes.minimum_variance):
        raise ValueError(
            "advantage 'horizon' is of sampled rows alone, against the mean of their horizon: "
            "leave out repair and minimum_variance"
        )
    if loop.advantage == "to_go":
        names = ("ess", "repair", "variance", "bucket", "minimum_variance", "unified")
        if given := [name for name in names if getattr(fixes, name)]:
            raise ValueError(
                f"advantage 'to_go' is one number a turn: {', '.join(given)} cannot act on it"
            )


_FEWEST, _DECISIONS = 64, 1 << 17
"""Episodes evaluated at a time: at least so many, otherwise so many decisions (cache, memory)."""
