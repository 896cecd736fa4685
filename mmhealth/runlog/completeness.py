"""What commits speak of and what of it is there, for many steps at once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mmhealth.runlog.batches import Batches
from mmhealth.runlog.commit_table import NONE, by_rank
from mmhealth.runlog.commits import Commits
from mmhealth.runlog.intervals import BoolArray, IntArray
from mmhealth.runlog.layout import Writer

COMMITTED = ("trajectories", "updates")
"""Tables whose rows stand when a commit speaks of them."""


@dataclass(frozen=True, slots=True)
class StepCounts:
    """Steps of one attempt; each array is (steps,)."""

    steps: IntArray
    ranks_missing: IntArray
    """Ranks that are expected and have not committed."""
    batches_missing: IntArray
    """Batches that commits speak of and that are not there."""
    rows_missing: IntArray
    """Rows of those."""
    trajectories: IntArray
    """Rows of trajectories that commits speak of."""
    trajectories_missing: IntArray
    """Those of them that are not there."""

    @property
    def whole(self) -> BoolArray:
        """Whether all ranks have committed, and no row that they speak of is missing."""
        whole: BoolArray = (self.ranks_missing <= 0) & (self.rows_missing == 0)
        return whole

    @property
    def complete(self) -> BoolArray:
        """Whether all ranks have committed, and every batch that they speak of is there."""
        complete: BoolArray = (self.ranks_missing <= 0) & (self.batches_missing == 0)
        return complete


def step_counts(
    commits: Commits,
    batches: Mapping[str, Batches],
    attempt: int,
    steps: IntArray,
    reduced: IntArray,
) -> Iterator[StepCounts]:
    """Counts of steps of an attempt, each of which some rank has committed; a part at a time.

    Of steps that are ``reduced`` nothing is missing.
    """
    if not len(steps):
        return
    for block in commits.tables[attempt].blocks(steps):
        ranks = block["rank"]
        awaited = np.repeat(~np.isin(block.steps, reduced), block.counts)
        spoken, missing, absent = {}, {}, {}
        for table in COMMITTED:
            seqs, rows = block[f"{table}_seq"], block[f"{table}_rows"]
            named = seqs != NONE
            lacking = named & awaited & ~batches[table].there(attempt, ranks, seqs)
            spoken[table] = block.sum(np.where(named, rows, 0))
            missing[table] = block.sum(np.where(lacking, rows, 0))
            absent[table] = block.sum(lacking)
        yield StepCounts(
            block.steps,
            np.maximum(block.most("ranks_expected") - block.counts, 0),
            absent["trajectories"] + absent["updates"],
            missing["trajectories"] + missing["updates"],
            spoken["trajectories"],
            missing["trajectories"],
        )


class Awaited:
    """Batches of a table that commits speak of and that are not there yet."""

    def __init__(self) -> None:
        self._by_writer: dict[Writer, IntArray] = {}
        """(batches, 2) Their numbers, and the steps that speak of them."""

    def put(
        self, commits: Commits, batches: Batches, table: str, attempt: int, steps: IntArray
    ) -> None:
        """Take in what is awaited of steps with new commits."""
        for block in commits.tables[attempt].blocks(steps):
            seqs, ranks = block[f"{table}_seq"], block["rank"]
            absent = (seqs != NONE) & ~batches.there(attempt, ranks, seqs)
            if not absent.any():
                continue
            named = np.column_stack((seqs, np.repeat(block.steps, block.counts)))[absent]
            for rank, places in by_rank(ranks[absent]):
                writer = Writer(rank, attempt)
                known = self._by_writer.get(writer, named[:0])
                self._by_writer[writer] = np.unique(np.vstack((known, named[places])), axis=0)

    def take(self, writer: Writer, seqs: IntArray) -> IntArray:
        """These batches are here: the steps that waited for them."""
        if (known := self._by_writer.get(writer)) is None:
            return np.empty(0, np.int64)
        here = np.isin(known[:, 0], seqs)
        if here.all():
            del self._by_writer[writer]
        else:
            self._by_writer[writer] = known[~here]
        steps: IntArray = known[here, 1]
        return steps
