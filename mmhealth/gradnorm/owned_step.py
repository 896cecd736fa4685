"""`OwnedStep`: the context of one optimizer step, and the norms it leaves."""

import sys
from contextlib import ExitStack
from functools import cache
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from mmhealth.errors import GradNormError
from mmhealth.gradnorm import coverage
from mmhealth.gradnorm.intercept import Interception
from mmhealth.gradnorm.layout import Layout
from mmhealth.gradnorm.ledger import Ledger
from mmhealth.gradnorm.rules import rules
from mmhealth.gradnorm.target import Target
from mmhealth.gradnorm.verify import Verification


class OwnedStep:
    """Norms of one optimizer step; made by `OwnedNorms.step`."""

    def __init__(
        self, layouts: list[Layout], targets: dict[int, Target], ledger: Ledger, *, report: bool
    ) -> None:
        self._layouts = layouts
        self._targets = targets
        self._ledger = ledger
        self._report = report
        self._missing: dict[str, str] = {}
        self._arrived: dict[str, float] = {}
        self._part = -1
        self._mode = Interception(ledger, targets, _rules(), self._uncovered)
        self._hooks: list[RemovableHandle] = []
        self._verification: Verification | None = None
        self._squares: dict[str, Tensor] | None = None
        self._problem: GradNormError | None = GradNormError(
            "the step has not run yet: open it with a with statement"
        )
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._hook()
        if len(self._layouts) == 1:
            self.part(0)
        if "torch._dynamo" in sys.modules:
            self._open.enter_context(torch.compiler.set_stance("force_eager"))
        self._open.enter_context(self._mode)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()
        self._unhook()
        if kind is not None:
            self._problem = GradNormError(f"the step ended with {kind.__name__}")
            return
        self._ledger.close()
        self._problem = self._found_problem()
        if self._problem is None:
            self._squares = self._ledger.squares(without=self._missing)
            wrong = self._verification and self._verification.problem(self._total())
            if wrong:
                self._problem, self._squares = GradNormError(wrong), None

    def part(self, index: int) -> None:
        """Part ``index`` begins: forward and backward passes from here are of its layout."""
        if index != self._part + 1 or index >= len(self._layouts):
            raise GradNormError(
                f"part({index}) after part {self._part} of {len(self._layouts)}: parts are "
                "numbered from 0 and taken in order"
            )
        if index:
            self._ledger.end_part()
        self._part = index
        self._mode.begin(self._layouts[index])

    def per_trajectory(self, scale: float | Tensor = 1.0) -> Tensor:
        """(B,) float64: norm of the gradient of each trajectory's term in the loss.

        ``scale``, a number or (B,), is divided out: the factor the term has in the loss that was
        backpropagated. A trajectory that the loss does not depend on has norm 0. Raises
        `GradNormError` where there is no such number, and says why.
        """
        return self._total().clamp(min=0).sqrt() / scale

    def by_module(self, scale: float | Tensor = 1.0) -> dict[str, Tensor]:
        """(B,) float64 norms by the module that owns the parameters; squares add up to the whole.

        A tied parameter counts to the module that is named first.
        """
        totals: dict[str, Tensor] = {}
        for name, squares in self._read().items():
            module = name.rpartition(".")[0]
            totals[module] = totals[module] + squares if module in totals else squares
        return {module: t.clamp(min=0).sqrt() / scale for module, t in totals.items()}

    def by_parameter(self, scale: float | Tensor = 1.0) -> dict[str, Tensor]:
        """(B,) float64 norms by parameter."""
        return {name: t.clamp(min=0).sqrt() / scale for name, t in self._read().items()}

    def uncovered(self) -> dict[str, float]:
        """Parameters left out, with their share of the squared norm of the whole batch gradient.

        Empty unless ``on_uncovered="report"``. The sum of the shares is what the norms leave out of
        the batch's gradient; of one trajectory it may be more or less.
        """
        self._read()
        total = sum(self._arrived.values())
        return {n: self._arrived.get(n, 0.0) / total if total else 0.0 for n in self._missing}

    def verify(self, terms: Tensor, trajectories: int = 2, seed: int = 0) -> list[int]:
        """Check norms against a real backward pass for each of some trajectories.

        Call it inside the context before ``backward``. ``terms`` (B,) are the trajectories' terms
        as they enter the loss: ``terms.sum()`` is what will be backpropagated. Each of the chosen
        ones costs one backward pass through the whole graph. If a norm differs by more than
        rounding, reading the norms raises `GradNormError` and says by how much. Returns the
        trajectories chosen. Not with reentrant
        checkpointing or several parts.
        """
        if len(self._layouts) > 1:
            raise GradNormError("verify() needs a step of one part")
        if terms.shape != (self._ledger.count,):
            raise GradNormError(f"terms must be ({self._ledger.count},), got {tuple(terms.shape)}")
        covered = [t for t in self._targets.values() if t.name not in self._missing]
        self._unhook()
        with self._ledger.aside():
            self._verification = Verification.of(terms, covered, trajectories, seed)
        self._hook()
        return self._verification.chosen

    def arrived(self, target: Target, gradient: Tensor) -> None:
        """A gradient reaches a parameter."""
        if self._report:
            square = float(torch.linalg.vector_norm(gradient, dtype=torch.float64)) ** 2
            self._arrived[target.name] = self._arrived.get(target.name, 0.0) + square
        self._ledger.audit.arrive(target, gradient)

    def _hook(self) -> None:
        for target in self._targets.values():
            hook = _Arrival(self, target)
            handle = target.parameter.register_hook(hook)  # type: ignore[no-untyped-call]
            self._hooks.append(handle)

    def _unhook(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _uncovered(self, target: Target, reason: str) -> None:
        self._missing[target.parent] = reason
        if not self._report:
            raise coverage.refusal({target.parent: reason})

    def _found_problem(self) -> GradNormError | None:
        audit = self._ledger.audit
        if not any(audit.reached(t.name) for t in self._targets.values()):
            return GradNormError(
                "no gradient passed through the model: keep the step open through backward()"
            )
        if self._ledger.problems:
            return GradNormError(self._ledger.problems[0])
        for target in self._targets.values():
            gap = None if target.name in self._missing else audit.gap(target)
            if gap is not None and self._report:
                self._missing[target.name] = gap
            elif gap is not None:
                return coverage.refusal({target.name: gap})
        return None

    def _total(self) -> Tensor:
        squares = list(self._read().values())
        if not squares:
            return torch.zeros(self._ledger.count, dtype=torch.float64)
        return torch.stack([s.to(squares[0].device) for s in squares]).sum(0)

    def _read(self) -> dict[str, Tensor]:
        if self._squares is None:
            assert self._problem is not None
            raise self._problem
        return self._squares


class _Arrival:
    """Parameter hook. It holds no gradient: one that is held would be copied by autograd."""

    def __init__(self, step: OwnedStep, target: Target) -> None:
        self._step, self._target = step, target

    def __call__(self, gradient: Tensor) -> None:
        with torch._C.DisableTorchFunction():
            self._step.arrived(self._target, gradient)


@cache
def _rules() -> dict[Any, Any]:
    return dict(rules())
