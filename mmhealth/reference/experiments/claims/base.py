"""A claim: what the article says, the criteria it is held against, and the verdict."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mmhealth.reference.experiments.results import Results

VerdictName = Literal["reproduced", "reproduced in part", "not reproduced", "insufficient data"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Criterion:
    """One thing that was measured, beside the article's figure and the bound it must keep."""

    what: str
    """What was measured, and how."""
    measured: str
    """The figure, in words; "insufficient data" where there is none."""
    bound: str
    """What it must keep."""
    article: str = ""
    """The article's own figure, where it has one."""
    holds: bool | None
    """None: insufficient data."""
    stretch: bool = False
    """Said beside the verdict, and no part of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """Something the article says."""

    name: str
    figure: str
    """Figure whose runs test it."""
    text: str
    """In a sentence."""
    criteria: Callable[[Results], list[Criterion]]
    """What its runs have to show."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a claim."""

    claim: Claim
    criteria: tuple[Criterion, ...]
    missing: tuple[str, ...] = ()
    """Runs of the figure that were planned and are not there, in words."""

    @property
    def name(self) -> VerdictName:
        """All criteria hold, some do, none does; or one of them has too little data."""
        held = [one.holds for one in self.criteria if not one.stretch]
        if not held or None in held or self.missing:
            return "insufficient data"
        if all(held):
            return "reproduced"
        return "reproduced in part" if any(held) else "not reproduced"

    @property
    def because(self) -> str:
        """What did not hold, or could not be told, with its figures; empty if all is well."""
        wanting = [one for one in self.criteria if not one.holds and not one.stretch]
        words = [f"{one.what}: {one.measured}, bound {one.bound}" for one in wanting]
        if self.missing:
            words.insert(0, f"runs are missing: {', '.join(self.missing)}")
        return "; ".join(words)


def judge(claim: Claim, results: Results, missing: tuple[str, ...] = ()) -> Verdict:
    """Hold a claim against results; with runs ``missing`` nothing is decided."""
    return Verdict(claim, tuple(claim.criteria(results)), missing)
