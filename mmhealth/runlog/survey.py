"""Takes stock of a run's data: what is complete, pending, damaged and lost."""

import numpy as np
import polars as pl

from mmhealth.runlog.amendments import AMENDED_KEYS, by_step, owned, unmatched
from mmhealth.runlog.commit_table import NONE, by_rank
from mmhealth.runlog.commits import StepKey
from mmhealth.runlog.completeness import COMMITTED, StepCounts
from mmhealth.runlog.holdings import Holdings
from mmhealth.runlog.intervals import IntArray, Numbers
from mmhealth.runlog.layout import Writer
from mmhealth.runlog.reduced import TABLES_REDUCED, ReducedStep
from mmhealth.runlog.scan import Quarantined
from mmhealth.runlog.status import Attempt, IncompleteStep, RunStatus, WriterLoss
from mmhealth.runlog.store import FolderStore


def survey(held: Holdings) -> RunStatus:
    """The status of everything that has been read."""
    status = RunStatus(attempts=_attempts(held), losses=_losses(held))
    standing = held.commits.visible_steps()
    for attempt, commits in held.commits.tables.items():
        hidden = commits.steps[len(standing[attempt]) :]
        for counts in held.counts(attempt, hidden):
            status.rows_hidden += int(counts.trajectories.sum())
    for attempt, steps in standing.items():
        reduced = np.isin(steps, held.reduced.of(attempt))
        for counts in held.counts(attempt, steps[~reduced]):
            _count_steps(counts, attempt, status)
        for step in steps[reduced].tolist():
            _count_reduced(held, held.reduced.steps[StepKey(attempt, step)], status)
    status.incomplete.sort(key=lambda item: item.step)
    for table in COMMITTED:
        _count_pending(held, table, status)
    if (last_key := held.commits.last_visible()) is not None:
        status.last_step = last_key.step
        commits_of_last = held.commits.of(last_key).values()
        status.last_commit = max(commit.time or 0.0 for commit in commits_of_last)
    _name_files(held, status)
    if held.batches["amendments"]:
        status.amendments_unmatched = _unmatched_amendments(held)
    return status


def _count_pending(held: Holdings, table: str, status: RunStatus) -> None:
    """Batches that no commit speaks of; each death of a writer may leave one."""
    orphans, tolerated = 0, _writes_lost(status)
    for writer, (pending, last) in _pending(held, table).items():
        status.rows_pending += held.batches[table].num_rows(writer, pending)
        lost = len(pending)
        if not isinstance(held.store, FolderStore):
            # An upload in progress sends commits last: those of later batches will come.
            lost = int((pending < last).sum())
        if lost:
            orphans += lost
            tolerated += 1 + held.writers.get(writer, {}).get("rejoined", 0)
    status.batches_orphaned += max(0, orphans - tolerated)


def _pending(held: Holdings, table: str) -> dict[Writer, tuple[IntArray, int]]:
    """Of each writer, batches that are there and of which no commit speaks, and the last number of
    which one does; -1 where none does.
    """
    batches = held.batches[table]
    spoken = {
        writer: np.zeros(batches.numbers(writer).last + 1, np.bool_) for writer in batches.writers
    }
    last = dict.fromkeys(batches.writers, -1)
    for attempt, commits in held.commits.tables.items():
        for block in commits.blocks(commits.steps):
            seqs = block[f"{table}_seq"]
            for rank, places in by_rank(block["rank"]):
                writer, named = Writer(rank, attempt), seqs[places]
                if writer in spoken and (named := named[named != NONE]).size:
                    last[writer] = max(last[writer], int(named.max()))
                    spoken[writer][named[named < len(spoken[writer])]] = True
    found = {}
    for writer, said in spoken.items():
        there = batches.numbers(writer).array
        found[writer] = there[~said[there]], last[writer]
    return found


def _announced(held: Holdings, table: str) -> dict[Writer, int]:
    """Last sequence numbers that writers left when they closed."""
    closed = {w: about for w, about in held.writers.items() if about.get("closed")}
    last = {w: about.get("last_seq", {}).get(table) for w, about in closed.items()}
    return {writer: int(seq) for writer, seq in last.items() if seq is not None}


def _count_steps(counts: StepCounts, attempt: int, status: RunStatus) -> None:
    status.rows_present += int(counts.trajectories.sum())
    status.rows_read += int((counts.trajectories - counts.trajectories_missing).sum())
    lacking = (counts.ranks_missing > 0) | (counts.rows_missing > 0)
    status.steps_complete += len(lacking) - int(lacking.sum())
    columns = (counts.steps, counts.ranks_missing, counts.rows_missing)
    for step, ranks, rows in zip(*(c[lacking].tolist() for c in columns), strict=True):
        status.incomplete.append(IncompleteStep(step, attempt, ranks, rows))


def _count_reduced(held: Holdings, reduced: ReducedStep, status: RunStatus) -> None:
    status.steps_complete += 1
    status.add_reduced(reduced)
    late = held.late_frame(reduced.key.step)
    if not late.is_empty():
        there = owned(late, held.commits).filter(attempt=reduced.key.attempt)
        status.amendments_after_reduction += max(0, len(there) - reduced.amendments)


def _writes_lost(status: RunStatus) -> int:
    """Steps whose commit is known to have failed: their rows may lie there uncommitted."""
    return sum(loss.count for loss in status.losses if loss.kind == "write")


def _unmatched_amendments(held: Holdings) -> int:
    """Late values for visible steps that fit no trajectory there; of reduced ones, that fitted none
    when these were reduced.
    """
    keys = {key.step: key for key in held.commits.visible()}
    found = 0
    for step, late in by_step(held.frame("amendments"), held.commits).items():
        key = keys.get(step)
        if (reduced := held.reduced.steps.get(key) if key else None) is not None:
            found += reduced.amendments_unmatched
            continue
        standing = [held.commits.is_visible(a, step) for a in late["attempt"].to_list()]
        rows = held.committed_frame("trajectories", [key] if key else [], AMENDED_KEYS)
        found += unmatched(late.filter(pl.Series(standing, dtype=pl.Boolean)), rows)
    return found


def _missing(held: Holdings, table: str) -> int:
    """Batches that never arrived: below the last one known, and not reduced."""
    scan, last = held.scans[table], _announced(held, table)
    gone = 0
    if table in TABLES_REDUCED:
        for writer, seqs in held.reduced.batches(held.commits, table):
            last[writer] = max(last.get(writer, -1), int(seqs.max(initial=-1)))
            gone += int((~scan.seen.get(writer, Numbers()).holds(seqs)).sum())
    return scan.missing(last) - gone


def _name_files(held: Holdings, status: RunStatus) -> None:
    """What could not be read, and what never arrived."""
    for table, scan in held.scans.items():
        unreadable = scan.quarantined | held.batches[table].lost
        for file, reason in sorted(unreadable.items()):
            status.quarantined.append(Quarantined(f"{table}/{file}", reason))
        status.batches_missing += _missing(held, table)
        for file, size in sorted(scan.cut_off().items()):
            status.cut_off[f"{table}/{file}"] = size
    for file, reason in sorted((held.unusable_writers | held.reduced.quarantined).items()):
        status.quarantined.append(Quarantined(file, reason))
    status.unfetched += unfetched(held)


def unfetched(held: Holdings) -> list[Quarantined]:
    """What is there and could not be read just now."""
    found = [
        Quarantined(f"{table}/{file}", reason)
        for table, scan in held.scans.items()
        for file, reason in sorted(scan.unfetched.items())
    ]
    others = held.unfetched | held.reduced.unfetched
    return found + [Quarantined(file, reason) for file, reason in sorted(others.items())]


def _attempts(held: Holdings) -> list[Attempt]:
    ranks: dict[int, list[int]] = {}
    for writer in held.writers:
        ranks.setdefault(writer.attempt, []).append(writer.rank)
    starts = held.commits.starts
    return [Attempt(a, starts[a], tuple(sorted(ranks.get(a, [])))) for a in starts]


def _losses(held: Holdings) -> list[WriterLoss]:
    return [
        WriterLoss(
            writer.rank,
            writer.attempt,
            loss["kind"],
            int(loss["count"]),
            loss["first"],
            loss.get("way_out", ""),
        )
        for writer, content in sorted(held.writers.items())
        for loss in content.get("losses", [])
    ]
