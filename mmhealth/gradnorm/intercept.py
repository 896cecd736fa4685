"""`Interception`: sees every operation on a trainable parameter while a step is open.

Why a `TorchFunctionMode` and not new ``forward`` methods of modules: parameters are recognised
wherever they are used, in ``torch.nn`` modules, in the modules of other libraries (their RMSNorm,
GPT-2's Conv1D, LoRA), in a line of the user's own, and an operation without a rule is caught at the
first parameter that enters it, by name. No module is touched. A mode has one weakness: inside the
handler of ``Tensor.backward`` it is off, so the forward passes that checkpointing repeats there
would go unseen. `mmhealth.gradnorm.engine` turns it on again there: both kinds of checkpointing
then repeat exactly what was done before, in a step left open through backward.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mmhealth.errors import GradNormError
from mmhealth.gradnorm import engine
from mmhealth.gradnorm.follow import Follower, ids_of, tensors_in
from mmhealth.gradnorm.layout import Layout
from mmhealth.gradnorm.ledger import Ledger
from mmhealth.gradnorm.onward import is_turn, onward
from mmhealth.gradnorm.segments import Segments
from mmhealth.gradnorm.target import Handle, Target
from mmhealth.gradnorm.use import Use

_HANDLE = "_mmhealth_handle"
_FRESH = "_mmhealth_fresh"


class UnfollowedError(Exception):
    """A rule knows no way to treat this call; says why."""


Rule = Callable[["Interception", tuple[Any, ...], dict[str, Any]], Any]
"""What is done in place of an operation with these arguments; raises `UnfollowedError`."""


class Interception(TorchFunctionMode):
    """Sends operations on targets through their rules; anything else passes as it is."""

    def __init__(
        self,
        ledger: Ledger,
        targets: Mapping[int, Target],
        rules: Mapping[Any, Rule],
        uncovered: Callable[[Target, str], None],
    ) -> None:
        super().__init__()
        self.ledger = ledger
        self.layout: Layout | None = None
        self._targets = targets
        self._rules = rules
        self._uncovered = uncovered
        self._follower = Follower()
        self._rows: dict[Any, Target] = {}
        self._segments: dict[tuple[int, tuple[int, ...]], tuple[Tensor, Segments]] = {}

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """One operation."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__get__":
            if not is_turn(func):
                return func(*args, **kwargs)
            name = "t"
        if func in engine.ENTRIES:
            return engine.run(self, func, args, kwargs)
        recording = torch.is_grad_enabled()
        if not recording and func is not torch.nn.functional.embedding:
            return func(*args, **kwargs)
        tensors = tensors_in(*args, *kwargs.values())
        found = fresh = None
        for tensor in tensors:
            if found is None and self.handle(tensor) is not None:
                found = tensor
            elif fresh is None and getattr(tensor, _FRESH, None) is not None:
                fresh = tensor
        if found is None:
            result = func(*args, **kwargs)
        else:
            result = self._with_parameter(func, found, tensors, args, kwargs)
        if recording:
            if self._follower.concerned(name):
                self._follower.follow(self.layout, name, (func, args, kwargs), result)
            if fresh is not None:
                self._keep_fresh(func, result, tensors, fresh)
        return result

    def handle(self, tensor: Tensor | None) -> Handle | None:
        """The handle of a tensor that is a target or stands for one."""
        if tensor is None:
            return None
        target = self._targets.get(id(tensor))
        if target is not None:
            return target.handle
        found: Handle | None = getattr(tensor, _HANDLE, None)
        return found

    def use(self, tensor: Tensor | None, segments: Segments) -> Use | None:
        """A dense use of a tensor, None if it is no target's."""
        handle = self.handle(tensor)
        return None if handle is None else Use.opened(self.ledger, handle, segments)

    def segments(self, like: Tensor, leading: int, shape: torch.Size | None = None) -> Segments:
        """Segments of the first ``leading`` axes of a tensor (or of a shape that it broadcasts to).

        Raises `UnfollowedError` where they are not tokens of the layout.
        """
        axes = tuple((like.shape if shape is None else shape)[:leading])
        if self.layout is None:
            raise GradNormError("no part of the step is open: call norms.part(k) first")
        carried = ids_of(like)
        if carried is not None:
            return self._carried(carried, axes, like.device)
        resolved = self.layout.resolve(axes, like.device)
        if resolved is None:
            raise UnfollowedError(
                f"input with leading axes {axes}, but the step was opened for "
                f"{self.layout.expected()}"
            )
        return resolved

    def _carried(self, ids: Tensor, axes: tuple[int, ...], device: torch.device) -> Segments:
        if (id(ids), axes) in self._segments:
            return self._segments[id(ids), axes][1]
        spread = None
        if ids.shape == axes[: ids.ndim]:
            spread = ids.view(*ids.shape, *[1] * (len(axes) - ids.ndim)).expand(axes).reshape(-1)
        elif ids.numel() and ids.shape[: len(axes)] == axes:
            rest = ids.reshape(math.prod(axes), -1)
            spread = rest[:, 0] if bool((rest == rest[:, :1]).all()) else None
        if spread is None:
            raise UnfollowedError("its input's tokens were moved in a way that cannot be followed")
        self._segments[id(ids), axes] = ids, Segments.of(spread.to(device))
        return self._segments[id(ids), axes][1]

    def begin(self, layout: Layout) -> None:
        """Operations from now on belong to tokens of this layout."""
        self.layout = layout
        self._segments.clear()

    def mark_fresh(self, result: Tensor, parameter: Tensor | None) -> None:
        """This was computed from a parameter and data that may be of no trajectory: positions."""
        handle = self.handle(parameter)
        if handle is not None and self.layout is not None and self.layout.per_row:
            setattr(result, _FRESH, handle.target)

    def refuse_broadcast(self, tensors: list[Tensor], shape: torch.Size) -> None:
        """Name a parameter whose rows, taken for trajectories', now meet all trajectories at once.

        As many positions (or buckets) as rows look like rows until they are broadcast.
        """
        layout = self.layout
        if layout is None or not shape or shape[0] != len(layout.ids):
            return
        for tensor in tensors:
            target: Target | None = getattr(tensor, _FRESH, None)
            aligned = tensor.ndim == len(shape) and tensor.shape[0] == shape[0]
            if target is not None and tensor.ndim and not aligned:
                self._uncovered(target, "what it gives is broadcast over trajectories")

    def _keep_fresh(self, func: Any, result: Any, tensors: list[Tensor], fresh: Tensor) -> None:
        others = any(t is not fresh and self.handle(t) is None for t in tensors)
        if others and func in self._rules and isinstance(result, Tensor):
            self.refuse_broadcast(tensors, result.shape)
        for one in tensors_in(result):
            if not others and one is not fresh and one.requires_grad:
                setattr(one, _FRESH, getattr(fresh, _FRESH))

    def _with_parameter(
        self,
        func: Any,
        found: Tensor,
        tensors: list[Tensor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if torch.compiler.is_compiling():
            raise GradNormError("a compiled region cannot be measured: run the step uncompiled")
        rule = self._rules.get(func)
        alone = all(t is found for t in tensors)
        reason = f"operation {getattr(func, '__name__', func)!r} has no exact rule"
        if rule is not None:
            try:
                return rule(self, args, kwargs)
            except UnfollowedError as refusal:
                reason = str(refusal)
        result = func(*args, **kwargs)
        if not any(t.requires_grad for t in tensors_in(result)) or result is found:
            return result
        handle = self.handle(found)
        assert handle is not None
        if alone and isinstance(result, Tensor):
            further = onward(func, handle, result, args, self._rows)
            if further is not None:
                setattr(result, _HANDLE, further)
                return result
        for tensor in tensors:
            named = self.handle(tensor)
            if named is not None and tensor.requires_grad:
                self._uncovered(named.target, reason)
        return result
