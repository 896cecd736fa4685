"""Figure 1: staged objectives against premature specialisation."""

from mmhealth.reference.experiments.claims.base import Claim, Criterion
from mmhealth.reference.experiments.claims.courses import first_below
from mmhealth.reference.experiments.claims.criteria import (
    better,
    counted,
    every_in,
    mean_in,
    not_worse,
    stretch,
)
from mmhealth.reference.experiments.results import Results

COLLAPSED = 0.5
"""Entropy of the tool choice, nats, below which it counts as collapsed."""


def _collapse(results: Results) -> list[Criterion]:
    runs = results.of("1", "baseline")
    steps = {seed: first_below(run, "strategic_entropy", COLLAPSED) for seed, run in runs.items()}
    what = f"step at which the tool entropy (5-step mean) falls below {COLLAPSED:g} nats"
    early = {}
    for seed, run in runs.items():
        when, success = run.success()
        late = success[when >= (2 / 3) * run.series("step")[-1]]
        if len(late):
            early[seed] = float(late[-1] - late[0])
    return [
        every_in(what, steps, 18, 32, article="about 25"),
        mean_in("gain in held-out success over the last third", early, None, 0.05, "a plateau"),
    ]


def _staged(results: Results) -> list[Criterion]:
    base, staged = results.final("1", "baseline"), results.final("1", "staged 30 %")
    return [better("staged 30 % minus baseline, held-out success", staged, base, by=0.15)]


def _length(results: Results) -> list[Criterion]:
    base, staged = results.final("1", "baseline"), results.final("1", "staged 30 %")
    long, short = results.final("1", "staged 50 %"), results.final("1", "staged 10 %")
    gains = {seed: staged[seed] > base[seed] for seed in staged.keys() & base.keys()}
    return [
        better("staged 30 % minus staged 50 %, held-out success", staged, long),
        stretch(better("staged 30 % minus staged 10 %", staged, short), "10 % is not enough"),
        stretch(counted("staged 30 % beats the baseline", gains)),
    ]


def _bonus(results: Results) -> list[Criterion]:
    bonus = results.tail("1", "entropy bonus", "entropy")
    return [
        mean_in("mean entropy of all decisions, last 20 steps, nats", bonus, 0.8, None, "high"),
        mean_in("held-out success", results.final("1", "entropy bonus"), None, 0.15),
    ]


def _automatic(results: Results) -> list[Criterion]:
    automatic, staged = (
        results.final("1", "automatic schedule"),
        results.final("1", "staged 30 %"),
    )
    return [not_worse("automatic schedule minus staged 30 %, held-out success", automatic, staged)]


CLAIMS = (
    Claim(
        name="entropy collapse",
        figure="1",
        text="Without stages the choice of tools collapses early, and success stays on a plateau.",
        criteria=_collapse,
    ),
    Claim(
        name="staged objectives",
        figure="1",
        text="Verifiable rewards first and an entropy floor give the preference time to inform.",
        criteria=_staged,
    ),
    Claim(
        name="length of the warm-up",
        figure="1",
        text="50 % is too conservative, and 10 % is not enough.",
        criteria=_length,
    ),
    Claim(
        name="entropy bonus",
        figure="1",
        text="A bonus keeps entropy high and reinforces the wrong behaviour.",
        criteria=_bonus,
    ),
    Claim(
        name="automatic schedule",
        figure="1",
        text="Signals in order of measured reliability do as well as the hand-tuned 30 %.",
        criteria=_automatic,
    ),
)
