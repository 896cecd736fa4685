"""How often an interval that a rule may decide by lies wholly on the wrong side of the truth.

Batches as GRPO makes them: groups of 8 trajectories that share a prompt, of which some are mixed
and all others dead; the signal is |advantage| x weight. An ESS rule whose threshold is the
population's value errs both when it breaches (the interval lies wholly below) and when it rules a
breach out (wholly above). Writes docs/benchmarks/demanded_intervals.md.
"""

import numpy as np
from tables import write_table

from mmhealth import estimators
from mmhealth.errors import EstimatorInputError
from mmhealth.health.step_intervals import reliable_interval

SEED = 2026
LEVEL = 0.9
SIZE = 8
GROUPS = (16, 32, 64, 128, 512)
MIXED = (0.1, 0.2, 0.5, 1.0)
SPREADS = (0.3, 1.0)
DRAWS = 1000
TRUTH_GROUPS = 400_000

Draw = np.ndarray[tuple[int], np.dtype[np.float64]]


def draw(rng: np.random.Generator, groups: int, mixed: float, spread: float) -> Draw:
    """Signal of each row (groups * SIZE,), group by group."""
    solves = np.where(rng.random(groups) < mixed, rng.uniform(0.1, 0.9, groups), 0.0)
    success = rng.random((groups, SIZE)) < solves[:, None]
    advantage = np.abs(success - success.mean(axis=1, keepdims=True))
    return (advantage * np.exp(spread * rng.normal(size=(groups, SIZE)))).ravel()


def judge(rng: np.random.Generator, groups: int, mixed: float, spread: float, truth: float) -> str:
    """On which side of the truth one interval lies, or what it is else."""
    with np.errstate(divide="ignore"):
        logs = np.log(draw(rng, groups, mixed, spread))
    ids = np.arange(len(logs)) // SIZE
    try:
        found = reliable_interval(
            lambda: estimators.ess_interval(logs, ids, level=LEVEL),
            lambda: estimators.ess_interval_from_zeros(logs, ids, level=LEVEL),
        )
    except EstimatorInputError:
        return "none"
    if not found.reliable:
        return "unreliable"
    if found.high < truth:
        return "below"
    return "above" if found.low > truth else "zeros" if found.why else "jackknife"


def main() -> None:
    rng = np.random.default_rng(SEED)
    table, worst = [], 0.0
    for spread in SPREADS:
        for mixed in MIXED:
            population = draw(rng, TRUTH_GROUPS, mixed, spread)
            truth = float(population.mean() ** 2 / (population**2).mean())
            for groups in GROUPS:
                sides = [judge(rng, groups, mixed, spread, truth) for _ in range(DRAWS)]
                share = {side: 100 * sides.count(side) / DRAWS for side in set(sides)}
                words = ("below", "above", "unreliable", "zeros")
                cells = [f"{share.get(side, 0.0):.1f}" for side in words]
                table.append([f"{spread:g}", f"{mixed:.0%}", f"{truth:.3f}", f"{groups}", *cells])
                worst = max(worst, share.get("below", 0.0))
    about = (
        f"Nominal {LEVEL:.0%} intervals of the signal ESS of groups of {SIZE}, {DRAWS:,} batches a "
        f"cell, seed {SEED}: jackknifed, or from the groups that hold nothing where that is not "
        "reliable. *Wholly below*, *above*: percent that lie on that side of the population's "
        "value; at most 5 should on each. *Unreliable* ones decide nothing. *By zeros*: right ones "
        "that come from the groups that hold nothing. *Spread*: standard deviation of the log "
        f"weights. The largest share wholly below, a false breach, is {worst:.1f} %.\n"
    )
    header = ["spread", "mixed", "ESS", "groups", "wholly below", "above", "unreliable", "by zeros"]
    title = "Intervals that rules decide by, against the truth"
    write_table("demanded_intervals", title, about, header, table)


if __name__ == "__main__":
    main()
