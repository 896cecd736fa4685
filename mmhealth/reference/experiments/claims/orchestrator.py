"""All fixes together in the world that has all failures."""

from collections.abc import Mapping
from statistics import median
from typing import Any

from mmhealth.reference.experiments.arms.orchestrator import STAND_INS, WORLD
from mmhealth.reference.experiments.claims.base import Claim, Criterion
from mmhealth.reference.experiments.claims.criteria import (
    NO_DATA,
    better,
    counted,
    not_worse,
    stretch,
)
from mmhealth.reference.experiments.results import Result, Results

CRITICAL = 3
"""Failure modes that the baseline is to show."""


def _modes(run: Result) -> list[Mapping[str, Any]]:
    """Failure modes that have not resolved at the end."""
    return [mode for mode in run.content["audit"]["failure_modes"] if mode["active"]]


def _critical(run: Result) -> set[str]:
    return {mode["name"] for mode in _modes(run) if mode["severity"] == "critical"}


def _active(run: Result) -> set[str]:
    return {mode["name"] for mode in _modes(run)}


def _audited(results: Results, arm: str) -> dict[int, Result]:
    return {s: run for s, run in results.of(WORLD, arm).items() if run.content["audit"]}


def _health(results: Results) -> list[Criterion]:
    baseline, together = _audited(results, "baseline"), _audited(results, "all")
    modes = {seed: _critical(run) for seed, run in baseline.items()}
    names = sorted(set().union(*modes.values())) if modes else []
    cured = {
        seed: not (modes[seed] & _active(run)) for seed, run in together.items() if seed in modes
    }
    count = median(len(found) for found in modes.values()) if modes else 0
    listed = ", ".join(names) or "none"
    return [
        Criterion(
            what="failure modes critical at the end of the baseline (median over seeds)",
            measured=f"{count:g} ({listed})" if modes else NO_DATA,
            bound=f"at least {CRITICAL}",
            holds=None if len(modes) < 2 else count >= CRITICAL,
        ),
        counted("with all fixes none of these is active at the end", cured),
    ]


def _together(results: Results) -> list[Criterion]:
    base, everything = results.final(WORLD, "baseline"), results.final(WORLD, "all")
    singles = [
        name
        for figure, name in results.runs
        if figure == WORLD and name not in ("baseline", *STAND_INS) and not name.startswith("all")
    ]
    return [
        better("all minus baseline, held-out success", everything, base),
        *(
            not_worse(f"all minus {name} alone", everything, results.final(WORLD, name))
            for name in singles
        ),
        *(
            stretch(better(f"all minus {name} alone", everything, results.final(WORLD, name)))
            for name in singles
        ),
    ]


def _each_counts(results: Results) -> list[Criterion]:
    everything = results.final(WORLD, "all")
    left_out = [
        name for figure, name in results.runs if figure == WORLD and name.startswith("all but ")
    ]
    return [
        not_worse(f"all minus {name}", everything, results.final(WORLD, name)) for name in left_out
    ]


CLAIMS = (
    Claim(
        name="health of the orchestrator",
        figure=WORLD,
        text="Failures come together in production, and the fixes cure them together.",
        criteria=_health,
    ),
    Claim(
        name="all fixes",
        figure=WORLD,
        text="All fixes together are better than none, and not worse than any of them alone.",
        criteria=_together,
    ),
    Claim(
        name="no fix is in the way",
        figure=WORLD,
        text="Leaving a fix out is not better than having it.",
        criteria=_each_counts,
    ),
)
