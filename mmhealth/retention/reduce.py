"""Reduces old steps of a run: first their summaries stand, then their rows go."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmhealth.errors import RetentionBusyError, RetentionError
from mmhealth.health.policy import Policy, default_policy
from mmhealth.place import RunUrl, run_place
from mmhealth.retention.summarise import summarise
from mmhealth.runlog import Run, StepData, Tail, open_run
from mmhealth.runlog.commits import StepKey
from mmhealth.runlog.reduced import TABLES_REDUCED
from mmhealth.runlog.reducing import (
    Removal,
    remove_batches,
    remove_unfinished_summaries,
    write_summaries,
)
from mmhealth.runlog.rewriting import rewriting
from mmhealth.runlog.seal import remove_unfinished

FILE_STEPS = 256
"""Steps of which a summary file holds the summaries at most."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Which steps keep their rows. A step is reduced where nothing here keeps it."""

    steps: int
    """The last so many visible ones, 1 at least."""
    days: float | None = None
    """Those committed in the last so many days."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise RetentionError(f"steps to keep: {self.steps} is less than 1")
        if self.days is not None and not self.days >= 0:
            raise RetentionError(f"days to keep: {self.days} is not 0 or more")


@dataclass(slots=True)
class Reduction:
    """What was done, or with ``dry_run`` what would be."""

    steps: list[int] = field(default_factory=list)
    """Reduced by this call, as often as attempts lived them."""
    rows: int = 0
    """Rows of trajectories and updates that their summaries stand for."""
    bytes_freed: int = 0
    segments_removed: int = 0
    segments_rewritten: int = 0
    segments_waiting: int = 0
    """Segments that hold rows of reduced steps yet, and more of others."""
    incomplete: int = 0
    """Steps old enough that stay, since rows or ranks are missing."""
    pending: int = 0
    """Steps old enough that stay for now, since rewards may still come."""

    def describe(self, *, dry_run: bool = False) -> str:
        """What was done, or would be, in one sentence or two."""
        number = len(self.steps)
        steps = "1 step" if number == 1 else f"{number:,} steps"
        which = f" ({min(self.steps)} to {max(self.steps)})" if self.steps else ""
        if dry_run:
            said = f"would reduce {steps}{which} of {self.rows:,} rows"
        else:
            said = f"reduced {steps}{which} of {self.rows:,} rows"
            said += f", freed {self.bytes_freed / 1e6:.1f} MB"
        stay = {
            "incomplete": self.incomplete,
            "with rewards that may still come": self.pending,
        }
        if left := [f"{count:,} {why}" for why, count in stay.items() if count]:
            said += f". Old steps that stay: {', '.join(left)}"
        if self.segments_waiting:
            said += f". Segments to be written anew later: {self.segments_waiting:,}"
        return said


def reduce_run(
    run_dir: str | os.PathLike[str],
    keep: Keep,
    policy: Policy | None = None,
    *,
    dry_run: bool = False,
    least_steps: int = 1,
    least_share: float = 0.0,
) -> Reduction:
    """Reduce all complete steps that ``keep`` does not keep, hidden ones like visible ones.

    Of each its metrics stay, with the intervals that ``policy`` (the default one) demands, and a
    quantile sketch of each numeric column. Commits, evaluations, events and late values stay. The
    run may be recorded and read meanwhile; a kill at any moment leaves a run that reads the same,
    or is further on, and the next call ends what was begun. A step in which rewards are missing
    stays until it is twice as old as ``keep.steps``, or the run is closed. Rows in open tails stay
    until these are sealed. Who calls this often spares files and work: nothing is summarised before
    ``least_steps`` are old enough, and a segment that holds other steps, too, stays until
    ``least_share`` of its rows can go.

    Raises RetentionError for a URL and where the file system knows no locks, RetentionBusyError
    while another process rewrites segments, RunUnavailableError where something that is there
    cannot be read just now, RunError as `open_run` does, and OSError.
    """
    place = run_place(run_dir)
    if isinstance(place, RunUrl):
        raise RetentionError(
            f"{place} is an object store: reduce the run directory and upload that to another "
            "place; objects that were uploaded before are for the store's own rules to expire"
        )
    open_run(place)
    if dry_run:
        return _reduce(place, keep, policy or default_policy(), least_steps, dry_run=True)
    with rewriting(place, alone=True) as held:
        if held is False:
            raise RetentionBusyError(
                f"{place}: another process compacts or reduces this run: try again when it is done"
            )
        if held is None:
            raise RetentionError(
                f"{place}: the file system knows no locks, and nobody could tell whether segments "
                "are being merged: reduce the run on a file system that has them"
            )
        remove_unfinished(place)
        remove_unfinished_summaries(place)
        done = _reduce(place, keep, policy or default_policy(), least_steps, dry_run=False)
        _remove_rows(place, done, least_share)
    return done


def _reduce(
    run_dir: Path, keep: Keep, policy: Policy, least_steps: int, *, dry_run: bool
) -> Reduction:
    """Write the summaries that are due."""
    run = open_run(run_dir)
    tail = run.tail()
    run.require_whole()
    done = Reduction()
    old = _old(run, tail, keep)
    if len(old) < least_steps:
        return done
    rows: list[dict[str, Any]] = []
    for key, data in _due(run, tail, old, keep, done):
        done.steps.append(key.step)
        done.rows += len(data.trajectories) + len(data.updates)
        if dry_run:
            continue
        rows.append(summarise(data, run.loss_ratio, policy.demanded, run.late_values(key)))
        if len(rows) == FILE_STEPS:
            write_summaries(run_dir, rows)
            rows = []
    if rows:
        write_summaries(run_dir, rows)
    return done


def _old(run: Run, tail: Tail, keep: Keep) -> list[StepKey]:
    """Steps before the last so many visible ones that have no summary yet."""
    first = _first_of_last(run, tail, keep.steps)
    return [key for key in tail.keys if key.step < first and tail.summary(key) is None]


def _first_of_last(run: Run, tail: Tail, count: int) -> int:
    visible = sorted(key.step for key in tail.keys if run.is_visible(key.attempt, key.step))
    return visible[max(len(visible) - count, 0)] if visible else 0


def _due(
    run: Run, tail: Tail, old: Sequence[StepKey], keep: Keep, done: Reduction
) -> Iterator[tuple[StepKey, StepData]]:
    """Of the old steps those to be reduced, with all their rows."""
    first_waiting = _first_of_last(run, tail, 2 * keep.steps)
    before = None if keep.days is None else time.time() - keep.days * 86400
    for key in old:
        data = tail.build(key, None)
        if before is not None and (data.committed is None or data.committed > before):
            continue
        if not data.complete:
            done.incomplete += 1
        elif key.step >= first_waiting and not run.closed and _lacks_rewards(data):
            done.pending += 1
        else:
            yield key, data


def _lacks_rewards(data: StepData) -> bool:
    rows = data.trajectories
    return "reward" not in rows.columns or rows["reward"].null_count() > 0


def _remove_rows(run_dir: Path, done: Reduction, least_share: float) -> None:
    """Remove the rows of all reduced steps, as readers see them: those of earlier calls, too."""
    run = open_run(run_dir)
    removal = Removal()
    for table in TABLES_REDUCED:
        batches = run.reduced_batches(table)
        remove_batches(run_dir, table, batches, removal, least_share=least_share)
    done.bytes_freed = removal.bytes
    done.segments_removed = removal.removed
    done.segments_rewritten = removal.rewritten
    done.segments_waiting = removal.waiting
