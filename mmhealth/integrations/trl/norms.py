"""Gradient norms of one micro-batch after another, or the reason why there are none.

A micro-batch is a step of the meter's own: it holds each of its trajectories whole, and the other
micro-batches of the optimizer step hold others. The meter is open from the loss to the end of the
backward pass: generation and the reference model run outside. ``bitwise`` keeps every bit of the
gradients, ``later`` keeps every exception out of the forward pass.
"""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from mmhealth.errors import GradNormError
from mmhealth.gradnorm import GradNorms, StepNorms
from mmhealth.integrations.trl.head import RULES, visible_head

WHAT = (
    "exact norm over all trained parameters of the gradient of the trajectory's term in the loss "
    "of its micro-batch, with the factors that it has in the optimizer step's gradient on this "
    "rank, before gradients are averaged over ranks and clipped"
)
_ROWS, _TOKENS, _KEPT = 2, 6, 3
"""Of the batch made up for the test: trajectories, their tokens, those that are scored."""
_REFUSALS = (GradNormError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What the meter, or a model that such a batch is not made for, may raise."""


class Norms:
    """Measures while ``off`` is None."""

    def __init__(self, trainer: Any, off: str | None, every: int = 1) -> None:
        self.off = off
        self._every = every
        self._trainer = trainer
        self._meter: GradNorms | None = None
        self._open = ExitStack()
        self._step: StepNorms | None = None
        if off is None:
            self._start()

    def open(self, rows: int, step: int) -> None:
        """A loss of ``rows`` trajectories of this step is about to be computed."""
        if self._meter is None or step % self._every:
            return
        try:
            opened = self._meter.step(rows)
        except GradNormError as error:
            self.give_up(error)
            return
        self._open.enter_context(visible_head())
        self._step = self._open.enter_context(opened)

    def close(self) -> Tensor | None:
        """The micro-batch's backward pass is done: (rows,) float64, None where there are none."""
        step, self._step = self._step, None
        try:
            self._open.close()
            return None if step is None else step.per_trajectory(scale=self._scale())
        except GradNormError as error:
            self.give_up(error)
            return None

    def abandon(self) -> None:
        """End a micro-batch that fails; of what goes on already nothing is read."""
        self._step = None
        self._open.__exit__(GradNormError, GradNormError("abandoned"), None)

    def give_up(self, error: Exception) -> None:
        """No norms from here on."""
        self._meter = None
        self.off = f"gradient norms: off, because {error}"

    def _scale(self) -> float:
        scaler = getattr(self._trainer.accelerator, "scaler", None)
        return 1.0 if scaler is None else float(scaler.get_scale())

    def _start(self) -> None:
        """Try the meter on a made-up batch, against a backward pass per trajectory."""
        trainer, model = self._trainer, self._trainer.model
        trained = [p for p in model.parameters() if p.requires_grad]
        kept, training = [p.grad for p in trained], model.training
        devices = [p.device for p in trained[:1] if p.device.type == "cuda"]
        try:
            self._meter = GradNorms(model, bitwise=True, on_uncovered="later", rules=RULES)
            with torch.random.fork_rng(devices), visible_head(), self._meter.step(_ROWS) as norms:
                for parameter in trained:
                    parameter.grad = None
                model.train()
                terms = self._terms(model)
                if not _reenters(trainer.args):
                    with trainer.accelerator.autocast():  # verified as exactly as it computes
                        norms.verify(terms)
                terms.sum().backward()  # type: ignore[no-untyped-call]
            norms.per_trajectory()
        except _REFUSALS as error:
            self.give_up(error)
        finally:
            model.train(training)
            for parameter, gradient in zip(trained, kept, strict=True):
                parameter.grad = gradient

    def _terms(self, model: Any) -> Tensor:
        device = self._trainer.accelerator.device
        entries = int(model.get_input_embeddings().weight.shape[0])
        tokens = (torch.arange(_ROWS * _TOKENS, device=device) % entries).view(_ROWS, _TOKENS)
        found = self._trainer._get_per_token_logps_and_entropies(
            model, tokens, torch.ones_like(tokens), _KEPT, compute_entropy=True
        )
        terms: Tensor = found[0].sum(1) + found[1].sum(1)
        return terms


def _reenters(args: Any) -> bool:
    options = getattr(args, "gradient_checkpointing_kwargs", None) or {}
    return bool(options.get("use_reentrant", False))
