"""Opacus: per-sample gradients (`GradSampleModule`), and ghost norms without them.

Told that the loss is a sum, so that what it measures is each trajectory's term. GRUs are replaced
by Opacus' own, with the same weights: it measures no other.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gradnorms.arm import Arm, in_order, need_rows
from gradnorms.workload import Workload


def hooks(workload: Workload, model: nn.Module) -> Arm:
    """The gradient of every trajectory, kept."""
    need_rows(workload)
    from opacus import GradSampleModule

    module: Any = GradSampleModule(_own_recurrence(model), loss_reduction="sum", strict=False)
    parameters = [p for p in module.parameters() if p.requires_grad]

    def norms() -> Tensor:
        each = [p.grad_sample.flatten(1).norm(dim=1) for p in parameters]
        for parameter in parameters:
            parameter.grad_sample = None
        return torch.stack(each).norm(dim=0)

    return _arm(workload, module, norms)


def ghost(workload: Workload, model: nn.Module) -> Arm:
    """Gram matrices of inputs and output gradients; one backward pass, nothing is clipped."""
    need_rows(workload)
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    module: Any = GradSampleModuleFastGradientClipping(
        _own_recurrence(model), loss_reduction="sum", strict=False
    )
    return _arm(workload, module, module.get_norm_sample)


def _arm(workload: Workload, module: Any, norms: Any) -> Arm:
    def run() -> Tensor:
        found = []
        for part in workload.parts:
            workload.loss(module, part.args).backward()
            found.append(norms().detach())
        return in_order(workload, found)

    def reset() -> None:
        module.zero_grad(set_to_none=True)

    return Arm(run, reset)


def _own_recurrence(model: nn.Module) -> nn.Module:
    from opacus.layers import DPGRU

    for name, child in model.named_children():
        if isinstance(child, nn.GRU):
            own: Any = DPGRU(child.input_size, child.hidden_size, batch_first=child.batch_first)
            own.load_state_dict(child.state_dict())
            setattr(model, name, own)
    return model
