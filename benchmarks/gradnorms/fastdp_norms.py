"""fastDP's book-keeping (`MixOpt`): the cheaper of ghost norms and per-sample gradients a layer.

As fast as it can be: autograd computes no weight gradient beside its own (*origin parameters*), no
noise is drawn, nothing is clipped. It deletes the norms as soon as it has clipped by them, so they
are read just before.
"""

import contextlib
import io
import math
from typing import Any

import torch
from torch import Tensor, nn

from gradnorms.arm import Arm, UnableError, in_order, need_rows
from gradnorms.workload import Workload


def mix_opt(workload: Workload, model: nn.Module) -> Arm:
    """Norms of the layers that it supports; its sum of gradients becomes ``.grad``."""
    need_rows(workload)
    from fastDP import PrivacyEngine, autograd_grad_sample

    first = next((n for n, p in model.named_parameters() if p.requires_grad), None)
    if first is None:
        raise UnableError("no trainable parameter")
    with contextlib.redirect_stdout(io.StringIO()):
        engine: Any = PrivacyEngine(
            model,
            batch_size=workload.count,
            sample_size=workload.count,
            epochs=1,
            noise_multiplier=0.0,
            max_grad_norm=math.inf,
            clipping_fn="global",
            clipping_mode="MixOpt",
            loss_reduction="sum",
            origin_params=[first],
        )
    found: list[Tensor] = []
    clip = autograd_grad_sample._per_block_clip_grad

    def read_then_clip(layer: nn.Module, named_params: Any, *rest: Any) -> None:
        norms = [p.norm_sample for _, p in named_params if hasattr(p, "norm_sample")]
        found.append(torch.stack(norms).norm(dim=0))
        clip(layer, named_params, *rest)

    def run() -> Tensor:
        found.clear()
        autograd_grad_sample._per_block_clip_grad = read_then_clip
        autograd_grad_sample._create_or_extend_private_grad = _add
        try:
            for part in workload.parts:
                workload.loss(model, part.args).backward()
        finally:
            autograd_grad_sample._per_block_clip_grad = clip
        for _, parameter in engine.named_params:
            parameter.grad = getattr(parameter, "private_grad", None)
        return in_order(workload, found)

    def reset() -> None:
        for parameter in model.parameters():
            parameter.grad = None
            if hasattr(parameter, "private_grad"):
                del parameter.private_grad

    return Arm(run, reset)


def _add(parameter: Any, gradient: Tensor, accumulate_private_grad: bool = True) -> None:
    """What fastDP does with a gradient, without the noise."""
    gradient = gradient.detach()
    if hasattr(parameter, "private_grad") and accumulate_private_grad:
        gradient = parameter.private_grad + gradient
    parameter.private_grad = gradient
