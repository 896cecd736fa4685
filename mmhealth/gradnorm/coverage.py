"""What is refused when a meter is built, before any step: by name, with the way out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

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


@dataclass(slots=True)
class Survey:
    """What a model has to measure."""

    targets: dict[int, Target] = field(default_factory=dict)
    """Trainable parameters by identity, a tied one once."""
    without_rule: dict[str, str] = field(default_factory=dict)
    """Trainable parameters of modules that have no rule, with the module's class."""
    coupling: str | None = None
    """A module that mixes the rows of a batch, trainable or not."""


def survey(model: nn.Module, known: Mapping[int, Target]) -> Survey:
    """Look the model over; targets that are ``known`` are taken over.

    Raises `GradNormError` for models whose parameters are not plain tensors that are used as they
    are: compiled, sharded, not yet initialised.
    """
    found = Survey()
    for path, module in model.named_modules():
        if _is_compiled(module):
            raise GradNormError(
                f"{path or 'the model'} is compiled: torch.compile hides the operations on its "
                "parameters. Measure the uncompiled model (its parameters are shared with the "
                "compiled one)"
            )
        if found.coupling is None and _couples(module):
            found.coupling = path or "the model"
        has_rule = not isinstance(module, _NO_RULE)
        for short, parameter in module._parameters.items():
            if parameter is None or not parameter.requires_grad:
                continue
            name = f"{path}.{short}" if path else short
            if not has_rule:
                found.without_rule[name] = type(module).__name__
            if id(parameter) not in found.targets:
                target = known.get(id(parameter))
                if target is None or target.parameter is not parameter or target.name != name:
                    target = _target(name, parameter)
                found.targets[id(parameter)] = target
    return found


def _target(name: str, parameter: nn.Parameter) -> Target:
    if type(parameter) is not nn.Parameter:
        raise GradNormError(
            f"{name} is a {type(parameter).__name__}: sharded (FSDP, tensor parallel), "
            "quantised and lazy parameters are not plain tensors and cannot be measured. "
            "Replicate the model (DDP), initialise it, or freeze the parameter"
        )
    if parameter.dtype.is_complex:
        raise GradNormError(f"{name} is complex: only real parameters can be measured")
    return Target(name, parameter, name)


def _couples(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and (
        module.training or module.running_mean is None
    )


def refuse_coupling(path: str) -> GradNormError:
    """The error for a module that mixes the rows of a batch."""
    return GradNormError(
        f"{path} normalises over the batch: a loss has no term of one trajectory alone. Put it in "
        "eval() mode, or use another normalisation"
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
