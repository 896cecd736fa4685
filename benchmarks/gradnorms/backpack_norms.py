"""BackPACK's `BatchL2Grad`: squared norms for linear layers; it has none for LayerNorm."""

import torch
from torch import Tensor, nn

from gradnorms.arm import Arm, UnableError, clear, in_order, need_rows
from gradnorms.workload import Workload


def batch_l2(workload: Workload, model: nn.Module) -> Arm:
    """The part of the norm that is of `torch.nn.Linear` layers."""
    need_rows(workload)
    from backpack import backpack, extend
    from backpack.extensions import BatchL2Grad

    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise UnableError("no torch.nn.Linear layer")
    for layer in layers:
        extend(layer)
    parameters = [p for layer in layers for p in layer.parameters()]

    def run() -> Tensor:
        found = []
        for part in workload.parts:
            with backpack(BatchL2Grad()):
                workload.loss(model, part.args).backward()
            found.append(torch.stack([p.batch_l2 for p in parameters]).sum(0).sqrt())
        return in_order(workload, found)

    def reset() -> None:
        clear(model)()
        for parameter in parameters:
            if hasattr(parameter, "batch_l2"):
                del parameter.batch_l2

    return Arm(run, reset)
