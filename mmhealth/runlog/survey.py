"""Takes stock of a run's data: what is complete, pending, damaged and lost."""

from itertools import product

import polars as pl

from mmhealth.runlog.amendments import AMENDED_KEYS, by_step, with_ids_like
from mmhealth.runlog.commits import StepKey
from mmhealth.runlog.holdings import Holdings
from mmhealth.runlog.layout import Writer
from mmhealth.runlog.scan import Key, Quarantined
from mmhealth.runlog.status import Attempt, IncompleteStep, RunStatus, WriterLoss
from mmhealth.runlog.store import FolderStore


def survey(held: Holdings) -> RunStatus:
    """The status of everything that has been read."""
    status = RunStatus(attempts=_attempts(held), losses=_losses(held))
    spoken_for: set[tuple[str, Key]] = set()
    for key in held.commits.by_step:
        _count_step(held, key, status, spoken_for)
    status.incomplete.sort(key=lambda item: item.step)
    for table in ("trajectories", "updates"):
        pending = [batch for batch in held.batches[table] if (table, batch) not in spoken_for]
        status.rows_pending += sum(held.batches[table].num_rows(batch) for batch in pending)
        if not isinstance(held.store, FolderStore):
            pending = _behind_commits(table, pending, spoken_for)
        dead = (held.writers.get(w, {}).get("rejoined", 0) for w in {b.writer for b in pending})
        tolerated = sum(1 + deaths for deaths in dead) + _writes_lost(status)
        status.batches_orphaned += max(0, len(pending) - tolerated)
    if visible := held.commits.visible():
        last = held.commits.by_step[visible[-1]].values()
        status.last_step = visible[-1].step
        status.last_commit = max((commit.time or 0.0 for commit in last), default=None)
    for table, scan in held.scans.items():
        unreadable = scan.quarantined | held.batches[table].lost
        for file, reason in sorted(unreadable.items()):
            status.quarantined.append(Quarantined(f"{table}/{file}", reason))
        status.batches_missing += scan.missing(_announced(held, table))
        for file, reason in sorted(scan.unfetched.items()):
            status.unfetched.append(Quarantined(f"{table}/{file}", reason))
        for file, size in sorted(scan.cut_off().items()):
            status.cut_off[f"{table}/{file}"] = size
    for file, reason in sorted(held.unusable_writers.items()):
        status.quarantined.append(Quarantined(file, reason))
    for file, reason in sorted(held.unfetched.items()):
        status.unfetched.append(Quarantined(file, reason))
    if held.batches["amendments"]:
        status.amendments_unmatched = _unmatched_amendments(held)
    return status


def _behind_commits(table: str, batches: list[Key], spoken_for: set[tuple[str, Key]]) -> list[Key]:
    """Of an upload in progress: those whose commits, which are sent last, should be there."""
    last: dict[Writer, int] = {}
    for name, key in spoken_for:
        if name == table:
            last[key.writer] = max(key.seq, last.get(key.writer, -1))
    return [key for key in batches if key.seq < last.get(key.writer, -1)]


def _announced(held: Holdings, table: str) -> dict[Writer, int]:
    """Last sequence numbers that writers left when they closed."""
    closed = {w: about for w, about in held.writers.items() if about.get("closed")}
    last = {w: about.get("last_seq", {}).get(table) for w, about in closed.items()}
    return {writer: int(seq) for writer, seq in last.items() if seq is not None}


def _count_step(
    held: Holdings, key: StepKey, status: RunStatus, spoken_for: set[tuple[str, Key]]
) -> None:
    commits = held.commits.by_step[key]
    present = missing = read = 0
    for table, commit in product(("trajectories", "updates"), commits.values()):
        if (batch := commit.key(table)) is None:
            continue
        spoken_for.add((table, batch))
        rows = commit.rows(table)
        found = batch in held.batches[table]
        missing += 0 if found else rows
        if table == "trajectories":
            present += rows
            read += rows if found else 0
    if not held.commits.is_visible(key.attempt, key.step):
        status.rows_hidden += present
        return
    status.rows_present += present
    status.rows_read += read
    ranks_missing = max(held.commits.ranks_expected(key) - len(commits), 0)
    if ranks_missing or missing:
        status.incomplete.append(IncompleteStep(key.step, key.attempt, ranks_missing, missing))
    else:
        status.steps_complete += 1


def _writes_lost(status: RunStatus) -> int:
    """Steps whose commit is known to have failed: their rows may lie there uncommitted."""
    return sum(loss.count for loss in status.losses if loss.kind == "write")


def _unmatched_amendments(held: Holdings) -> int:
    """Late values for visible steps that fit no trajectory there."""
    late = by_step(held.frame("amendments"), held.commits)
    keys = [key for key in held.commits.visible() if key.step in late]
    trajectories = held.committed_frame("trajectories", keys, AMENDED_KEYS)
    if not late or trajectories.is_empty():
        return sum(len(part) for part in late.values())
    rows = with_ids_like(pl.concat(late.values()), trajectories)
    standing = [held.commits.is_visible(a, s) for a, s in rows.select("attempt", "step").rows()]
    rows = rows.filter(pl.Series(standing, dtype=pl.Boolean))
    return len(rows.join(trajectories, on=AMENDED_KEYS, how="anti"))


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
