"""Figure 5: what is trained at one horizon stays there."""

from statistics import fmean

import numpy as np

from mmhealth.reference.experiments.arms.horizons import HORIZONS
from mmhealth.reference.experiments.claims.base import Claim, Criterion
from mmhealth.reference.experiments.claims.criteria import (
    NO_DATA,
    better,
    mean_in,
    stretch,
)
from mmhealth.reference.experiments.results import Results

SHORT, LONG = HORIZONS[0], HORIZONS[-1]
FIXED = {horizon: f"trained at {horizon}" for horizon in HORIZONS}


def worst(results: Results, arm: str) -> dict[int, float]:
    """Success at the horizon at which the policy is worst, by seed."""
    return {
        seed: min(run.final(horizon) for horizon in HORIZONS)
        for seed, run in results.of("5", arm).items()
    }


def _short(results: Results) -> list[Criterion]:
    arm = FIXED[SHORT]
    return [
        mean_in(f"{arm}, success at {SHORT}", results.final("5", arm, SHORT), 0.22, 0.28, "0.25"),
        mean_in(f"{arm}, success at {LONG}", results.final("5", arm, LONG), None, 0.10, "0.08"),
    ]


def _diagonal(results: Results) -> list[Criterion]:
    criteria = []
    for place, arm in enumerate(FIXED.values()):
        runs = results.of("5", arm)
        rates = [fmean(run.final(h) for run in runs.values()) for h in HORIZONS] if runs else []
        best = int(np.argmax(rates)) if rates else -1
        near = {s: max(run.final(h) for h in _around(place)) for s, run in runs.items()}
        far = {
            s: max(run.final(h) for h in HORIZONS if h not in _around(place))
            for s, run in runs.items()
        }
        criteria.append(better(f"{arm}: success in the band minus outside it", near, far))
        criteria.append(
            Criterion(
                what=f"{arm}: horizon at which it does best (mean)",
                measured=f"{HORIZONS[best]} ("
                + ", ".join(f"{h}: {r:.2f}" for h, r in zip(HORIZONS, rates, strict=True))
                + ")"
                if rates
                else NO_DATA,
                bound=f"next to {HORIZONS[place]}, at most one horizon away",
                article="diagonal band",
                holds=abs(best - place) <= 1 if len(runs) > 1 else None,
            )
        )
    return criteria


def _around(place: int) -> tuple[int, ...]:
    """A horizon and its neighbours."""
    return HORIZONS[max(place - 1, 0) : place + 2]


def _mixed(results: Results) -> list[Criterion]:
    lows = worst(results, "mixed")
    criteria = [
        mean_in(
            f"mixed, success at {h}", results.final("5", "mixed", h), 0.19, 0.42, "0.22 to 0.32"
        )
        for h in HORIZONS
    ]
    return criteria + [
        better(
            f"mixed minus {arm}, success at the horizon at which each is worst",
            lows,
            worst(results, arm),
            by=0.05,
        )
        for arm in FIXED.values()
    ]


def _paths(results: Results) -> list[Criterion]:
    lows = worst(results, "mixed")
    words = "success at the horizon at which each is worst, equal turns"
    first = better(f"mixed minus curriculum, {words}", lows, worst(results, "curriculum"))
    then = better(f"mixed minus fine-tuned, {words}", lows, worst(results, "fine-tuned"))
    either = None if first.holds is None or then.holds is None else first.holds or then.holds
    dips = {}
    for seed, run in results.of("5", "fine-tuned").items():
        steps, success = run.success(SHORT)
        config = run.content["config"]
        switch = config["loop"]["horizon_schedule"][0][0] * config["steps"]
        before, after = success[steps < switch], success[steps >= switch]
        if len(before) and len(after):
            dips[seed] = (float(before[-1]), float(after.min()), float(after[-1]))
    depth = {seed: before - low for seed, (before, low, _) in dips.items()}
    back = {seed: end - low for seed, (_, low, end) in dips.items()}
    return [
        Criterion(
            what=f"mixed better than curriculum or fine-tuned, {words}",
            measured=f"curriculum {first.measured}; fine-tuned {then.measured}",
            bound="one interval above 0",
            article="worse at both horizons",
            holds=either,
        ),
        stretch(
            mean_in(f"fine-tuned: dip of success at {SHORT} after the change", depth, 0.05, None),
            "a dip",
        ),
        stretch(mean_in("and recovery from it", back, 0.02, None), "then a partial recovery"),
    ]


def _modalities(results: Results) -> list[Criterion]:
    early, late = results.final("5", "images early"), results.final("5", "images late")
    return [better("images early minus late, held-out success on images", early, late)]


CLAIMS = (
    Claim(
        name="short horizon",
        figure="5",
        text=f"Trained at {SHORT} turns, a policy works at {SHORT} and not at {LONG}.",
        criteria=_short,
    ),
    Claim(
        name="diagonal band",
        figure="5",
        text="A policy generalises only near the horizon it is trained at.",
        criteria=_diagonal,
    ),
    Claim(
        name="mixed horizons",
        figure="5",
        text="Horizons drawn uniformly from the start give even success at all of them.",
        criteria=_mixed,
    ),
    Claim(
        name="path dependence",
        figure="5",
        text="A curriculum or fine-tuning does worse than mixing, for the same turns sampled.",
        criteria=_paths,
    ),
    Claim(
        name="early images",
        figure="5",
        text="A few images early do better than as many in total late.",
        criteria=_modalities,
    ),
)
