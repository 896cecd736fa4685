"""Evidence in what is delegated: too little out of fear, or more than the task needs."""

from typing import NamedTuple

import numpy as np
import polars as pl

from mmhealth.health.diagnosis.record import WINDOW, Record, known_mean, thirds
from mmhealth.health.diagnosis.sign import Sign
from mmhealth.health.rows import Array, Missing

RETREAT = 0.85
"""Share of trajectories that refuse or work serially from which on it is a retreat."""
FEARED = 0.5
"""Within-group standard deviations of the reward that a violation costs, at least."""
WIDE = 0.6
"""Share of trajectories that are not serial from which on delegation is the rule."""
NEEDED = 0.1
"""Within-group correlation of success and sub-agents from which on they are of use."""
PAID = 0.15
"""Within-group correlation of reward and sub-agents, success set aside, from which on they pay."""


def serial_collapse(record: Record) -> Sign:
    """A feared constraint makes the policy refuse, or work one by one."""
    retreat = record.metric("retreat_share")
    violated = record.metric("violated_share")
    late = thirds(retreat)[2]
    began = known_mean(retreat[: WINDOW // 2])
    cost = _cost_of_violation(record)
    success = thirds(record.metric("success_rate"))[2]
    strength = late / RETREAT * float(np.clip((0.9 - began) / 0.3, 0, 1))
    strength *= float(np.clip(cost / FEARED, 0.0, 1.0)) if not np.isnan(cost) else 0.8
    strength *= float(np.clip(2 * (1 - success), 0, 1))
    fell = (known_mean(violated[: WINDOW // 2]), thirds(violated)[2])
    fled = np.flatnonzero(retreat >= RETREAT)
    evidence = (
        f"refusing or serial trajectories: {began:.0%} at first, {late:.0%} in the last third",
        f"violations went from {fell[0]:.0%} to {fell[1]:.0%}, success is {success:.0%}",
        (
            f"within a group a violation costs {cost:.1f} standard deviations of the reward in the "
            "first third"
            if not np.isnan(cost)
            else "what a violation costs cannot be read: no group has both kinds"
        ),
    )
    if np.isnan(cost):
        feared = "not ruled out: whether the reward pays for retreat cannot be read"
    elif cost >= FEARED:
        feared = "ruled out: the reward pays for retreat"
    else:
        feared = "not ruled out: the reward hardly pays for retreat"
    rivals = {"premature specialisation": feared}
    return Sign(strength, int(record.steps[fled[0]]) if fled.size else None, evidence, rivals)


def needless(record: Record) -> Sign:
    """Many sub-agents, paid for, that success does not need."""
    use = _use_of_agents(record)
    if np.isnan(use.success) or np.isnan(use.reward):
        raise Missing("within groups success, reward or sub-agents never differ")
    wide = thirds(record.mean("subagents") / np.maximum(record.mean("turns"), 1.0))
    count = thirds(record.mean("subagents"))
    share = thirds(_wide_share(record))
    unneeded = float(np.clip((NEEDED + 0.15 - use.success) / 0.15, 0, 1))
    strength = min(share[2] / WIDE, 1.5) * unneeded * float(np.clip(use.reward / PAID, 0, 2))
    evidence = (
        f"sub-agents a trajectory, early to late third: {count[0]:.1f} to {count[2]:.1f} "
        f"({wide[2]:.2f} a turn)",
        f"within groups success and sub-agents correlate by {use.success:+.2f}: they are "
        f"{'of little use' if use.success < NEEDED else 'of use'}",
        f"within groups reward and sub-agents correlate by {use.reward:+.2f} among trajectories of "
        "the same outcome",
    )
    rivals = {"reward-component divergence": "ruled out: no logged component has to rise for it"}
    return Sign(strength, None, evidence, rivals)


class _Use(NamedTuple):
    """Within-group correlations with the number of sub-agents."""

    success: float
    reward: float
    """Among trajectories of the same outcome."""


def _use_of_agents(record: Record) -> _Use:
    """Pooled within-group correlations over the last two thirds of the run."""
    record.need("subagents", "success", "reward", "group_id")
    return _Use(_pooled(record, "use success"), _pooled(record, "use reward"))


def _pooled(record: Record, name: str) -> float:
    """Correlation of two columns around their means; NaN where either never varies."""
    steps = record.readings.by_step.filter(pl.col("step") >= np.quantile(record.steps, 1 / 3))
    if f"{name} ab" not in steps.columns:
        return float("nan")
    aa, bb, ab = (float(steps[f"{name} {of}"].sum()) for of in ("aa", "bb", "ab"))
    size = float(np.sqrt(aa * bb))
    return ab / size if size > 1e-12 else float("nan")


def _cost_of_violation(record: Record) -> float:
    """Drop of the reward with a violation, within groups, in its standard deviations.

    Beyond what the reward components pay: the coefficient of ``violated`` beside theirs in a least
    squares fit of the reward, over the first third of the run. NaN where it cannot be told.
    """
    record.need("violated", "reward", "group_id")
    fit = record.readings.violations
    if not fit.rows or not (fit.spreads()[:2] > 0).all():
        return float("nan")
    return -float(fit.coefficients()[0]) / float(fit.spreads()[0])


def _wide_share(record: Record) -> Array:
    """(steps,) share of the trajectories that delegate to more than one."""
    try:
        return 1.0 - record.mean("serial")
    except Missing:
        record.need("subagents")
        return record.reading("wide")
