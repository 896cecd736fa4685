"""Figure 4: a cliff makes policies flee, a slope with a bonus does not."""

from mmhealth.reference.experiments.claims.base import Claim, Criterion
from mmhealth.reference.experiments.claims.criteria import (
    NO_DATA,
    better,
    counted,
    describe,
    mean_in,
    stretch,
)
from mmhealth.reference.experiments.results import Results
from mmhealth.reference.experiments.statistics import summarise

FLED = 0.9
"""Share of serial or refused episodes from which a policy has fled the boundary."""
LATE = 1 / 3
"""Last part of a run."""


def _compliance(results: Results) -> list[Criterion]:
    return [
        mean_in(
            f"compliance of {arm}, last 20 steps",
            results.tail("4", arm, "compliance"),
            0.985,
            None,
            "about 100 %",
        )
        for arm in ("hard", "soft")
    ]


def _flight(results: Results) -> list[Criterion]:
    fled = _fled(results, "hard")
    some = [seed for seed, share in fled.items() if share >= FLED]
    spread = summarise(results.final("4", "hard").values())
    enough = spread is not None and spread.seeds > 1
    needless = results.tail("4", "hard latency", "needless_subagents")
    return [
        Criterion(
            what=f"seeds with at least {FLED:.0%} serial or refused episodes, last 20 steps",
            measured=f"{len(some)} of {len(fled)}; share {describe(fled)}",
            bound="at least one",
            article="they refuse parallel work",
            holds=None if len(fled) < 2 else bool(some),
        ),
        Criterion(
            what="spread of held-out success over seeds",
            measured=f"{spread.high - spread.low:.2f} ({spread.low:.3f} to {spread.high:.3f})"
            if spread is not None and enough
            else NO_DATA,
            bound="at least 0.3",
            article="high variance",
            holds=spread.high - spread.low >= 0.3 if spread is not None and enough else None,
        ),
        stretch(
            mean_in(
                "needless sub-agents an episode where latency is limited, last 20 steps",
                needless,
                1.0,
                None,
            ),
            "needless sub-agents",
        ),
    ]


def _fled(results: Results, arm: str) -> dict[int, float]:
    """Share of serial or refused episodes in the last 20 steps."""
    return results.tail("4", arm, "retreat")


def _soft(results: Results) -> list[Criterion]:
    soft, hard = results.final("4", "soft"), results.final("4", "hard")
    fled = _fled(results, "soft")
    return [
        better("soft minus hard, held-out success", soft, hard),
        counted(
            f"soft: fewer than 90 % serial or refused episodes, last 20 steps ({describe(fled)})",
            {seed: share < FLED for seed, share in fled.items()},
        ),
        stretch(
            better(
                "soft minus hard where latency is limited",
                results.final("4", "soft latency"),
                results.final("4", "hard latency"),
            )
        ),
        stretch(better("soft minus softplus alone", soft, results.final("4", "softplus alone"))),
        stretch(
            mean_in(
                "hard: gain in held-out success over the last third",
                _gains(results, "hard"),
                None,
                -0.02,
            ),
            "degrades at last",
        ),
        stretch(
            mean_in(
                "soft: gain in held-out success over the last third",
                _gains(results, "soft"),
                0.0,
                None,
            ),
            "improves steadily",
        ),
    ]


def _magnitude(results: Results) -> list[Criterion]:
    loose = results.tail("4", "looser hard", "compliance")
    return [
        mean_in("compliance of looser hard, last 20 steps", loose, None, 0.985, "violations"),
        mean_in(
            "serial or refused episodes of tighter hard, last 20 steps",
            _fled(results, "tighter hard"),
            FLED,
            None,
            "serial collapse",
        ),
        better(
            "soft minus looser hard, held-out success",
            results.final("4", "soft"),
            results.final("4", "looser hard"),
        ),
    ]


def _gains(results: Results, arm: str) -> dict[int, float]:
    gains = {}
    for seed, run in results.of("4", arm).items():
        steps, success = run.success()
        late = success[steps >= (1 - LATE) * run.series("step")[-1]]
        if len(late):
            gains[seed] = float(late[-1] - late[0])
    return gains


CLAIMS = (
    Claim(
        name="compliance",
        figure="4",
        text="Hard and soft constraints are kept alike.",
        criteria=_compliance,
    ),
    Claim(
        name="flight from the cliff",
        figure="4",
        text="Under a hard penalty policies satisfy the constraint and become useless.",
        criteria=_flight,
    ),
    Claim(
        name="soft constraints",
        figure="4",
        text="A softplus penalty and an annealed bonus for parallel work solve the task.",
        criteria=_soft,
    ),
    Claim(
        name="no stable middle",
        figure="4",
        text="A looser penalty leads to violations, a tighter one to serial collapse.",
        criteria=_magnitude,
    ),
)
