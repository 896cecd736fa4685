"""Kinds of criteria: bounds on means, bounds on every seed, paired differences."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from mmhealth.reference.experiments.claims.base import Criterion
from mmhealth.reference.experiments.statistics import Difference, paired, summarise

Values = Mapping[int, float]
"""By seed."""
NO_DATA = "insufficient data"
MARGIN = 0.1
"""Success that *not worse* must rule out losing."""


def mean_in(
    what: str, values: Values, low: float | None, high: float | None, article: str = ""
) -> Criterion:
    """The mean over seeds lies within bounds; None is no bound."""
    summary = summarise(values.values())
    return Criterion(
        what=f"{what} (mean)",
        measured=describe(values),
        bound=_bound(low, high),
        article=article,
        holds=None if summary is None or summary.seeds < 2 else _within(summary.mean, low, high),
    )


def every_in(
    what: str,
    values: Mapping[int, float | None],
    low: float | None,
    high: float | None,
    article: str = "",
) -> Criterion:
    """Every seed lies within bounds; a seed without a number (it never happened) does not."""
    known = {seed: value for seed, value in values.items() if value is not None}
    missing = len(values) - len(known)
    never = f"; never in {missing} of {len(values)} seeds" if missing else ""
    return Criterion(
        what=f"{what} (every seed)",
        measured=(describe(known) if known else "never") + never if values else NO_DATA,
        bound=_bound(low, high),
        article=article,
        holds=None
        if len(values) < 2
        else not missing and all(_within(value, low, high) for value in known.values()),
    )


def better(what: str, arm: Values, other: Values, *, by: float = 0.0) -> Criterion:
    """The interval of the paired difference lies above 0, and its mean is at least ``by``."""
    gap = paired(arm, other)
    verdict = None if gap is None else gap.better
    return Criterion(
        what=what,
        measured=describe_difference(gap),
        bound="interval above 0" + (f", mean at least {by:+.2f}" if by else ""),
        holds=None if verdict is None or gap is None else verdict and gap.mean >= by,
    )


def worse(what: str, arm: Values, other: Values) -> Criterion:
    """The interval of the paired difference lies below 0."""
    gap = paired(arm, other)
    return Criterion(
        what=what,
        measured=describe_difference(gap),
        bound="interval below 0",
        holds=None if gap is None or gap.high is None else gap.high < 0,
    )


def not_worse(what: str, arm: Values, other: Values) -> Criterion:
    """The interval of the paired difference reaches 0, and nowhere near `MARGIN` below it.

    One that reaches both is too wide to tell.
    """
    gap = paired(arm, other)
    holds = None if gap is None else gap.not_worse
    if holds and gap is not None and gap.low is not None and gap.low <= -MARGIN:
        holds = None
    return Criterion(
        what=what,
        measured=describe_difference(gap),
        bound=f"interval not below 0, and above {-MARGIN:g}",
        holds=holds,
    )


def counted(what: str, seeds: Mapping[int, bool], article: str = "") -> Criterion:
    """Something is so in every seed."""
    held = sum(seeds.values())
    return Criterion(
        what=what,
        measured=f"in {held} of {len(seeds)} seeds" if seeds else NO_DATA,
        bound="in every seed",
        article=article,
        holds=None if len(seeds) < 2 else held == len(seeds),
    )


def stretch(criterion: Criterion, article: str = "") -> Criterion:
    """The same as a goal that is said beside the verdict and is no part of it."""
    return replace(criterion, stretch=True, article=article or criterion.article)


def describe(values: Values) -> str:
    """Mean and range in words."""
    summary = summarise(values.values())
    if summary is None:
        return NO_DATA
    number = _digits(summary.mean)
    if summary.seeds == 1:
        return f"{number(summary.mean)} ({NO_DATA}: 1 seed)"
    return f"{number(summary.mean)} ({number(summary.low)} to {number(summary.high)})"


def describe_difference(gap: Difference | None) -> str:
    """A paired difference in words."""
    if gap is None:
        return NO_DATA
    if gap.low is None or gap.high is None:
        return f"{gap.mean:+.3f} ({NO_DATA}: 1 seed)"
    return f"{gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"


def _digits(size: float) -> Callable[[float], str]:
    places = 0 if abs(size) >= 10 else 2 if abs(size) >= 1 else 3
    return lambda value: f"{value:.{places}f}"


def _within(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def _bound(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"
