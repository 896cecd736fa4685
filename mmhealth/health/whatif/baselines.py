"""What if the baseline or the scale of a group had been another one?"""

import numpy as np
import numpy.typing as npt
import polars as pl

from mmhealth.health.rows import Array, Missing, Rows
from mmhealth.health.whatif.option import LINEAR, Change, Option, linear
from mmhealth.health.whatif.terms import StepTerms
from mmhealth.interventions import minimum_variance_baseline

_GUESSED = (
    "rows whose advantage was 0 tell nothing of their score: the median of the other rows is taken"
)
_SIGNS = f"{LINEAR}; no term is clipped, as a changed sign would clip another side"
BoolArray = npt.NDArray[np.bool_]
_SPREAD = 1e-6
"""Standard deviation up to which a group counts as one of equal rewards."""


def baselines() -> list[Option]:
    """GRPO's standard deviation, and the constant baseline of least variance.

    A baseline over the batch is not among them: it gives solved and failed groups an advantage and
    so raises every ESS, by adding variance.
    """
    return [
        Option(
            "group_std",
            "standard deviation of the group",
            f"advantages over the standard deviation of their group; {LINEAR}",
            "groups whose rewards hardly differ count as much as any, and so does their noise",
            _group_std,
        ),
        Option(
            "minimum_variance_baseline",
            "baseline of least variance",
            f"rewards minus that baseline of their group, {_SIGNS}",
            "bias of order 1 / group size; in training, one more backward pass a step",
            _minimum_variance,
        ),
    ]


def _group_std(terms: StepTerms) -> Change:
    sampled = terms.sampled_updates
    columns = {
        "group_id": terms.of_trajectory("group_id", sampled),
        "advantage": pl.Series(sampled.numbers("advantage")),
    }
    spread = pl.col("advantage").sort().std(ddof=0)
    groups = pl.DataFrame(columns).group_by("group_id").agg(spread=spread)
    own = terms.of_trajectory("group_id").to_frame("group_id")
    scale = Rows(own.join(groups, on="group_id", how="left", maintain_order="left"), "update")
    spreads = scale.numbers("spread")
    factor = np.divide(1.0, spreads, out=np.ones_like(spreads), where=~(spreads <= _SPREAD))
    return linear(terms, terms.scaled(factor))


def _minimum_variance(terms: StepTerms) -> Change:
    reward = terms.of_trajectory("reward").to_numpy().astype(np.float64)
    if not np.isfinite(reward).all():
        raise Missing("reward is not finite in some update rows")
    if (terms.rows.frame["role"] == "injected").any():
        raise Missing("rows were injected: they are no part of what their group is compared with")
    group = terms.groups()
    with np.errstate(invalid="ignore"):
        size = terms.weights() * _scores(terms)
    if not np.isfinite(size).all():
        raise Missing("grad_norm or log_weight is not finite in some update rows")
    baseline = minimum_variance_baseline(reward, size, group)
    equal = np.array([np.ptp(reward[group == one]) == 0 for one in range(int(group.max()) + 1)])
    advantage = np.where(equal[group], 0.0, reward - baseline)
    norms = size * np.abs(advantage)
    columns = {"advantage": pl.Series(advantage), "grad_norm": pl.Series(norms)}
    rows = Rows(terms.rows.frame.with_columns(**columns), terms.rows.what)
    if (_unknown(terms) & (norms > 0)).any():
        return linear(terms, rows, "estimate", _GUESSED)
    return linear(terms, rows)


def _unknown(terms: StepTerms) -> BoolArray:
    """(rows,) whether the norm of the score is not known, though that of the term is finite."""
    return np.isnan(terms.score_norms()) & np.isfinite(terms.rows.numbers("grad_norm"))


def _scores(terms: StepTerms) -> Array:
    """(rows,) norms of the scores; the median of the others where one is not known."""
    scores = terms.score_norms()
    if np.isnan(scores).all():
        raise Missing("every advantage or weight is 0: nothing tells the norms of the scores")
    return np.where(_unknown(terms), np.nanmedian(scores), scores)
