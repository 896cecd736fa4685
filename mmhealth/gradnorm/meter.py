"""`GradNorms`: a meter built once over a model, opened for one step at a time.

The *contribution* of a trajectory is the norm of the gradient of its term in the loss that is
really backpropagated, over all trainable parameters together. Nothing is rescaled: with ``loss =
terms.mean()`` every norm carries the factor ``1 / B`` of the mean, under a ``GradScaler`` its
scale, and under a data-parallel wrapper this rank's share. Multiply by the inverse factor to
compare norms across batch sizes; ESS, Gini and shares do not change with it.
"""

from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from mmhealth.errors import GradNormError, UncoveredParameterError
from mmhealth.gradnorm.linear import LinearCapture, is_plain_linear


class GradNorms:
    """Measures per-trajectory gradient norms; the model and its gradients stay as they are.

    ::

        meter = GradNorms(model)
        with meter.step(trajectories=len(batch)) as norms:
            loss = terms(batch).mean()
            loss.backward()
        norms.per_trajectory()

    Raises `UncoveredParameterError` at once if a trainable parameter belongs to a module for which
    there is no exact rule, and at a step if one was unfrozen since; today `torch.nn.Linear` has
    one. Freeze the parameter or leave it out of the model that is measured. Losses that couple
    trajectories (batch normalisation, balance losses) have no per-trajectory term and cannot be
    measured.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        _covered_layers(model)

    def step(self, trajectories: int | Tensor) -> "StepNorms":
        """A context for the forward and backward passes of one optimizer step.

        ``trajectories`` is the number of batch rows where each row is one trajectory, or an integer
        tensor (rows,) with the trajectory of each row, numbered from 0. Rows are axis 0 of the
        inputs of every layer; further axes, such as time, are summed over. Keep the context open
        through ``backward``.

        Parameters may have been frozen or unfrozen since the last step. Raises
        `UncoveredParameterError` if one without an exact rule is trainable now.
        """
        if isinstance(trajectories, int):
            owner, count = torch.arange(trajectories), trajectories
        else:
            owner = trajectories.detach().cpu()
            if owner.ndim != 1 or owner.dtype.is_floating_point or owner.dtype == torch.bool:
                raise GradNormError(
                    "trajectories must be an integer tensor of shape (rows,), got "
                    f"{owner.dtype} of shape {tuple(owner.shape)}"
                )
            if owner.numel() and int(owner.min()) < 0:
                raise GradNormError("trajectories must be numbered from 0, got a negative number")
            owner = owner.long()
            count = int(owner.max()) + 1 if owner.numel() else 0
        layers = _covered_layers(self._model)
        names = {id(p): name for name, p in self._model.named_parameters() if p.requires_grad}
        return StepNorms(LinearCapture(layers, names), owner, count)


class StepNorms:
    """Norms of one step; made by `GradNorms.step`."""

    def __init__(self, capture: LinearCapture, owner: Tensor, count: int) -> None:
        self._capture = capture
        self._owner = owner
        self._count = count
        self._norms: Tensor | None = None
        self._problem: str | None = "the step has not run yet: open it with a with statement"

    def __enter__(self) -> Self:
        self._capture.attach()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._capture.detach()
        if kind is not None:
            self._problem = f"the step ended with {kind.__name__}"
        else:
            try:
                self._norms = self._capture.squared_norms(self._owner, self._count).sqrt()
            except GradNormError as refusal:
                self._problem = str(refusal)
        self._capture.clear()

    def per_trajectory(self) -> Tensor:
        """(B,) float64: norm of the gradient of each trajectory's term in the backpropagated loss.

        Raises `GradNormError` where there is no such number: read while the context is open,
        without a backward pass, with another number of rows, or with a parameter used outside its
        module.
        """
        if self._norms is None:
            raise GradNormError(self._problem)
        return self._norms


def _covered_layers(model: nn.Module) -> list[nn.Linear]:
    """The layers that are measured. Raises `UncoveredParameterError`: others can be trained too."""
    covered: list[nn.Linear] = []
    uncovered: list[str] = []
    for path, module in model.named_modules():
        linear = module if is_plain_linear(module) else None
        if linear is not None:
            covered.append(linear)
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and (linear is None or name not in ("weight", "bias")):
                kind = type(module).__name__
                uncovered.append(f"{path}.{name} ({kind})" if path else f"{name} ({kind})")
    if uncovered:
        raise UncoveredParameterError(
            f"no exact per-trajectory rule for {', '.join(uncovered)}: only the parameters of "
            "torch.nn.Linear are covered; freeze these with requires_grad_(False) if they are "
            "not trained"
        )
    return covered
