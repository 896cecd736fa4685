"""Evidence in importance ratios: sampler against trainer, age, reuse, and what follows tools.

All four make weights degenerate; they differ in which part of the log weight grows
(`mmhealth.health.diagnosis.record`), and in which tokens.
"""

import numpy as np

from mmhealth import estimators
from mmhealth.errors import EstimatorInputError
from mmhealth.health.diagnosis.record import Record, known_mean, thirds, window_means
from mmhealth.health.diagnosis.sign import Sign, onset, worst
from mmhealth.health.rows import Array, Missing
from mmhealth.runlog.stepdata import Histogram

LOSS = 0.5
"""Loss (-ln ESS) of one part from which on it speaks for its cause: an ESS of 61 % by it alone."""
COLLAPSED = 1.6
"""The same for what updates do to a fresh batch: an ESS of 20 %. Some is usual."""
OLD = 4.0
"""Updates from which on a behaviour policy counts as old."""
TAIL = 0.5
"""95th percentile of the post-tool |log-ratio|, nats, from which on its tail counts as heavy."""
OUTGROWS = 3.0
"""Times by which that percentile is to exceed that of all other tokens, and its own early one."""


def mismatch(record: Record) -> Sign:
    """The sampler's probabilities are not the trainer's for the same policy."""
    parts = record.parts
    if not parts.has_mismatch:
        raise Missing("log_weight_mismatch is not logged")
    where = worst(record, parts.mismatch)
    if where is None:
        raise Missing("log_weight_mismatch is known in too few steps")
    strength = where.value / LOSS
    evidence = [
        f"{where.words}: by log_weight_mismatch alone the weight ESS is {_ess(where.value)}"
    ]
    rivals = {
        "staleness": _compared(parts.age, where.value, "the age of the policy"),
        "estimator collapse": _compared(parts.reuse, where.value, "reuse of the batch"),
    }
    tail = _tool_tail(record)
    if tail is not None:
        tool, other = tail
        late_tool, late_other = thirds(tool)[2], thirds(other)[2]
        if not np.isnan(late_other):
            evidence.append(
                f"late p95 |log-ratio|: {late_other:.2g} nats over tokens not after a tool result"
            )
        if np.isnan(late_tool) or np.isnan(late_other):
            rivals["tool-context variance growth"] = (
                "not ruled out: token log-ratios are not known late in the run"
            )
        elif late_tool > OUTGROWS * late_other:
            strength *= OUTGROWS * late_other / late_tool
            rivals["tool-context variance growth"] = (
                f"not ruled out: after tool results the tail is {late_tool:.2g} nats"
            )
        else:
            rivals["tool-context variance growth"] = (
                f"ruled out: the tail after tool results ({late_tool:.2g} nats) is not beyond "
                f"{OUTGROWS:g} times that of other tokens"
            )
    return Sign(strength, onset(record, parts.mismatch, LOSS), tuple(evidence), rivals)


def staleness(record: Record) -> Sign:
    """Trajectories come from a policy many updates old, and their weights show it."""
    parts = record.parts
    lag = record.mean("behavior_lag")
    stale = np.where(lag >= OLD, parts.age, np.where(np.isnan(lag), np.nan, 0.0))
    where = worst(record, stale)
    if where is None:
        raise Missing("behavior_lag and log_weight are known together in too few steps")
    oldest = known_mean(lag[(record.steps >= where.first) & (record.steps <= where.last)])
    evidence = (
        f"{where.words}: behaviour policy {oldest:.1f} updates old on average",
        "at the first update of those steps the weight ESS is "
        f"{_ess(where.value)} by what the policy changed since it sampled"
        + ("" if parts.has_mismatch else ", or by mismatch: they cannot be told apart here"),
    )
    rivals = {
        "estimator collapse": _compared(parts.reuse, where.value, "reuse of the batch"),
        "train-inference mismatch": _compared(
            parts.mismatch, where.value, "mismatch", "log_weight_mismatch is not logged"
        ),
    }
    return Sign(where.value / LOSS, onset(record, stale, LOSS), evidence, rivals)


def degenerate(record: Record) -> Sign:
    """Weights degenerate on a fresh batch: too many updates of it, or too large ones."""
    parts = record.parts
    try:
        lag = record.mean("behavior_lag")
    except Missing:
        lag = np.full(len(record), np.nan)
    fresh = np.where(np.nan_to_num(lag) < OLD, np.nan_to_num(parts.age), 0.0)
    own = np.where(np.isnan(parts.reuse), np.nan, parts.reuse + fresh)
    where = worst(record, own)
    if where is None:
        raise Missing("log_weight is known in too few steps")
    inside = (record.steps >= where.first) & (record.steps <= where.last)
    updates = known_mean(parts.updates[inside])
    old = known_mean(lag[inside])
    age = "" if np.isnan(old) else f", behaviour policy {old:.1f} updates old"
    evidence = (
        f"{where.words}: {updates:.0f} updates of a trajectory{age}",
        f"within the step the weight ESS falls to {_ess(where.value)} by what these updates change",
    )
    if np.isnan(old):
        stale = "not ruled out: behavior_lag is not logged"
    elif old < OLD:
        stale = f"ruled out: the behaviour policy is younger than {OLD:g} updates"
    else:
        stale = _compared(parts.age, where.value, "the age of the policy")
    rivals = {
        "staleness": stale,
        "train-inference mismatch": _compared(
            parts.mismatch, where.value, "mismatch", "log_weight_mismatch is not logged"
        ),
    }
    return Sign(where.value / COLLAPSED, onset(record, own, COLLAPSED), evidence, rivals)


def tool_context(record: Record) -> Sign:
    """The tail of token log-ratios grows after tool results, before it does elsewhere."""
    tail = _tool_tail(record)
    if tail is None:
        raise Missing("no histogram of token log-ratios after tool results is logged")
    tool, other = tail
    early, middle, late = thirds(tool)
    early_other, middle_other, late_other = thirds(other)
    if np.isnan(late) or np.isnan(late_other):
        raise Missing("too few tokens after tool results, or none elsewhere")
    floor = 1e-3
    beyond = late / max(late_other, floor)
    growth = late / max(early, floor) if not np.isnan(early) else np.nan
    strength = min(late / TAIL, beyond / OUTGROWS, growth / OUTGROWS)
    evidence = (
        f"p95 |log-ratio| after tool results, early, middle and late third: {early:.2g}, "
        f"{middle:.2g}, {late:.2g} nats",
        f"over all other tokens: {early_other:.2g}, {middle_other:.2g}, {late_other:.2g} nats",
    )
    rivals = {
        "train-inference mismatch": (
            f"{'ruled out' if beyond >= OUTGROWS else 'not ruled out'}: other tokens have a tail "
            f"{beyond:.1f} times lighter"
        )
    }
    try:
        parts = record.parts
    except Missing:
        parts = None
    if parts is not None and parts.has_mismatch:
        by_updates = thirds(parts.reuse + parts.age)[2]
        by_sampling = thirds(parts.mismatch)[2]
        if by_updates > by_sampling:
            strength *= 0.5
            rivals["estimator collapse"] = (
                "not ruled out: late on updates change the weights more than the contexts do"
            )
        else:
            rivals["estimator collapse"] = "ruled out: what updates change is the lesser part"
    since = onset(record, tool, TAIL)
    return Sign(strength, since, evidence, rivals)


def _tool_tail(record: Record) -> tuple[Array, Array] | None:
    """(steps,) p95 |log-ratio| after tool results, and over all other tokens."""

    def read() -> tuple[Array, Array] | None:
        names = ("log_ratio_histogram", "log_ratio_tool_histogram")
        if not set(names) <= set(record.run.schema("steps")):
            return None
        places = {step: at for at, step in enumerate(record.frame["step"])}
        tool, other = np.full((2, len(record)), np.nan)
        any_logged = False
        for commits in record.run.read("steps"):
            if not set(names) <= set(commits.columns):
                continue
            both = commits.select(names).drop_nulls()
            any_logged |= not both.is_empty()
            if both.is_empty() or (at := places.get(commits["step"][0])) is None:
                continue
            whole_counts, tool_counts = (
                estimators.merge_histograms(*(np.asarray(part, np.int64) for part in both[name]))
                for name in names
            )
            tool[at] = _p95(tool_counts)
            other[at] = _p95(np.maximum(whole_counts - tool_counts, 0))
        return (tool, other) if any_logged else None

    found: tuple[Array, Array] | None = record.once("tool tail", read)
    return found


def _p95(counts: Histogram) -> float:
    try:
        return estimators.histogram_percentile(counts, 95)
    except EstimatorInputError:
        return float("nan")


def _ess(loss: float) -> str:
    return f"{100 * float(np.exp(-loss)):.0f} %"


def _compared(other: Array, own: float, what: str, absent: str = "it is not logged") -> str:
    """What a part of the weights says of a rival, next to the loss ``own``."""
    top = worst_of(other)
    if np.isnan(top):
        return f"not ruled out: {absent}"
    verdict = "ruled out" if top < LOSS else "a part of it" if top < own else "not ruled out"
    return f"{verdict}: by {what} alone the weight ESS stays at {_ess(top)} in its worst steps"


def worst_of(values: Array) -> float:
    """Largest mean over a window; NaN where none is known."""
    means = window_means(values)
    return float(np.nanmax(means)) if not np.isnan(means).all() else float("nan")
