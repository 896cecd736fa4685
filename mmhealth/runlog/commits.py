"""Which commits stand, which are hidden, and which step they complete."""

from dataclasses import dataclass, field

import polars as pl

from mmhealth.runlog.layout import Writer
from mmhealth.runlog.scan import Key

PARTIAL_AFTER = 5
"""Steps after which a step that is still incomplete is judged as it is."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One rank's commit of one step: of its row in the table ``steps`` what is always at hand."""

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

    def key(self, table: str) -> Key | None:
        """The batch of ``table`` that this commit speaks of; of ``steps`` its own."""
        if table == "steps":
            return Key(self.writer, self.seq)
        seq = self.trajectories_seq if table == "trajectories" else self.updates_seq
        return None if seq is None else Key(self.writer, seq)

    def rows(self, table: str) -> int:
        """How many rows that batch has."""
        return self.trajectories_rows if table == "trajectories" else self.updates_rows


COMMIT_COLUMNS = (
    "step",
    "nominal_batch",
    "ranks_expected",
    "trajectories_seq",
    "trajectories_rows",
    "updates_seq",
    "updates_rows",
    "time",
)


def commits_of(writer: Writer, seq: int, rows: pl.DataFrame) -> list[Commit]:
    """The commits in a batch of the table ``steps``, read with `COMMIT_COLUMNS`."""
    return [
        Commit(
            writer,
            seq,
            int(row["step"]),
            row.get("nominal_batch"),
            int(row.get("ranks_expected") or 1),
            row.get("trajectories_seq"),
            int(row.get("trajectories_rows") or 0),
            row.get("updates_seq"),
            int(row.get("updates_rows") or 0),
            row.get("time"),
        )
        for row in rows.to_dicts()
    ]


@dataclass(frozen=True, slots=True, order=True)
class StepKey:
    """A step as one attempt lived it."""

    attempt: int
    step: int


@dataclass(slots=True)
class Commits:
    """All commits of a run. Attempt k starting at step s hides older rows with step >= s."""

    by_step: dict[StepKey, dict[int, Commit]] = field(default_factory=dict)
    _starts: dict[int, int] = field(default_factory=dict)
    _last: dict[int, int] = field(default_factory=dict)

    def add(self, commit: Commit) -> StepKey:
        """Take in a commit. A rank that commits a step again is not heard."""
        key = StepKey(commit.writer.attempt, commit.step)
        self.by_step.setdefault(key, {}).setdefault(commit.writer.rank, commit)
        self.declare_start(key.attempt, key.step)
        self._last[key.attempt] = max(key.step, self._last.get(key.attempt, key.step))
        return key

    def declare_start(self, attempt: int, step: int) -> None:
        """An attempt starts at the lowest step that it declares or commits."""
        self._starts[attempt] = min(step, self._starts.get(attempt, step))

    @property
    def starts(self) -> dict[int, int]:
        """Start step of each attempt, in order of attempts."""
        return dict(sorted(self._starts.items()))

    def is_visible(self, attempt: int, step: int) -> bool:
        """Whether no later attempt hides this row."""
        return all(step < start for later, start in self._starts.items() if later > attempt)

    def owner(self, attempt: int, step: int) -> int:
        """The attempt whose row of a step stood when ``attempt`` was the latest."""
        earlier = (a for a, start in self._starts.items() if a <= attempt and start <= step)
        return max(earlier, default=attempt)

    def visible(self) -> list[StepKey]:
        """Steps that stand, in order of steps."""
        keys = (key for key in self.by_step if self.is_visible(key.attempt, key.step))
        return sorted(keys, key=lambda key: key.step)

    def ranks_expected(self, key: StepKey) -> int:
        """Commits that make a step complete."""
        return max(commit.ranks_expected for commit in self.by_step[key].values())

    def is_overdue(self, key: StepKey) -> bool:
        """Whether the run has gone on so far that an incomplete step is judged as it is.

        Attempts that hide the step do not count: what they replace is never judged in halves.
        """
        hiding = (a for a, start in self._starts.items() if a > key.attempt and start <= key.step)
        end = min(hiding, default=None)
        attempts = (a for a in self._last if a >= key.attempt and (end is None or a < end))
        return max(self._last[a] for a in attempts) >= key.step + PARTIAL_AFTER
