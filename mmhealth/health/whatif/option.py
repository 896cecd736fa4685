"""What an option is, and what it makes of a step."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from mmhealth.health.rows import Rows
from mmhealth.health.whatif.terms import StepTerms

Kind = Literal["exact", "estimate", "bound"]
"""exact: what measuring the changed loss on the logged rows, with the logged parameters, would
give. estimate: it rests on an assumption that the log cannot confirm. bound: only limits are known.
"""
KINDS: tuple[Kind, ...] = ("exact", "estimate", "bound")
Limits = tuple[float | None, float | None]

LINEAR = "the gradient of -w A log pi is linear in w A, so grad_norm scales with it"


@dataclass(frozen=True, slots=True)
class Change:
    """One step as an option would have left it."""

    rows: Rows | None
    """The changed rows; None where only limits are known."""
    kind: Kind = "exact"
    of: int | None = None
    """Rows that ESS are fractions of; None: those of the update as logged."""
    notes: tuple[str, ...] = ()
    """What makes it less than exact in this step."""
    bounds: dict[str, Limits] = field(default_factory=dict)
    """Least and most that a metric can be, None for no limit."""


@dataclass(frozen=True, slots=True)
class Option:
    """Something that could have been done. ``change`` raises `Missing` for data it lacks.

    Steps are put to ``change`` in order, so it may remember what it saw: take a new option for
    every comparison.
    """

    name: str
    title: str
    assumption: str
    price: str
    """What a higher ESS is bought with."""
    change: Callable[[StepTerms], Change]
    against: str | None = None
    """Why more ESS is no reason to do it: such an option is shown and not ranked."""


def linear(terms: StepTerms, rows: Rows, kind: Kind = "exact", *notes: str) -> Change:
    """A change that scales gradients; an estimate where they are not of ``-w A log pi`` alone."""
    against = terms.nonlinear()
    return Change(rows, "estimate" if against else kind, notes=(*notes, *against))
