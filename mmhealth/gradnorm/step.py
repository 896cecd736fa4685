"""`StepNorms`: the context of one optimizer step, and the norms it leaves."""

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from functools import cache
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from mmhealth.errors import GradNormError
from mmhealth.gradnorm import coverage
from mmhealth.gradnorm.intercept import Interception, Rule
from mmhealth.gradnorm.ledger import Ledger
from mmhealth.gradnorm.modes import Plan
from mmhealth.gradnorm.replicates import Estimate, Floats, Statistic
from mmhealth.gradnorm.rules import rules
from mmhealth.gradnorm.target import Target
from mmhealth.gradnorm.verify import Verification, choose


class StepNorms:
    """Norms of one optimizer step; made by `GradNorms.step`."""

    measured = True
    """False in a step that `Sampled` passes over: it has no norms to read."""

    def __init__(
        self, plan: Plan, ledger: Ledger, *, on_uncovered: str, own_rules: dict[Any, Rule]
    ) -> None:
        self._plan = plan
        self._layouts = plan.layouts
        self._targets = plan.targets
        self._ledger = ledger
        self._report = on_uncovered == "report"
        self._at_once = on_uncovered == "error"
        self._missing: dict[str, str] = {}
        self._arrived: dict[str, float] = {}
        self._part = -1
        known = _rules(ledger.bitwise)
        known = known | own_rules if own_rules else known
        self._mode = Interception(ledger, plan.targets, known, self._uncovered)
        self._hooks: list[RemovableHandle] = []
        self._verification: Verification | None = None
        self._squares: dict[str, Tensor] | None = None
        self._problem: GradNormError | None = GradNormError(
            "the step has not run yet: open it with a with statement"
        )
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if len(self._layouts) == 1:
            self.part(0)
        self._hook()
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
            wrong = self._verification and self._found_difference(self._verification)
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
        `GradNormError` where there is no such number, and says why. With ``Sampled(trajectories=
        ...)`` those not drawn are NaN; with other modes these are estimates, whose squares are
        unbiased.
        """
        squares = self._read()
        return self._plan.total(squares).clamp(min=0).sqrt() / scale

    def standard_error(self, scale: float | Tensor = 1.0) -> Tensor:
        """(B,) float64 standard error of each norm, 0 where it is exact, NaN where unknown."""
        squares = self._read()
        unit, columns = self._unit(scale), self._columns(squares)
        return torch.from_numpy(self._plan.standard_errors(squares, columns, unit))

    def error_of(self, statistic: Statistic, scale: float | Tensor = 1.0) -> Estimate:
        """A statistic of the norms with its standard error and bias from being sampled.

        ``statistic`` maps float64 norms, a NumPy vector of those that are known, to a number: a
        `mmhealth.estimators.gini`, an ESS as a fraction of the rows. By the jackknife over what was
        sampled (`mmhealth.gradnorm.replicates`); exact norms have no such error.
        """
        squares = self._read()
        unit, columns = self._unit(scale), self._columns(squares)
        return self._plan.replicates(squares, columns, unit).error_of(statistic)

    def by_module(self, scale: float | Tensor = 1.0) -> dict[str, Tensor]:
        """(B,) float64 norms by the module that owns the parameters; squares add up to the whole.

        A tied parameter counts to the module that is named first. With ``Sampled(layers=...)`` the
        modules drawn alone, each as it is: they add up to the whole only in expectation, weighted.
        """
        totals: dict[str, Tensor] = {}
        for name, squares in self._told().items():
            module = name.rpartition(".")[0]
            totals[module] = totals[module] + squares if module in totals else squares
        return {module: t.clamp(min=0).sqrt() / scale for module, t in totals.items()}

    def by_parameter(self, scale: float | Tensor = 1.0) -> dict[str, Tensor]:
        """(B,) float64 norms by parameter."""
        return {name: t.clamp(min=0).sqrt() / scale for name, t in self._told().items()}

    def alignment(self) -> Tensor:
        """(B,) float64 cosine of each trajectory's gradient with the gradient of all, their sum.

        NaN for a trajectory without a gradient. With norms a_i and cosines c_i the norm of the sum
        is ``sum a_i c_i``, which is all that the gradient noise scale needs
        (`mmhealth.estimators`). Raises `GradNormError` unless built with ``alignment=True``.
        """
        squares = self._read()
        if self._ledger.dots is None:
            raise GradNormError("no cosines were taken: build the meter with alignment=True")
        dots = self._ledger.dots.totals(self._missing)
        norms = self._plan.total(squares).clamp(min=0).sqrt().cpu()
        return (dots / (norms * dots.sum().clamp(min=0).sqrt())).clamp(-1.0, 1.0)

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
        rounding, reading the norms raises `GradNormError` and says by how much (the real gradients
        are sketched as the measured ones are). Returns the trajectories chosen, of those that are
        measured. Not with reentrant checkpointing or several parts.
        """
        if len(self._layouts) > 1:
            raise GradNormError("verify() needs a step of one part")
        if terms.shape != (self._plan.count,):
            raise GradNormError(f"terms must be ({self._plan.count},), got {tuple(terms.shape)}")
        covered = [t for t in self._targets.values() if t.name not in self._missing]
        self._unhook()
        with self._ledger.aside():
            chosen = choose(self._plan.known, trajectories, seed)
            self._verification = Verification.of(terms, covered, chosen, self._changes)
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
        if self._at_once:
            raise coverage.refusal({target.parent: reason})

    def _found_problem(self) -> GradNormError | None:
        audit = self._ledger.audit
        if not any(audit.reached(t.name) for t in self._targets.values()):
            return GradNormError(
                "no gradient passed through the model: keep the step open through backward()"
            )
        if self._ledger.problems:
            return GradNormError(self._ledger.problems[0])
        if self._missing and not self._report:
            return coverage.refusal(self._missing)
        for target in self._targets.values():
            gap = None if target.name in self._missing else audit.gap(target)
            if gap is not None and self._report:
                self._missing[target.name] = gap
            elif gap is not None:
                return coverage.refusal({target.name: gap})
        return None

    def _found_difference(self, verification: Verification) -> str | None:
        columns = self._ledger.columns
        real = verification.squares(columns.sketched if columns else ())
        return verification.problem(self._plan.total(self._read()), self._plan.total(real))

    def _changes(self, target: Target, gradient: Tensor) -> Iterable[tuple[str, float]]:
        columns = self._ledger.columns
        return columns.changes(target, gradient) if columns else ()

    def _told(self) -> dict[str, Tensor]:
        return {name: self._plan.told(squares) for name, squares in self._read().items()}

    def _unit(self, scale: float | Tensor) -> Floats:
        unit = torch.as_tensor(scale, dtype=torch.float64).cpu().expand(self._plan.count)
        return np.asarray(unit.numpy(), dtype=np.float64)

    def _columns(self, squares: dict[str, Tensor]) -> dict[str, Tensor]:
        """Squares by column of the parameters among ``squares`` that were sketched."""
        account = self._ledger.columns
        if account is None:
            return {}
        return {name: account.squares[name] for name in account.squares.keys() & squares.keys()}

    def _read(self) -> dict[str, Tensor]:
        if self._squares is None:
            assert self._problem is not None
            raise self._problem
        return self._squares


class _Arrival:
    """Parameter hook. It holds no gradient: one that is held would be copied by autograd."""

    def __init__(self, step: StepNorms, target: Target) -> None:
        self._step, self._target = step, target

    def __call__(self, gradient: Tensor) -> None:
        with torch._C.DisableTorchFunction():
            self._step.arrived(self._target, gradient)


@cache
def _rules(bitwise: bool) -> dict[Any, Any]:
    return dict(rules(bitwise=bitwise))
