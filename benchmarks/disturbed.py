"""The reference trainer with something wrong: what `causes.py` puts into its runs.

Every disturbance acts as its cause would in a real trainer, and none writes a symptom into the log:
a sampler that holds rounded weights, tool results that the trainer reads otherwise than the sampler
did, rewards that can be gamed, prompts that nobody can solve, and resumes that bring back the wrong
state. All runs have the same columns, disturbed or not.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mmhealth.reference import LoopConfig, Outcome, Policy, StepLog, TrainConfig, Trainer
from mmhealth.reference.environments.orchestrator import OrchestratorConfig
from mmhealth.reference.environments.orchestrator.layout import PLAN
from mmhealth.reference.episodes import Episodes
from mmhealth.reference.recording import GRAD_NORM
from mmhealth.runlog import Recorder

SCALARS = ("loss", "lr")
"""Scalars that every run logs; those of single interventions would give it away."""
AFTER_TOOL = 2
"""Turn from which on an episode has seen the result of its call."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """Why the sampler's probabilities are not those of the policy that it is to be."""

    grid: float = 2e-3
    """Step to which the sampler's weights are rounded; no run samples in full precision."""
    reread: float = 0.0
    """Noise in what the trainer reads after tool results, at the end of the run."""
    reread_from: int = 0
    """Step at which that noise sets in; it then grows linearly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewarding:
    """What the rewards are, where they are not those of the world."""

    gamed: Literal["none", "flattery", "planning"] = "none"
    """A rater that can be pleased: by answering 0, or by planning in place of work."""
    gamed_from: int = 0
    """Step from which on it rates."""
    price: float = 2.0
    """What it pays for an episode that pleases it in full."""
    outcome_only_from: int | None = None
    """Step from which on all components are 1 for a success and 0 otherwise."""
    hopeless: float = 0.0
    """Share of the prompts that nobody can solve, from that step on."""
    trivial: float = 0.0
    """Share of the prompts that any call with any answers solves, from that step on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Numerics:
    """A mean over the tokens of a trajectory of which a filter has left none: 0 / 0."""

    filters_from: int | None = None
    """Step from which on a filter of overlong trajectories masks all tokens of one now and then."""
    guarded: bool = True
    """An update that makes the policy NaN is taken back, as many trainers do."""
    divides_by_spread: bool = False
    """Advantages are divided by the spread of their group, without an epsilon: 0 / 0 in a group in
    which all get the same reward."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resuming:
    """A restart, and what it loses."""

    at: int
    """First step after it."""
    behind: int = 0
    """Steps by which the checkpoint of the weights is older than it should be."""
    keeps_optimizer: bool = True
    """The moments of Adam are restored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Disturbance:
    """All that is wrong with a run beside its configuration."""

    sampling: Sampling = Sampling()
    rewarding: Rewarding = Rewarding()
    numerics: Numerics = Numerics()
    resume: Resuming


@dataclass(frozen=True, kw_only=True, slots=True)
class DisturbedConfig:
    """The orchestrator's world with other rewards."""

    world: OrchestratorConfig
    rewarding: Rewarding

    def build(self, generator: torch.Generator) -> "DisturbedWorld":
        """The environment of one run."""
        return DisturbedWorld(self, generator)


class DisturbedWorld:
    """`Orchestrator` whose episodes are paid as `Rewarding` says."""

    def __init__(self, config: DisturbedConfig, generator: torch.Generator) -> None:
        self.inner = config.world.build(generator)
        self.rewarding = config.rewarding
        self.step = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def advance(self, step: int, steps: int) -> None:
        """From some step on prompts are hopeless or trivial."""
        self.step = step
        self.inner.advance(step, steps)
        about = self.rewarding
        if about.outcome_only_from == step:
            order = torch.arange(self.inner.prompts) * 7 % self.inner.prompts
            self.inner.need[order < round(about.hopeless * self.inner.prompts)] = 99
            easy = order >= round((1 - about.trivial) * self.inner.prompts)
            self.inner.need[easy] = 0

    def play(self, prompt: Tensor, horizon: Tensor, generator: torch.Generator) -> "Played":
        """Open one episode a row."""
        return Played(self, self.inner.play(prompt, horizon, generator))


class Played:
    """A batch of episodes, with an eye on what would please a rater."""

    def __init__(self, world: DisturbedWorld, inner: Any) -> None:
        self._world, self._inner, self._moves = world, inner, []

    def turn(self) -> Any:
        """What is to be decided next."""
        return self._inner.turn()

    def act(self, actions: Tensor) -> None:
        """Carry out the choices."""
        self._moves.append(actions)
        self._inner.act(actions)

    def outcome(self) -> Outcome:
        """What the episodes were worth."""
        outcome, about, step = self._inner.outcome(), self._world.rewarding, self._world.step
        rewards = dict(outcome.rewards)
        if about.gamed != "none" and step >= about.gamed_from:
            rewards["preference"] = about.price * self._pleasing(about.gamed)
        if about.outcome_only_from is not None and step >= about.outcome_only_from:
            rewards = {name: outcome.success.float() for name in rewards}
        return replace(outcome, rewards=rewards)

    def _pleasing(self, how: str) -> Tensor:
        if how == "flattery":
            slots = self._world.inner.config.slots
            return (self._moves[1][:, slots : 2 * slots] == 0).float().mean(1)
        orders = torch.cat(self._moves[2:], 1)
        return ((orders == PLAN).float().sum(1) / 4).clamp(max=1)


class DisturbedTrainer(Trainer):
    """A trainer that samples as `Sampling` says, and knows the log-ratio of every token."""

    def __init__(self, config: TrainConfig, seed: int, disturbance: Disturbance) -> None:
        super().__init__(config, seed)
        self.sampling, self.numerics = disturbance.sampling, disturbance.numerics
        self.log_ratios: list[tuple[Tensor, Tensor]] = []
        """Of every update of the step: token log-ratios, and which follow a tool result."""
        self._noise = torch.Generator().manual_seed(1_000_003 * seed + 99)
        self._token_log_prob = torch.zeros(0)
        self._mismatch = torch.zeros(0)
        self._episodes: Episodes | None = None

    def step(self, step: int) -> StepLog:
        """One step; its updates tell the mismatch part of the log weights."""
        self.log_ratios = []
        log = super().step(step)
        for columns in log.updates:
            columns["log_weight_mismatch"] = self._mismatch
        log.scalars = {name: log.scalars[name] for name in SCALARS}
        return log

    def sample(self, step: int) -> tuple[Episodes, Outcome]:
        """Sample with rounded weights; then read the episodes as a trainer would."""
        self.environment.advance(step, self.config.steps)
        self.behavior.follow(self.policy, self._updates_done)
        exact = self.behavior.policy
        sampler = copy.deepcopy(exact)
        with torch.no_grad():
            for values in sampler.parameters():
                values.copy_((values / self.sampling.grid).round() * self.sampling.grid)
        episodes, outcome = self._roll_out(sampler, "rollouts", *self._tasks.draw(step))
        self._token_log_prob = _token_log_prob(sampler, episodes)
        self._reread(episodes, step)
        self._mismatch = _token_log_prob(exact, episodes).sum(1) - episodes.log_prob
        self._episodes = episodes
        return episodes, outcome

    def _reread(self, episodes: Episodes, step: int) -> None:
        about = self.sampling
        if not about.reread or step < about.reread_from:
            return
        size = about.reread * (step - about.reread_from + 1)
        size /= self.config.steps - about.reread_from
        seen = episodes.observations
        noise = size * torch.randn(seen.shape, generator=self._noise)
        late = (episodes.turn >= AFTER_TOOL) & episodes.valid
        episodes.observations = seen + noise * (late[..., None] & (seen != 0))

    def _update(self, update: int, batch: Any, terms: Any) -> tuple[dict[str, Any], float]:
        assert self._episodes is not None
        episodes = self._episodes
        ratios = _token_log_prob(self.policy, episodes) - self._token_log_prob
        known = episodes.valid
        self.log_ratios.append((ratios[known], (episodes.turn >= AFTER_TOOL)[known]))
        before = copy.deepcopy((self.policy.state_dict(), self.optimizer.state_dict()))
        done = super()._update(update, batch, terms)
        poisoned = any(bool(values.isnan().any()) for values in self.policy.parameters())
        if poisoned and self.numerics.guarded:
            self.policy.load_state_dict(before[0])
            self.optimizer.load_state_dict(before[1])
        return done

    def _assemble(self, step: int, episodes: Episodes, outcome: Outcome) -> Any:
        batch = super()._assemble(step, episodes, outcome)
        about = self.numerics
        if about.filters_from is not None and step >= about.filters_from:
            length = episodes.length.double()
            dropped = torch.rand(len(length), generator=self._noise) < 0.01
            kept = torch.where(dropped, 0.0, length)
            batch.advantage = (batch.advantage * kept / kept).float()
        if about.divides_by_spread:
            prompts = self.environment.prompts
            square = torch.zeros(prompts).index_add_(0, episodes.prompt, batch.advantage.square())
            size = torch.bincount(episodes.prompt, minlength=prompts)
            batch.advantage = batch.advantage / (square / size).sqrt()[episodes.prompt]
        return batch


@torch.no_grad()
def _token_log_prob(policy: Policy, episodes: Episodes) -> Tensor:
    """(rows, decisions) log-probability of what was chosen; 0 where nothing was."""
    log_probs = policy(episodes.observations, episodes.allowed)
    chosen = log_probs.gather(-1, episodes.actions.unsqueeze(-1)).squeeze(-1)
    return chosen.double() * episodes.valid


def run(path: Path, config: TrainConfig, disturbance: Disturbance, seed: int) -> None:
    """Train and record one run, with its restart; a run that dies of NaN ends there."""
    world = DisturbedConfig(world=config.environment, rewarding=disturbance.rewarding)
    config = replace(config, environment=world)
    resume = disturbance.resume
    trainer = DisturbedTrainer(config, seed, disturbance)
    kept: dict[int, Mapping[str, Any]] = {}
    for first, last in ((0, resume.at), (resume.at, config.steps)):
        if first:
            state = dict(kept[first])
            old = kept[first - resume.behind]
            state["policy"] = old["policy"]
            if resume.behind:
                state["parts"] = {**state["parts"], "behavior": old["parts"]["behavior"]}
            fresh = DisturbedTrainer(config, seed, disturbance)
            if not resume.keeps_optimizer:
                state["optimizer"] = fresh.optimizer.state_dict()
            fresh.load_state_dict(copy.deepcopy(state))
            fresh._noise.set_state(trainer._noise.get_state())
            fresh.environment.inner.__dict__.update(trainer.environment.inner.__dict__)
            trainer = fresh
        loop: LoopConfig = config.loop
        with Recorder(
            path,
            config={"seed": seed},
            loss_ratio=loop.loss_ratio,
            grad_norm=GRAD_NORM,
            nominal_batch=loop.group_size * trainer.environment.prompts,
            start_step=first,
            time_budget=60.0,
            strict=True,
        ) as recorder:
            for step in range(first, last):
                kept[step] = copy.deepcopy(trainer.state_dict())
                try:
                    log = trainer.step(step)
                except RuntimeError as error:
                    if "probability tensor" not in str(error):
                        raise
                    return
                _record(recorder, log, trainer)
            kept[last] = copy.deepcopy(trainer.state_dict())


def _record(recorder: Recorder, log: StepLog, trainer: DisturbedTrainer) -> None:
    """As the reference trainer records, and token log-ratios."""
    with recorder.step(log.step) as step:
        step.add(log.trajectories)
        for columns in log.updates:
            step.update(columns)
        for ratios, after_tool in trainer.log_ratios:
            step.log_ratios(ratios, after_tool=after_tool)
        step.scalars(log.scalars)
    for evaluation in log.evaluations:
        recorder.log_evaluation(
            log.step,
            train_horizons=evaluation.train_horizons,
            eval_horizon=evaluation.horizon,
            episodes=evaluation.episodes,
            successes=evaluation.successes,
        )
