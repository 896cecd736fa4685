"""`torch.func`: vmap over the gradient of one trajectory's term."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from gradnorms.arm import Arm, Prepare, clear, in_order, need_rows
from gradnorms.workload import Args, Workload


def chunks_of(size: int | None) -> Prepare:
    """So many trajectories at once (None: all of a part); the sum becomes the gradient."""

    def prepare(workload: Workload, model: nn.Module) -> Arm:
        need_rows(workload)
        parameters = dict(model.named_parameters())

        def term(values: dict[str, Tensor], *args: Tensor) -> Tensor:
            def call(*inputs: object, **named: object) -> object:
                return functional_call(model, values, inputs, named)

            return workload.loss(call, tuple(a.unsqueeze(0) for a in args))

        def part_norms(args: Args) -> Tensor:
            found = []
            for some in _chunks(args, size):
                axes = (None, *[0] * len(some))
                each = vmap(grad(term), in_dims=axes, randomness="different")(parameters, *some)
                norms = torch.stack([g.flatten(1).norm(dim=1) for g in each.values()])
                found.append(norms.norm(dim=0))
                for name, parameter in parameters.items():
                    total = each[name].sum(0)
                    parameter.grad = total if parameter.grad is None else parameter.grad + total
            return torch.cat(found)

        def run() -> Tensor:
            return in_order(workload, [part_norms(part.args) for part in workload.parts])

        return Arm(run, clear(model))

    return prepare


def _chunks(args: Args, size: int | None) -> Iterator[Args]:
    rows = len(args[0])
    for start in range(0, rows, size or rows):
        yield tuple(a[start : start + (size or rows)] for a in args)
