"""What is refused when a meter is built, before any step: by name, with the way out."""

from collections.abc import Iterator

import torch
from torch import nn

from mmhealth.errors import GradNormError, UncoveredParameterError
from mmhealth.gradnorm.target import Target

_NO_RULE = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.Bilinear,
    nn.EmbeddingBag,
    nn.PReLU,
)
"""Modules of torch whose parameters are known to have no rule; others are judged as they run."""


def targets(model: nn.Module) -> dict[int, Target]:
    """Trainable parameters by identity, a tied one once.

    Raises `GradNormError` for models whose parameters are not plain tensors that are used as they
    are: compiled, sharded, not yet initialised.
    """
    for path, module in model.named_modules():
        if _is_compiled(module):
            raise GradNormError(
                f"{path or 'the model'} is compiled: torch.compile hides the operations on its "
                "parameters. Measure the uncompiled model (its parameters are shared with the "
                "compiled one)"
            )
    found = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if type(parameter) is not nn.Parameter:
            raise GradNormError(
                f"{name} is a {type(parameter).__name__}: sharded (FSDP, tensor parallel), "
                "quantised and lazy parameters are not plain tensors and cannot be measured. "
                "Replicate the model (DDP), initialise it, or freeze the parameter"
            )
        if parameter.dtype.is_complex:
            raise GradNormError(f"{name} is complex: only real parameters can be measured")
        found[id(parameter)] = Target(name, parameter, name)
    return found


def without_rule(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of trainable parameters of modules that have no rule, with the module's class."""
    for path, module in model.named_modules():
        if isinstance(module, _NO_RULE):
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.requires_grad:
                    yield f"{path}.{name}" if path else name, type(module).__name__


def refuse_coupling(model: nn.Module) -> None:
    """Raise `GradNormError` for modules that mix the rows of a batch, trainable or not."""
    for path, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (
            module.training or module.running_mean is None
        ):
            raise GradNormError(
                f"{path or 'the model'} normalises over the batch: a loss has no term of one "
                "trajectory alone. Put it in eval() mode, or use another normalisation"
            )


def refusal(names: dict[str, str]) -> UncoveredParameterError:
    """The error that names parameters, each with a reason."""
    listed = "; ".join(f"{name} ({reason})" for name, reason in names.items())
    return UncoveredParameterError(
        f"no exact per-trajectory rule for {listed}. Freeze them with requires_grad_(False) if "
        'they are not trained, or measure the rest with on_uncovered="report"'
    )


def _is_compiled(module: nn.Module) -> bool:
    compiled = getattr(module, "_compiled_call_impl", None) is not None
    return (
        compiled
        or type(module).__name__ == "OptimizedModule"
        or isinstance(module, torch.jit.ScriptModule)
    )
