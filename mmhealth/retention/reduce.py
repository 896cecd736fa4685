"""Reduces old steps of a run: first their summaries stand, then their rows go."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmhealth.errors import RetentionBusyError, RetentionError
from mmhealth.health.policy import Policy, default_policy
from mmhealth.place import RunUrl, run_place
from mmhealth.retention.summarise import summarise
from mmhealth.runlog import Run, open_run
from mmhealth.runlog.amendments import AMENDED_KEYS
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
    run: str | os.PathLike[str] | Run,
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
    until these are sealed. Who calls this often keeps the run open, and spares files and work:
    nothing is summarised before ``least_steps`` can be, and a segment that holds other steps, too,
    stays until ``least_share`` of its rows can go.

    Raises RetentionError for a URL and where the file system knows no locks, RetentionBusyError
    while another process rewrites segments, RunUnavailableError where something that is there
    cannot be read just now, RunError as `open_run` does, and OSError.
    """
    place = run.path if isinstance(run, Run) else run_place(run)
    if isinstance(place, RunUrl):
        raise RetentionError(
            f"{place} is an object store: reduce the run directory and upload that to another "
            "place; objects that were uploaded before are for the store's own rules to expire"
        )
    opened = run if isinstance(run, Run) else open_run(place)
    rules = policy or default_policy()
    if dry_run:
        return _reduce(opened, place, keep, rules, least_steps, dry_run=True)
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
        done = _reduce(opened, place, keep, rules, least_steps, dry_run=False)
        opened.refresh()
        _remove_rows(opened, place, done, least_share)
    return done


def _reduce(
    run: Run, place: Path, keep: Keep, policy: Policy, least_steps: int, *, dry_run: bool
) -> Reduction:
    """Write the summaries that are due."""
    run.refresh()
    run.require_whole()
    done = Reduction()
    due = _due(run, keep, done)
    rows: list[dict[str, Any]] = []
    for key in due if len(due) >= least_steps else ():
        data = run.lived_step(key)
        if not data.complete:
            done.incomplete += 1
            continue
        done.steps.append(key.step)
        done.rows += len(data.trajectories) + len(data.updates)
        if dry_run:
            continue
        rows.append(summarise(data, run.loss_ratio, policy.demanded, run.late_values(key)))
        if len(rows) == FILE_STEPS:
            write_summaries(place, rows)
            rows = []
    if rows:
        write_summaries(place, rows)
    return done


def _due(run: Run, keep: Keep, done: Reduction) -> list[StepKey]:
    """Steps that have no summary yet, and that nothing keeps."""
    steps = dict(run.due_steps())
    visible = sorted(key.step for key in steps if run.is_visible(key.attempt, key.step))
    first, first_waiting = (_first_of_last(visible, n) for n in (keep.steps, 2 * keep.steps))
    before = None if keep.days is None else time.time() - keep.days * 86400
    due = []
    for key, complete in steps.items():
        if key.step >= first or run.is_reduced(key) or _is_young(run, key, before):
            continue
        if not complete:
            done.incomplete += 1
        elif key.step >= first_waiting and not run.closed and _lacks_rewards(run, key):
            done.pending += 1
        else:
            due.append(key)
    return due


def _first_of_last(visible: Sequence[int], count: int) -> int:
    return visible[max(len(visible) - count, 0)] if visible else 0


def _is_young(run: Run, key: StepKey, before: float | None) -> bool:
    if before is None:
        return False
    committed = run.committed(key)
    return committed is None or committed > before


def _lacks_rewards(run: Run, key: StepKey) -> bool:
    rows = run.lived_step(key, [*AMENDED_KEYS, "reward"]).trajectories
    return "reward" not in rows.columns or rows["reward"].null_count() > 0


def _remove_rows(run: Run, place: Path, done: Reduction, least_share: float) -> None:
    """Remove the rows of all reduced steps, as readers see them: those of earlier calls, too."""
    removal = Removal()
    for table in TABLES_REDUCED:
        remove_batches(place, table, run.reduced_batches(table), removal, least_share)
    done.bytes_freed = removal.bytes
    done.segments_removed = removal.removed
    done.segments_rewritten = removal.rewritten
    done.segments_waiting = removal.waiting
