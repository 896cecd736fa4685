"""`GradNorms`: exact per-trajectory gradient norms of whole models from the one backward pass.

A weight's gradient is a sum over trajectories. Its summands are computed one after another into
one buffer, each is squared, and their sum is the gradient that the optimizer gets: the norms cost
no second backward pass and no gradient per sample is kept (`mmhealth.gradnorm.summands`).

What is measured: the norm of the gradient of trajectory i's term in the loss that was
backpropagated, over all trainable parameters, with every factor that the loss had
(`mmhealth.gradnorm.scales` undoes them). Losses that couple trajectories (batch normalisation,
balance losses of experts) have no such terms.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

from torch import Tensor, nn

from mmhealth.errors import GradNormError
from mmhealth.gradnorm import coverage
from mmhealth.gradnorm.columns import Columns
from mmhealth.gradnorm.dots import Dots
from mmhealth.gradnorm.intercept import Rule
from mmhealth.gradnorm.layout import Layout, as_layout
from mmhealth.gradnorm.ledger import Ledger, Scratch
from mmhealth.gradnorm.modes import Mode, Plan, plan
from mmhealth.gradnorm.passed import PassedStep
from mmhealth.gradnorm.sampled import Sampled
from mmhealth.gradnorm.sketch import Sketch
from mmhealth.gradnorm.step import StepNorms
from mmhealth.gradnorm.target import Target

OnUncovered = Literal["error", "report", "later"]
_MEMORY_LIMIT = 1 << 30


class GradNorms:
    """Measures exact per-trajectory gradient norms; model, optimizer and loss stay as they are.

    ::

        meter = GradNorms(model)
        with meter.step(len(batch)) as norms:      # or packed(cu_seqlens), segment_ids(...)
            loss = terms(batch).mean()
            loss.backward()                        # inside the context
        norms.per_trajectory()

    The gradients that the optimizer gets are plain ones to rounding (sums in another order). With
    ``bitwise`` they are plain ones to the last bit, for one more product per weight: a run is the
    same run with and without the meter. Padding is not skipped then, and recurrent networks,
    `torch.nn.MultiheadAttention`, GroupNorm and `torch.nn.RMSNorm` have no rule.

    With ``alignment`` there are cosines with the gradient of all, `StepNorms.alignment`: the
    summands of one weight at a time are kept for them, in a step of several parts all of them.

    ``mode`` trades exactness: `Sketch` or `Sampled`; None measures everything, exactly.

    ``on_uncovered="report"`` measures the other parameters where one has no rule, and tells what
    share of the gradient is missing (`StepNorms.uncovered`); the default raises
    `UncoveredParameterError` at once, here or at the operation that has no rule; ``"later"`` leaves
    the forward pass alone and raises it when a norm is read. ``rules`` are those of functions of
    your own that ask `torch.overrides`, beside the built-in ones. ``shared`` names
    parameters (patterns as of a shell) to be treated as used more than once although that cannot be
    seen in the forward pass: a layer shared by regions under reentrant checkpointing, or a graph
    that is backpropagated twice. Compiled modules are refused; compiled functions run uncompiled
    while a step is open.
    """

    def __init__(
        self,
        model: nn.Module,
        mode: Mode = None,
        *,
        alignment: bool = False,
        bitwise: bool = False,
        on_uncovered: OnUncovered = "error",
        rules: Mapping[Any, Rule] | None = None,
        shared: Sequence[str] = (),
        memory_limit: int = _MEMORY_LIMIT,
    ) -> None:
        """``memory_limit``: bytes that trajectories spanning several parts may take, and that
        sketches of parameters used more than once may.
        """
        if on_uncovered not in ("error", "report", "later"):
            raise GradNormError(
                f'on_uncovered must be "error", "report" or "later", got {on_uncovered!r}'
            )
        self._model = model
        self._mode = mode
        self._steps = 0
        if alignment and mode is not None:
            raise GradNormError("alignment needs exact gradients: leave out the mode")
        self._alignment = alignment
        self._bitwise = bitwise
        self._on_uncovered = on_uncovered
        self._own_rules = dict(rules or {})
        self._shared = tuple(shared)
        self._memory_limit = memory_limit
        self._targets: dict[int, Target] = {}
        self._rows: dict[int, Layout] = {}
        self._scratch: Scratch = {}
        self._survey()

    def step(self, *parts: int | Tensor | Layout) -> StepNorms:
        """A context for all forward and backward passes of one optimizer step.

        One argument a part: a number of batch rows, a map (rows,) from row to trajectory, or a
        `Layout`. With several parts (micro-batches, accumulation) call ``norms.part(k)`` before
        the forward pass of part k, and backpropagate it before the next; trajectories are numbered
        over the whole step, and those that occur in several parts are added before the square.

        Raises `GradNormError` where their gradients would need more than ``memory_limit`` bytes,
        or a module normalises over the batch, and `UncoveredParameterError` for parameters
        unfrozen since that have no rule.
        """
        if not parts:
            raise GradNormError("a step needs at least one part: step(number of rows)")
        index, self._steps = self._steps, self._steps + 1
        if isinstance(self._mode, Sampled) and not self._mode.measures(index):
            return PassedStep(self._mode.every)
        survey = self._survey()
        if survey.coupling:
            raise coverage.refuse_coupling(survey.coupling)
        layouts = [self._layout(part) for part in parts]
        if self._bitwise:
            layouts = [
                layout.unmasked() if layout.mask is not None else layout for layout in layouts
            ]
        what = plan(self._mode, index, self._model, survey.targets, layouts)
        spanning = _spanning(what.layouts, everyone=self._alignment)
        if spanning:
            self._refuse_beyond_limit(what, len(spanning))
        ledger = Ledger(
            what.accounts, self._is_shared, spanning, self._scratch, bitwise=self._bitwise
        )
        if self._alignment:
            ledger.dots = Dots(what.accounts)
        if isinstance(self._mode, Sketch):
            slots = {i: slot for slot, i in enumerate(sorted(spanning))}
            ledger.columns = Columns(
                self._mode, index, what.accounts, slots, memory_limit=self._memory_limit
            )
        return StepNorms(what, ledger, on_uncovered=self._on_uncovered, own_rules=self._own_rules)

    def _refuse_beyond_limit(self, what: Plan, spanning: int) -> None:
        size = spanning * sum(
            what.elements(t.parameter.shape) * max(4, t.parameter.element_size())
            for t in what.targets.values()
        )
        if size > self._memory_limit:
            raise GradNormError(
                f"{spanning} trajectories span several parts: their gradients would take "
                f"{size:,} bytes, memory_limit is {self._memory_limit:,}. Keep each trajectory in "
                "one part, raise the limit, or measure with mode=Sketch()"
            )

    def _survey(self) -> coverage.Survey:
        survey = coverage.survey(self._model, self._targets)
        if survey.without_rule and self._on_uncovered != "report":
            raise coverage.refusal(survey.without_rule)
        self._targets = survey.targets
        return survey

    def _layout(self, part: int | Tensor | Layout) -> Layout:
        """A layout for this step; of a plain number of rows the last is remembered."""
        if type(part) is not int:
            return as_layout(part)
        if part not in self._rows:
            self._rows = {part: as_layout(part)}
        return self._rows[part]

    def _is_shared(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self._shared)


def _spanning(layouts: list[Layout], *, everyone: bool) -> list[int]:
    """Trajectories that occur in several parts, or all that do in any."""
    if len(layouts) == 1:
        return []
    occurrences = Counter(i for layout in layouts for i in layout.members)
    return [i for i, times in occurrences.items() if times > 1 or everyone]
