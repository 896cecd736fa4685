"""Figure 3: unequal contributions, their correction, and a change of the mixture."""

from mmhealth.reference.experiments.claims.base import Claim, Criterion
from mmhealth.reference.experiments.claims.criteria import (
    better,
    mean_in,
    not_worse,
    stretch,
    worse,
)
from mmhealth.reference.experiments.results import Results

GAUSSIAN_GINI, GAUSSIAN_ESS = 0.414, 0.637
"""Of absolute values of a normal variable: what contributions of equal spread have at best."""
FIX = "variance correction"
STEADY, CHANGING = "steady mixture", "changing mixture"


def _baseline(results: Results) -> list[Criterion]:
    def tail(name: str) -> dict[int, float]:
        return results.tail("3", "baseline", name)

    last = "last 20 steps"
    return [
        mean_in(f"Gini of gradient norms, {last}", tail("gini"), 0.68, None, "about 0.75"),
        mean_in(f"contribution ESS, {last}", tail("ess_contribution"), None, 0.20, "about 10 %"),
        mean_in(f"share of the largest 5 %, {last}", tail("top_share"), 0.40, None, "the majority"),
    ]


def _corrected(results: Results) -> list[Criterion]:
    def tail(name: str) -> dict[int, float]:
        return results.tail("3", FIX, name)

    gini = f"Gini, last 20 steps (Gaussian floor {GAUSSIAN_GINI:g})"
    share = f"contribution ESS, last 20 steps (Gaussian ceiling {GAUSSIAN_ESS:g})"
    return [
        mean_in(gini, tail("gini"), None, 0.50, "0.35"),
        mean_in(share, tail("ess_contribution"), 0.48, None, "60 %"),
        better(
            "correction minus baseline, held-out success",
            results.final("3", FIX),
            results.final("3", "baseline"),
        ),
    ]


def _terms(results: Results) -> list[Criterion]:
    fix, base = results.final("3", FIX), results.final("3", "baseline")
    by_capability, by_modality = (
        results.final("3", "by capability"),
        results.final("3", "by modality"),
    )
    return [
        better(
            "source spread alone minus baseline", results.final("3", "source spread alone"), base
        ),
        better(
            "correction minus sqrt(length) alone", fix, results.final("3", "sqrt(length) alone")
        ),
        better(
            "correction minus per-task normalisation",
            fix,
            results.final("3", "per-task normalisation"),
        ),
        stretch(better("by capability minus by modality", by_capability, by_modality)),
        stretch(not_worse("by capability minus correction", by_capability, fix)),
        stretch(
            better(
                "minimum-variance baseline minus baseline",
                results.final("3", "minimum-variance baseline"),
                base,
            )
        ),
    ]


def _change(results: Results) -> list[Criterion]:
    def quality(arm: str) -> dict[int, float]:
        return results.tail("3", arm, "quality")

    return [
        worse(
            "baseline: with the change minus without, quality of the last 20 steps",
            quality(CHANGING),
            quality(STEADY),
        ),
        not_worse(
            "correction: with the change minus without, quality of the last 20 steps",
            quality(f"{CHANGING}, corrected"),
            quality(f"{STEADY}, corrected"),
        ),
        better(
            "under the change, correction minus baseline, held-out success",
            results.final("3", f"{CHANGING}, corrected"),
            results.final("3", CHANGING),
        ),
    ]


CLAIMS = (
    Claim(
        name="gradient inequality",
        figure="3",
        text="A few trajectories make most of the update.",
        criteria=_baseline,
    ),
    Claim(
        name="variance correction",
        figure="3",
        text="Contributions over source spread and square root of length are shared evenly.",
        criteria=_corrected,
    ),
    Claim(
        name="terms of the correction",
        figure="3",
        text="Spread within a task is what matters, and per-task normalisation misses it.",
        criteria=_terms,
    ),
    Claim(
        name="change of the mixture",
        figure="3",
        text="The correction is robust to a change of the data mixture that hurts the baseline.",
        criteria=_change,
    ),
)
