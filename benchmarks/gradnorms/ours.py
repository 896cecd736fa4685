"""Plain training, and `mmhealth.gradnorm` with it."""

from typing import Any

import torch
from torch import Tensor, nn

from gradnorms.arm import Arm, Prepare, UnableError, clear
from gradnorms.workload import Workload
from mmhealth.gradnorm import GradNorms

PLAIN, CONTROL = "plain", "plain again (A/A)"
SKETCH_SIZE = 16


def plain(workload: Workload, model: nn.Module) -> Arm:
    """Forward and backward, as without any of this."""

    def run() -> None:
        for part in workload.parts:
            workload.loss(model, part.args).backward()

    return Arm(run, clear(model))


def exact(layout: str) -> Prepare:
    """`GradNorms`, told one of the workload's layouts."""
    return lambda workload, model: _owned(workload, model, layout, {})


def sketch(size: int = SKETCH_SIZE, seed: int = 0) -> Prepare:
    """`GradNorms` in sketch mode."""

    def prepare(workload: Workload, model: nn.Module) -> Arm:
        try:
            from mmhealth.gradnorm import Sketch
        except ImportError:
            raise UnableError("this version of mmhealth has no Sketch") from None
        return _owned(workload, model, "", {"mode": Sketch(k=size, seed=seed)})

    return prepare


def _owned(workload: Workload, model: nn.Module, layout: str, options: dict[str, Any]) -> Arm:
    meter = GradNorms(model, **options)

    def run() -> Tensor:
        with meter.step(*workload.layouts[layout]()) as norms:
            for number, part in enumerate(workload.parts):
                if len(workload.parts) > 1:
                    norms.part(number)
                workload.loss(model, part.args).backward()
        return norms.per_trajectory()

    return Arm(run, clear(model))


def loop(workload: Workload, model: nn.Module, precision: torch.dtype = torch.float32) -> Arm:
    """One trajectory a micro-batch, trimmed to its length.

    A hook on each parameter sees the gradient of this backward pass before it is added to others,
    and takes its norm with sums in ``precision``.
    """
    parts: list[Tensor] = []

    def take(gradient: Tensor) -> None:
        parts.append(torch.linalg.vector_norm(gradient, dtype=precision))

    for parameter in model.parameters():
        parameter.register_hook(take)
    rows = [workload.alone(i) for i in range(workload.count)]

    def run() -> Tensor:
        norms = []
        for args in rows:
            parts.clear()
            workload.loss(model, args).backward()
            norms.append(torch.stack(parts).norm())
        return torch.stack(norms)

    return Arm(run, clear(model))


def reference(workload: Workload, model: nn.Module) -> Tensor:
    """(count,) float64 norms that others are compared with: the loop's, summed in float64."""
    norms = loop(workload, model, torch.float64).run()
    assert norms is not None
    return norms.detach().cpu()


def methods(workload: Workload) -> dict[str, Prepare]:
    """By name in the table, plain first."""
    found: dict[str, Prepare] = {PLAIN: plain, CONTROL: plain}
    for layout in workload.layouts:
        found[f"exact, {layout}" if layout else "exact"] = exact(layout)
    if "sketch" in workload.bars:
        found[f"sketch, k = {SKETCH_SIZE}"] = sketch()
    return found
