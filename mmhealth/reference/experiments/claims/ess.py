"""Figure 2: a falling effective sample size leads the stall, and the loop prevents it."""

from mmhealth.reference.experiments.claims.base import Claim, Criterion
from mmhealth.reference.experiments.claims.courses import first_below, stall
from mmhealth.reference.experiments.claims.criteria import (
    better,
    counted,
    describe,
    every_in,
    mean_in,
    not_worse,
    worse,
)
from mmhealth.reference.experiments.results import Result, Results

LINE = 0.2
"""ESS as a fraction of the rows: the article's alert."""
OLD = "stale baseline"


def _leads(results: Results) -> list[Criterion]:
    runs = results.of("2", "baseline")
    crossings = {seed: first_below(run, "ess_signal", LINE) for seed, run in runs.items()}
    stalls = {seed: stall(run) for seed, run in runs.items()}
    lags = {
        seed: later - crossed
        for seed, crossed in crossings.items()
        if crossed is not None and (later := stalls[seed]) is not None
    }
    known = {seed: value for seed, value in stalls.items() if value is not None}
    lead = mean_in("mean lag, steps", lags, 15, 45, "35")
    return [
        every_in(
            "step at which the signal ESS (5-step mean) falls below 20 %", crossings, 40, 80, "60"
        ),
        Criterion(
            what=lead.what,
            measured=f"{lead.measured}; stall at {describe(known)}",
            bound=lead.bound,
            article="35 (stall at 95)",
            holds=lead.holds,
        ),
        counted(
            "the stall comes after the crossing, never before",
            {seed: seed in lags and lags[seed] > 0 for seed in runs},
            "consistent across runs",
        ),
    ]


def _loop(results: Results) -> list[Criterion]:
    runs = results.of("2", "ESS loop")
    active = {s: v for s, run in runs.items() if (v := _while_active(run)) is not None}
    ends = results.tail("2", "ESS loop", "ess_signal")
    fell = {s: first_below(run, "ess_signal", LINE) is not None for s, run in runs.items()}
    recovered = {seed: fell[seed] and ends[seed] > LINE for seed in ends}
    return [
        better(
            "ESS loop minus baseline, held-out success",
            results.final("2", "ESS loop"),
            results.final("2", "baseline"),
        ),
        counted(
            "ESS of the sampled rows falls below 20 % and recovers above it (last 20 steps: "
            f"{describe(ends)})",
            recovered,
        ),
        mean_in(
            "ESS of the rows in the update while the loop is active",
            active,
            0.6,
            None,
            "at least 70 % throughout",
        ),
    ]


def _while_active(run: Result) -> float | None:
    active = run.series("active") > 0
    return float(run.series("ess_signal_update")[active].mean()) if active.any() else None


def _hard(results: Results) -> list[Criterion]:
    runs = results.of("2", "hard negatives")
    active = {s: v for s, run in runs.items() if (v := _while_active(run)) is not None}
    success = results.final("2", "hard negatives")
    return [
        mean_in("ESS of the rows in the update while the loop is active", active, LINE, None),
        worse(
            "hard negatives minus ESS loop, held-out success",
            success,
            results.final("2", "ESS loop"),
        ),
        worse(
            "hard negatives minus baseline, held-out success",
            success,
            results.final("2", "baseline"),
        ),
    ]


def _reserve(results: Results) -> list[Criterion]:
    runs = {s: run.content["memory"] for s, run in results.of("2", "ESS loop").items()}
    taken = {s: one["peak_bytes"] - one["before_training_bytes"] for s, one in runs.items()}
    shares = {s: one["reserve_bytes"] / taken[s] for s, one in runs.items() if taken[s] > 0}
    batches = {s: one["reserve_bytes"] / one["batch_bytes"] for s, one in runs.items()}
    sizes = {s: one["reserve_bytes"] / 1e6 for s, one in runs.items()}
    share = mean_in(
        "reserve over the memory that training took at its peak, libraries left out",
        shares,
        None,
        0.15,
    )
    return [
        Criterion(
            what=share.what,
            measured=f"{share.measured}; {describe(sizes)} MB, {describe(batches)} batches",
            bound=share.bound,
            article="about 15 % memory overhead",
            holds=share.holds,
        )
    ]


def _stale(results: Results) -> list[Criterion]:
    runs = results.of("2", OLD)
    crossings = {seed: first_below(run, "ess_weight", LINE) for seed, run in runs.items()}
    base = results.final("2", OLD)
    return [
        every_in(
            "step at which the ESS of the importance weights falls below 20 %", crossings, 0, None
        ),
        better("ESS loop minus baseline, both stale", results.final("2", "stale ESS loop"), base),
        better(
            "sqrt(ESS) learning rate minus baseline, both stale",
            results.final("2", "stale sqrt(ESS) learning rate"),
            base,
        ),
    ]


def _parts(results: Results) -> list[Criterion]:
    base, loop = results.final("2", "baseline"), results.final("2", "ESS loop")
    return [
        better("near misses alone minus baseline", results.final("2", "near misses alone"), base),
        not_worse(
            "ESS loop minus near misses alone", loop, results.final("2", "near misses alone")
        ),
        better("ESS loop minus KL alone", loop, results.final("2", "KL alone")),
    ]


CLAIMS = (
    Claim(
        name="ESS leads the stall",
        figure="2",
        text="The effective sample size falls below 20 % well before learning stalls.",
        criteria=_leads,
    ),
    Claim(
        name="ESS loop",
        figure="2",
        text="Near misses and a temporary KL penalty restore the ESS, and learning goes on.",
        criteria=_loop,
    ),
    Claim(
        name="near misses, not hard negatives",
        figure="2",
        text="Hard negatives, at the graded reward they earned, restore the ESS and teach worse.",
        criteria=_hard,
    ),
    Claim(
        name="parts of the loop",
        figure="2",
        text="Contrast is what the near misses bring; the KL penalty alone does not.",
        criteria=_parts,
    ),
    Claim(
        name="memory of the reserve",
        figure="2",
        text="The reserve costs at most about 15 % memory.",
        criteria=_reserve,
    ),
    Claim(
        name="ESS of the importance weights",
        figure="2",
        text="With stale rollouts the ESS of the importance weights themselves collapses; the loop "
        "and a step size times sqrt(ESS) each help.",
        criteria=_stale,
    ),
)
