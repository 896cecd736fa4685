"""Evidence of horizon overfitting: held-out success where the policy trains, and none elsewhere."""

import numpy as np
import polars as pl

from mmhealth.health.diagnosis.record import Record
from mmhealth.health.diagnosis.sign import Sign
from mmhealth.health.heldout import own_evaluations
from mmhealth.health.rows import Missing

DROP = 0.5
"""Share of the success at a trained horizon that is missing at the worst other one."""
SURE = 4.0
"""Standard errors of that difference."""
POOLED = 3
"""Last evaluated steps that are taken together."""


def overfitting(record: Record) -> Sign:
    """Success falls off away from the horizons that are trained."""
    record.need("horizon")
    trained = record.readings.horizons
    own = own_evaluations(record.run.evaluations)
    if own.is_empty() or own["eval_horizon"].null_count() == len(own):
        raise Missing("no held-out evaluation with its horizon is logged")
    last = own["step"].unique().sort()[-POOLED:]
    table = {
        int(horizon): (int(won), int(played))
        for horizon, won, played in own.filter(pl.col("step").is_in(last.implode()))
        .drop_nulls("eval_horizon")
        .group_by("eval_horizon")
        .agg(pl.col("successes").sum(), pl.col("episodes").sum())
        .iter_rows()
    }
    at_home = [h for h in table if h in trained]
    away = [h for h in table if h not in trained]
    if not at_home:
        raise Missing("no evaluation is at a horizon that is trained")
    if not away:
        return Sign(
            0.0,
            evidence=(f"trained at every horizon that is evaluated: {_list(at_home)}",),
        )
    won, played = (sum(table[h][i] for h in at_home) for i in (0, 1))
    home = won / played
    worst = min(away, key=lambda h: table[h][0] / table[h][1])
    off = table[worst][0] / table[worst][1]
    pooled = (won + table[worst][0]) / (played + table[worst][1])
    error = float(np.sqrt(max(pooled * (1 - pooled), 1e-9) * (1 / played + 1 / table[worst][1])))
    sigma = (home - off) / error
    drop = (home - off) / home if home > 0 else 0.0
    evidence = (
        f"trajectories are sampled at horizon {_list(trained)} only",
        f"held-out success over the last {len(last)} evaluations: {home:.0%} there, {off:.0%} at "
        f"horizon {worst} ({sigma:.1f} standard errors)",
    )
    strength = max(min(drop / DROP, sigma / SURE, 2.0), 0.0)
    return Sign(strength, int(last[0]), evidence)


def _list(horizons: list[int]) -> str:
    return ", ".join(map(str, sorted(horizons)))
