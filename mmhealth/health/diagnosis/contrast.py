"""Evidence in groups: whose contrast is gone, and whose gradient drowns that of the rest."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from mmhealth.health.blame import Slice, blame
from mmhealth.health.diagnosis.record import Record, known_mean, window_means
from mmhealth.health.diagnosis.sign import Sign, onset, worst
from mmhealth.health.rows import Array, Missing
from mmhealth.health.solved import SOLVED_SUCCESS_RATE

FLAT = 0.8
"""Share of groups without contrast from which on groups count as dead."""
LOST = 0.7
"""Share of the unsolved groups that are to fail as a whole where contrast was lost bit by bit."""
FADING = 0.5
"""What is left of the sign of dead groups in that case: prompts alone do not do it."""
SHORT = 5
"""Steps of the windows that tell a jump from a long fall."""
BLAME = 0.4
"""Share of the squared gradient norms that a slice is to hold beyond its share of the rows."""
SLICED = ("source", "capability", "modality", "length", "horizon", "turns", "tool_calls")
"""Columns that name what a trajectory is about, and none of what became of it."""

Came = Literal["start", "jump", "fade"]
_WORDS: dict[Came, str] = {
    "start": "ruled out: the groups were dead from the start",
    "jump": "ruled out: contrast ended at once, as when prompts or rewards are changed",
    "fade": "not ruled out: contrast was lost bit by bit in groups that had been mixed",
}


def dead_groups(record: Record) -> Sign:
    """Whole groups get the same reward: no advantage, whatever the policy does."""
    flat = flat_share(record)
    where = worst(record, flat)
    if where is None:
        raise Missing("rewards and groups are known in too few steps")
    inside = (record.steps >= where.first) & (record.steps <= where.last)
    solved = known_mean(_or_nan(record, "solved_group_share")[inside])
    failed = known_mean(_or_nan(record, "failed_group_share")[inside])
    evidence = [f"{where.words}: {where.value:.0%} of the groups have the same reward throughout"]
    if not np.isnan(failed):
        evidence.append(f"of all groups {failed:.0%} failed and {solved:.0%} are solved as a whole")
    came = _came(flat)
    strength = where.value / FLAT * (FADING if came == "fade" else 1.0)
    rivals = {"estimator collapse": _WORDS[came]}
    return Sign(strength, onset(record, flat, FLAT), tuple(evidence), rivals)


def lost_contrast(record: Record) -> Sign:
    """Groups that were mixed lose their contrast bit by bit, and not because they are solved."""
    flat = flat_share(record)
    where = worst(record, flat)
    if where is None:
        raise Missing("rewards and groups are known in too few steps")
    if _came(flat) != "fade":
        return Sign(0.0)
    inside = (record.steps >= where.first) & (record.steps <= where.last)
    dead = known_mean(_or_nan(record, "dead_group_share_unsolved")[inside])
    success = known_mean(_or_nan(record, "success_rate")[inside])
    if np.isnan(dead) or success >= SOLVED_SUCCESS_RATE:
        return Sign(0.0)
    evidence = (
        f"{where.words}: {where.value:.0%} of the groups have no contrast left, after a long fall",
        f"of the groups that are not solved {dead:.0%} fail as a whole; success is {success:.0%}",
    )
    strength = min(where.value / FLAT, dead / LOST)
    rivals = {"dead groups": "ruled out: the same prompts gave mixed groups before"}
    return Sign(strength, onset(record, flat, FLAT), evidence, rivals)


def flat_share(record: Record) -> Array:
    """(steps,) share of the groups in which no reward component differs; `Missing` without them."""
    record.need("group_id", "reward")
    if not np.isfinite(record.mean("reward")).any():
        raise Missing("reward has no finite value")
    if not np.nansum(record.reading("groups")):
        raise Missing("no group has two trajectories")
    return record.reading("flat")


def domination(record: Record) -> Sign:
    """One kind of trajectory holds most of the squared gradient norms, for most of the run."""
    if reduced := len(record.run.reduced_steps()):
        raise Missing(f"it is read from rows, and those of {reduced} steps were reduced")
    if "grad_norm" not in record.run.schema("updates"):
        raise Missing("grad_norm is not logged")
    found = record.once("blamed", lambda: _blamed(record))
    if not found:
        raise Missing("no column says what trajectories are about, or no gradient norm is finite")
    by_slice: dict[tuple[str, str], list[tuple[float, int, Slice]]] = {}
    for steps, slices in found:
        for item in slices:
            by_slice.setdefault((item.column, item.slice), []).append((item.blame, steps[0], item))
    if not by_slice:
        raise Missing("columns that say what trajectories are about have one value each")
    name = max(by_slice, key=lambda key: sum(entry[0] for entry in by_slice[key]))
    entries = by_slice[name]
    mean = sum(entry[0] for entry in entries) / len(found)
    top = max(entries, key=lambda entry: entry[0])
    _, first, item = top
    evidence = (
        f"{name[0]} = {name[1]}: {item.share_of_rows:.0%} of the rows hold "
        f"{item.share_of_sum_sq:.0%} of the squared gradient norms in the steps from {first} on",
        f"beyond its rows and chance it holds {mean:.0%} on average over {len(found)} stretches of "
        "the run",
        *_without(item),
    )
    since = min(entry[1] for entry in entries if entry[0] >= BLAME) if top[0] >= BLAME else None
    rivals = {
        "estimator collapse": "ruled out: one slice is to blame, beyond what chance gives any"
        if mean >= BLAME
        else "not ruled out: no slice is to blame throughout"
    }
    return Sign(mean / BLAME, since, evidence, rivals)


def _without(item: Slice) -> list[str]:
    left = item.without.ess_fraction
    return [] if left is None else [f"without it the ESS of those steps is {left:.0%}"]


def _blamed(record: Record) -> list[tuple[Sequence[int], list[Slice]]]:
    """Blame of every slice in four stretches of the run, five steps of each."""
    schema = record.run.schema("trajectories")
    columns = [name for name in SLICED if name in schema]
    steps = record.steps.astype(int)
    found = []
    for part in np.array_split(steps, 4):
        chosen = part[:: max(len(part) // 5, 1)].tolist()
        if not chosen or not columns:
            continue
        answer = blame(record.run, chosen, basis="contribution", by=columns, pairs=False)
        if answer.whole is not None:
            found.append((chosen, answer.slices))
    return found


def _came(flat: Array) -> Came:
    """How groups came to have no contrast: from the start, at once, or bit by bit."""
    means = window_means(flat, SHORT)
    if np.isnan(means).all():
        return "start"
    half = 0.5 * float(np.nanmax(means))
    if means[np.isfinite(means)][0] >= half:
        return "start"
    rises = means[SHORT:] - means[:-SHORT]
    return "jump" if (rises[np.isfinite(rises)] >= half).any() else "fade"


def _or_nan(record: Record, name: str) -> Array:
    try:
        return record.metric(name)
    except Missing:
        return np.full(len(record), np.nan)
