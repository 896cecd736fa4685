"""What if members of one-sided groups were swapped for near misses of the other side?

As `mmhealth.interventions.NearMissReserve` is meant to be used: an injected row is compared with
what its group sampled, and what was sampled keeps its advantage. What no log tells is the norm of
the injected rows' scores, their weights, and whether the reserve holds any. Whatever they are, the
ESS of two sets of rows together is at most the sum of their ESS (Cauchy-Schwarz), and that of the
injected rows at most their number.
"""

from contextlib import suppress
from functools import partial

import numpy as np
import numpy.typing as npt
import polars as pl

from mmhealth.health.rows import Array, Missing, Rows
from mmhealth.health.whatif.measure import measure
from mmhealth.health.whatif.option import Change, Limits, Option, linear
from mmhealth.health.whatif.terms import StepTerms

SWAPS = (2, 4)
_FAILED, _SOLVED = -1, 1
_ASSUMPTION = (
    "the reserve holds enough; an injected row has weight 1, the median reward of its side in the "
    "step and the median norm of a score; the rows that contribute least make room"
)
_BIAS = "selection bias: rows are chosen for their outcome and sampled by an older policy"


def injections(swaps: tuple[int, ...] = SWAPS) -> list[Option]:
    """For each number of rows: into failed groups, and into solved ones as well."""
    failed = [
        Option(
            f"near_misses_{swap}_failed",
            f"{swap} near misses into failed groups",
            _ASSUMPTION,
            _BIAS,
            partial(_injected, swap=swap, sides=(_FAILED,)),
        )
        for swap in swaps
    ]
    both = [
        Option(
            f"near_misses_{swap}_one_sided",
            f"{swap} near misses into dead groups",
            _ASSUMPTION,
            _BIAS,
            partial(_injected, swap=swap, sides=(_FAILED, _SOLVED)),
            against="failures in solved groups cost success: there is no contrast to restore",
        )
        for swap in swaps
    ]
    return failed + both


def _injected(terms: StepTerms, swap: int, sides: tuple[int, ...]) -> Change:
    outcome = terms.outcomes()
    out = np.isin(outcome, sides) & (_rank_in_group(terms) < swap)
    if not out.any():
        return Change(terms.rows)
    bounds = _bounds(terms, out)
    try:
        columns = _columns(terms, outcome, out)
    except Missing as reason:
        if not bounds:
            raise
        return Change(None, "bound", notes=(str(reason),), bounds=bounds)
    frame = terms.rows.frame.with_columns(**columns)
    change = linear(terms, Rows(frame, terms.rows.what), "estimate")
    return Change(change.rows, "estimate", notes=change.notes, bounds=bounds)


def _columns(terms: StepTerms, outcome: Array, out: npt.NDArray[np.bool_]) -> dict[str, pl.Series]:
    """The columns with the injected rows in the place of those swapped ``out`` (rows,)."""
    if not terms.is_reward_over_group():
        raise Missing(
            "advantages are not rewards minus the mean of their group: that of an injected row is "
            "not known"
        )
    own = terms.rows.numbers("advantage")
    baseline = terms.of_trajectory("reward").to_numpy().astype(np.float64) - own
    advantage = own.copy()
    for side in np.unique(outcome[out]):
        swapped = out & (outcome == side)
        advantage[swapped] = _median_reward(terms, solved=side == _FAILED) - baseline[swapped]
    columns = {"advantage": pl.Series(advantage)}
    frame = terms.rows.frame
    if "grad_norm" in frame.columns and frame["grad_norm"].null_count() < len(frame):
        scores = terms.score_norms()
        if np.isnan(scores).all():
            raise Missing("every advantage or weight is 0: nothing tells the norm of a score")
        norms = np.nanmedian(scores) * np.abs(advantage)
        columns["grad_norm"] = pl.Series(np.where(out, norms, terms.rows.numbers("grad_norm")))
    if terms.level.has_weights:
        log_weight = terms.rows.numbers("log_weight")
        columns["log_weight"] = pl.Series(np.where(out, 0.0, log_weight))
    return columns


def _median_reward(terms: StepTerms, *, solved: bool) -> float:
    """Median reward of the sampled trajectories that did, or did not, succeed."""
    sampled = terms.sampled
    reward = sampled.numbers("reward")
    try:
        success = sampled.numbers("success")
    except Missing:
        success = reward
    side = reward[(success == solved) & np.isfinite(reward)]
    if not side.size:
        raise Missing(f"no trajectory {'succeeded' if solved else 'failed'}: its reward is unknown")
    return float(np.median(side))


def _rank_in_group(terms: StepTerms) -> npt.NDArray[np.intp]:
    """(rows,) place of each row in its group, the least advantage first; ties are alike."""
    group, keys = terms.groups(), [np.abs(terms.rows.numbers("advantage"))]
    for column in ("grad_norm", "log_weight"):
        with suppress(Missing):
            keys.insert(0, terms.rows.numbers(column))
    order = np.lexsort((*keys, group))
    starts = np.searchsorted(group[order], group[order])
    rank = np.empty(len(order), np.intp)
    rank[order] = np.arange(len(order)) - starts
    return rank


def _bounds(terms: StepTerms, out: npt.NDArray[np.bool_]) -> dict[str, Limits]:
    """The most that the contribution ESS can become."""
    count = len(terms.rows)
    stays = measure(terms, terms.kept(~out), count).values["ess_contribution"]
    if stays is None:
        return {}
    return {"ess_contribution": (None, min(float(stays) + int(out.sum()) / count, 1.0))}
