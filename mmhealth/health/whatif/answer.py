"""What comes of a comparison: options, their numbers, and how sure they are."""

from dataclasses import dataclass

from mmhealth.health.whatif.option import Kind, Limits


@dataclass(frozen=True, slots=True)
class Effect:
    """One metric with and without an option: means over the steps at which both are known."""

    logged: float
    then: float
    steps: int

    @property
    def gain(self) -> float:
        """What the option adds."""
        return self.then - self.logged


@dataclass(frozen=True, slots=True)
class Answer:
    """What one option would have made of the steps."""

    name: str
    title: str
    kind: Kind | None
    """The least certain of its steps; None: insufficient data."""
    missing: str | None
    """Why there is no number at all."""
    assumption: str
    price: str
    notes: tuple[str, ...]
    """Why it is less than exact, where that lies in the data."""
    effects: dict[str, Effect]
    reasons: dict[str, str]
    """Why a metric is not among the effects."""
    bounds: dict[str, Limits]
    """Least and most that the mean of a metric can be; None for no limit."""
    rank: int | None = None
    """1 for the largest gain; None where there is none, and where ``against`` is given."""
    against: str | None = None
    """Why more ESS would be no reason to do it."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """All options over the same steps."""

    steps: tuple[int, ...]
    rows: float
    """Rows of the update, mean over the steps."""
    logged: dict[str, Effect]
    """The metrics as logged, means over the steps at which they are known."""
    reasons: dict[str, str]
    answers: list[Answer]
    """Those with a rank first, in order; then as the options were given."""
    solved_groups: float | None
    failed_groups: float | None
    """Shares of the groups sampled, means over the steps: what is solved has ESS 0 of right."""
    ranked_by: str
    """``ess_contribution``; ``ess_signal`` where no gradient norm is logged."""
    notes: tuple[str, ...] = ()
