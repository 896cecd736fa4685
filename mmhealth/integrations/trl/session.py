"""What is taken from each method of the trainer while it trains.

Methods of the one trainer are wrapped: each runs as it is, with its own arguments, and what we do
before and after it is guarded, so that an error of ours is counted as a loss of the run and never
raised into training. Random numbers, gradients and batches stay as they are; batches get keys of
ours (`samples.ROW`, and of RLOO `samples.OLD`).
"""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from mmhealth.integrations.trl.beneath import slip_in
from mmhealth.integrations.trl.norms import Norms
from mmhealth.integrations.trl.rollout import Rollout, Use
from mmhealth.integrations.trl.samples import (
    OLD,
    REFERENCE,
    ROW,
    UNJOINED,
    Sample,
    Success,
    columns_of,
    numbered,
    without_contrast,
)
from mmhealth.integrations.trl.signatures import TRAINERS, Kind
from mmhealth.integrations.trl.tokens import UNSCORED, Tokens
from mmhealth.runlog import Recorder

logger = logging.getLogger("mmhealth")

Method = Callable[..., Any]


class Session:
    """Collects the steps of one call of ``trainer.train()``."""

    def __init__(
        self,
        trainer: Any,
        kind: Kind,
        recorder: Recorder,
        norms: Norms,
        *,
        keep: tuple[str, ...],
        success: Success | None,
    ) -> None:
        self.recorder = recorder
        self.norms = norms
        self._trainer = trainer
        self._kind = kind
        self._keep = keep
        self._success = success
        self._told = {norms.off}
        self._next = 0
        self._rollouts: list[Rollout] = []
        self._use: Use | None = None
        self._heard: list[Any] | None = None
        self._scored: tuple[Tensor, Any] | None = None
        self._samples: list[Sample] | None = None
        self._originals: dict[str, Method | None] = {}
        self._class: type | None = None

    def hook(self) -> None:
        """Wrap the trainer's methods, and beneath a subclass those of TRL."""
        own = {"_generate_and_score_completions": self._sample, "training_step": self._backward}
        self._class = slip_in(self._trainer, TRAINERS[self._kind], own)
        hooks: dict[str, Method] = {
            "_generate_and_score_completions": self._generate,
            "_calculate_rewards": self._reward,
            "_get_per_token_logps_and_entropies": self._score,
            "_compute_loss": self._loss,
            "training_step": self._micro_batch,
        }
        for name, around in hooks.items():
            self._originals[name] = vars(self._trainer).get(name)
            setattr(self._trainer, name, _wrapped(getattr(self._trainer, name), around))

    def unhook(self) -> None:
        """Give the trainer its own methods back."""
        for name, original in self._originals.items():
            if original is None:
                vars(self._trainer).pop(name, None)
            else:
                setattr(self._trainer, name, original)
        self._originals.clear()
        if self._class is not None:
            self._trainer.__class__, self._class = self._class, None

    def end_update(self) -> int:
        """An optimizer step is done: commit rollout batches that are used up; how many."""
        for rollout in self._rollouts:
            with self.recorder.guard(rollout.step):
                rollout.settle()
        done = [rollout for rollout in self._rollouts if rollout.finished]
        self._rollouts = [rollout for rollout in self._rollouts if not rollout.finished]
        for rollout in done:
            self._commit(rollout)
        return len(done)

    def finish(self) -> None:
        """Training is over: commit what was used in part."""
        rest, self._rollouts = self._rollouts, []
        for rollout in rest:
            if rollout.uses:
                self._commit(rollout)
        self.norms.abandon()

    def _commit(self, rollout: Rollout) -> None:
        with self.recorder.guard(rollout.step):
            rollout.commit(self.recorder)
        if self.norms.off is not None:
            self._degraded(rollout.step, self.norms.off)
        if rollout.unscored:
            self._degraded(rollout.step, UNSCORED)

    def _degraded(self, step: int, what: str) -> None:
        """Say once what is recorded no more, or otherwise."""
        if what not in self._told:
            self._told.add(what)
            logger.warning("mmhealth: from step %d on %s", step, what)
            self.recorder.log_event(step, "degraded", {"what": what})

    def _generate(self, original: Method, *args: Any, **kwargs: Any) -> Any:
        if not self._trainer.model.training:
            return original(*args, **kwargs)
        self._samples = []
        try:
            output = original(*args, **kwargs)
        finally:
            samples, self._samples = self._samples, None
        with self.recorder.guard():
            self._begin(samples, output)
        return output

    def _sample(self, original: Method, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if self._samples is None:
            return original(inputs, *args, **kwargs)
        self._heard, self._scored = [], None
        try:
            output = original(inputs, *args, **kwargs)
        finally:
            heard, self._heard = self._heard, None
        with self.recorder.guard():
            rewards, completions = self._scored or (None, ())
            numbered(output, self._samples)
            self._samples.append(Sample(inputs, rewards, completions, "tool_mask" in output))
            if self._kind == "RLOO":
                output |= dict(zip((OLD, REFERENCE), heard, strict=False))
        return output

    def _begin(self, samples: list[Sample], output: dict[str, Any]) -> None:
        trainer, args = self._trainer, self._trainer.args
        born = int(trainer.state.global_step)
        uses = args.steps_per_generation * trainer.num_iterations
        step = max(self._next, born * args.gradient_accumulation_steps // uses)
        self._next = step + 1
        for earlier in self._rollouts:
            earlier.followed = True
        columns, joined = columns_of(trainer, samples, output, self._keep, self._success)
        if not joined:
            self._degraded(step, UNJOINED.format(trainer=type(trainer).__name__))
        alike = without_contrast(columns, output["advantages"], trainer.num_generations)
        self._rollouts.append(Rollout(step, born, columns, uses, alike))

    def _reward(
        self, original: Method, inputs: Any, prompts: Any, completions: Any, *more: Any, **kw: Any
    ) -> Any:
        rewards = original(inputs, prompts, completions, *more, **kw)
        if self._heard is not None:
            self._scored = rewards, completions
        return rewards

    def _score(self, original: Method, *args: Any, **kwargs: Any) -> Any:
        scores = original(*args, **kwargs)
        if self._heard is not None:
            in_loss = torch.is_grad_enabled()
            if in_loss or self._kind == "RLOO":
                self._heard.append(scores if in_loss else scores[0])
        return scores

    def _loss(self, original: Method, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        needed = {ROW, OLD} if self._kind == "RLOO" else {ROW}
        known = isinstance(inputs, dict) and needed <= inputs.keys() and bool(self._rollouts)
        if not (known and torch.is_grad_enabled()):
            return original(model, inputs, *args, **kwargs)
        with self.recorder.guard():
            self.norms.open(len(inputs[ROW]), self._rollouts[-1].step)
        self._heard = []
        try:
            loss = original(model, inputs, *args, **kwargs)
        finally:
            heard, self._heard = self._heard, None
        with self.recorder.guard():
            self._use = self._used(inputs, heard[0])
        return loss

    def _used(self, inputs: dict[str, Any], scores: Any) -> Use:
        rollout, rows = self._rollouts[-1], inputs[ROW]
        old, reference = inputs.get("old_per_token_logps"), inputs.get("ref_per_token_logps")
        old = inputs.get(OLD) if old is None else old
        reference = inputs.get(REFERENCE) if reference is None else reference
        tool = inputs.get("tool_mask")
        mask = inputs["completion_mask"]
        update = int(self._trainer.state.global_step) - rollout.born
        tokens = Tokens(
            logps=scores[0].detach(),
            entropies=None if scores[1] is None else scores[1].detach(),
            mask=mask if tool is None else mask * tool,
            tool=tool,
            old=old,
            sampler=inputs.get("sampling_per_token_logps"),
            reference=reference,
            changed=update > 0,
        )
        rate = float(self._trainer.optimizer.param_groups[0]["lr"])
        return Use(update, rows, inputs["advantages"], tokens, rate)

    def _micro_batch(self, original: Method, *args: Any, **kwargs: Any) -> Any:
        self._use = None
        try:
            loss = original(*args, **kwargs)
        except BaseException:
            self.norms.abandon()
            raise
        if self._use is None:  # the trainer goes on without this batch
            self.norms.abandon()
            return loss
        norms = None
        with self.recorder.guard():
            norms = self.norms.close()
        with self.recorder.guard():
            self._use.norms, self._use.loss = norms, loss.detach()
            self._rollouts[-1].uses.append(self._use)
        return loss

    def _backward(self, original: Method, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except BaseException:
            self.norms.abandon()
            self._use = None
            raise


def _wrapped(original: Method, around: Method) -> Method:
    @wraps(original)
    def method(*args: Any, **kwargs: Any) -> Any:
        return around(original, *args, **kwargs)

    return method
