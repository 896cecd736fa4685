"""Which commits stand, which are hidden, and which step they complete."""

from collections.abc import Iterator
from math import isnan
from typing import Any, NamedTuple

import numpy as np

from mmhealth.runlog.commit_table import COMMIT_COLUMNS, NONE, CommitTable, Rows
from mmhealth.runlog.intervals import BoolArray, IntArray, distinct
from mmhealth.runlog.layout import Writer
from mmhealth.runlog.scan import Key

PARTIAL_AFTER = 5
"""Steps after which a step that is still incomplete is judged as it is."""


class StepKey(NamedTuple):
    """A step as one attempt lived it."""

    attempt: int
    step: int


class Commit(NamedTuple):
    """One rank's commit of one step: of its row in the table ``steps`` what is always at hand.

    After the writer in the order of `COMMIT_COLUMNS`.
    """

    writer: Writer
    seq: int
    """Number of its own batch."""
    step: int
    nominal_batch: int | None = None
    ranks_expected: int = 1
    """Commits that make the step complete."""
    trajectories_seq: int | None = None
    trajectories_rows: int = 0
    updates_seq: int | None = None
    updates_rows: int = 0
    time: float | None = None

    @property
    def step_key(self) -> StepKey:
        """The step, as its attempt lived it."""
        return StepKey(self.writer.attempt, self.step)

    def key(self, table: str) -> Key | None:
        """The batch of ``table`` that this commit speaks of; of ``steps`` its own."""
        if table == "steps":
            return Key(self.writer, self.seq)
        seq = self.trajectories_seq if table == "trajectories" else self.updates_seq
        return None if seq is None else Key(self.writer, seq)

    def rows(self, table: str) -> int:
        """How many rows that batch has."""
        return self.trajectories_rows if table == "trajectories" else self.updates_rows


class Commits:
    """All commits of a run. Attempt k starting at step s hides older rows with step >= s."""

    def __init__(self) -> None:
        self.tables: dict[int, CommitTable] = {}
        """By attempt."""
        self._starts: dict[int, int] = {}

    def add(self, attempt: int, rows: Rows) -> IntArray:
        """Take in commits of an attempt; return their steps.

        A rank that commits a step again is not heard: the commit with the lowest number stands.
        """
        steps = distinct(rows["step"])
        if len(steps):
            self.tables.setdefault(attempt, CommitTable()).add(rows)
            self.declare_start(attempt, int(steps[0]))
        return steps

    def declare_start(self, attempt: int, step: int) -> None:
        """An attempt starts at the lowest step that it declares or commits."""
        self._starts[attempt] = min(step, self._starts.get(attempt, step))

    def of(self, key: StepKey) -> dict[int, Commit]:
        """The commits of a step, by rank; empty where there are none."""
        if (table := self.tables.get(key.attempt)) is None:
            return {}
        place = table.place(key.step)
        columns = [table[name][place].tolist() for name in ("seq", *COMMIT_COLUMNS)]
        ranks: list[int] = table["rank"][place].tolist()
        return {
            rank: Commit(Writer(rank, key.attempt), *map(_said, row))
            for rank, *row in zip(ranks, *columns, strict=True)
        }

    @property
    def starts(self) -> dict[int, int]:
        """Start step of each attempt, in order of attempts."""
        return dict(sorted(self._starts.items()))

    def is_visible(self, attempt: int, step: int) -> bool:
        """Whether no later attempt hides this row."""
        return step < self._hidden_from(attempt)

    def owner(self, attempt: int, step: int) -> int:
        """The attempt whose row of a step stood when ``attempt`` was the latest."""
        earlier = (a for a, start in self._starts.items() if a <= attempt and start <= step)
        return max(earlier, default=attempt)

    def lived(self) -> Iterator[StepKey]:
        """All steps, in the order lived."""
        for attempt, table in sorted(self.tables.items()):
            yield from (StepKey(attempt, step) for step in table.steps.tolist())

    def visible_steps(self) -> dict[int, IntArray]:
        """By attempt, the steps that stand, ascending; later attempts have later steps."""
        found = {}
        for attempt, table in sorted(self.tables.items()):
            steps = table.steps
            found[attempt] = steps[: np.searchsorted(steps, self._hidden_from(attempt))]
        return found

    def visible(self) -> list[StepKey]:
        """Steps that stand, in order of steps."""
        parts = self.visible_steps().items()
        return [StepKey(attempt, step) for attempt, steps in parts for step in steps.tolist()]

    def last_visible(self) -> StepKey | None:
        """The last of the steps that stand; None where none does."""
        last = (
            (steps[-1], attempt) for attempt, steps in self.visible_steps().items() if len(steps)
        )
        step, attempt = max(last, default=(None, 0))
        return None if step is None else StepKey(attempt, int(step))

    def standing(self, step: int) -> StepKey | None:
        """The step with this number that no later attempt hides; None where there is none."""
        keys = (StepKey(a, step) for a, table in self.tables.items() if table.has(step))
        return next((key for key in keys if self.is_visible(*key)), None)

    def ranks_expected(self, key: StepKey) -> int:
        """Commits that make a step complete."""
        table = self.tables[key.attempt]
        return int(table["ranks_expected"][table.place(key.step)].max())

    def are_overdue(self, attempt: int, steps: IntArray) -> BoolArray:
        """Whether the run has gone on so far that steps still incomplete are judged as they are.

        Attempts that hide a step do not count: what they replace is never judged in halves.
        """
        reached = np.full(len(steps), NONE)
        open_to = np.ones(len(steps), np.bool_)
        for later, start in self.starts.items():
            if later < attempt:
                continue
            if later > attempt:
                open_to &= steps < start
            if (table := self.tables.get(later)) is not None:
                last = int(table["step"][-1])
                reached = np.where(open_to, np.maximum(reached, last), reached)
        distance = (reached - steps).astype(np.uint64)  # which int64 may not hold
        overdue: BoolArray = (reached >= steps) & (distance >= PARTIAL_AFTER)
        return overdue

    def _hidden_from(self, attempt: int) -> float:
        """The step from which on later attempts hide this one's."""
        later = (start for a, start in self._starts.items() if a > attempt)
        return min(later, default=float("inf"))


def _said(value: Any) -> Any:
    """What a commit says in a column; None for what stands for nothing."""
    return None if value == NONE or isnan(value) else value
