"""What becomes of a rule's reading when it demands the population's interval.

The demand never makes a reading, it only takes one back: a breach that the interval does not bear
out is none, and neither is a recovery. See docs/policy.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from mmhealth.estimators import PopulationInterval
from mmhealth.health.judgement import Judgement
from mmhealth.health.metrics import StepMetrics
from mmhealth.health.step_intervals import Found

Side = Literal["beyond", "within", "undecided"]
IsWorse = Callable[[float, float], bool]


def interval_of_mean(steps: Sequence[StepMetrics], metric: str, level: float) -> Found:
    """Interval of the mean over steps; or why there is none.

    Its ends are the means of theirs: no too narrow one, however much the steps depend on each other
    (they may share prompts), since a mean of errors spreads no more than they do on average.
    """
    parts: list[PopulationInterval] = []
    for step in steps:
        found = step.intervals.get((metric, level), "no interval was asked for as it was measured")
        if isinstance(found, str):
            return found
        parts.append(found)
    if len(parts) == 1:
        return parts[0]
    doubts = [part.why for part in parts if not part.reliable] or [part.why for part in parts]
    return PopulationInterval(
        low=sum(part.low for part in parts) / len(parts),
        high=sum(part.high for part in parts) / len(parts),
        level=level,
        n=sum(part.n for part in parts),
        groups=sum(part.groups for part in parts),
        reliable=all(part.reliable for part in parts),
        why=next(filter(None, doubts), ""),
    )


def borne_out(
    judgement: Judgement, found: Mapping[str, Found], recover: float, is_worse: IsWorse
) -> Judgement:
    """The judgement as far as intervals bear it out.

    ``found``: by metric, of the rule's first, then of its ``_unsolved`` variant where solved groups
    are excused: a breach takes both. ``recover``: the recovery threshold.
    """
    threshold, first = judgement.threshold, next(iter(found.values()))
    assert threshold is not None
    if isinstance(first, str):
        return Judgement("no data", why=f"no interval: {first}")
    told = replace(judgement, interval=first)
    sides = {name: _side(interval, threshold, is_worse) for name, interval in found.items()}
    if "within" in sides.values():
        recovered = _side(first, recover, is_worse) == "within"
        stands = judgement.reading == "recovered" and recovered
        return told if stands else replace(told, reading="between")
    undecided = [name for name, side in sides.items() if side == "undecided"]
    if not undecided:
        return told if judgement.reading == "breached" else replace(told, reading="between")
    why = _why_undecided(undecided[0], found[undecided[0]], threshold)
    return replace(told, reading="between", why=why)


def _side(found: Found, threshold: float, is_worse: IsWorse) -> Side:
    if isinstance(found, str) or not found.reliable:
        return "undecided"
    worse = {is_worse(end, threshold) for end in (found.low, found.high)}
    if len(worse) == 2:
        return "undecided"
    return "beyond" if True in worse else "within"


def _why_undecided(metric: str, found: Found, threshold: float) -> str:
    if isinstance(found, str):
        return f"no interval of {metric}: {found}"
    ends = f"{100 * found.level:g} % interval of {metric}, {found.low:.3g} to {found.high:.3g},"
    if not found.reliable:
        return f"the {ends} is unreliable: {found.why}"
    zeros = "from the groups that hold nothing, as the jackknife is unreliable"
    despite = f" ({zeros}: {found.why})" if found.why else ""
    return f"the {ends} reaches both sides of {threshold:.3g}{despite}"
