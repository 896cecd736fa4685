"""What is known about the state of a run's data: complete, pending, damaged, lost."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from mmhealth.runlog.losses import HARMLESS
from mmhealth.runlog.reduced import ReducedStep
from mmhealth.runlog.scan import Quarantined


@dataclass(frozen=True, slots=True)
class WriterLoss:
    """Losses of one kind that one writer counted."""

    rank: int
    attempt: int
    kind: str
    count: int
    first: str
    way_out: str


@dataclass(frozen=True, slots=True)
class IncompleteStep:
    """A step that some rank has not committed, or whose rows cannot all be read."""

    step: int
    attempt: int
    ranks_missing: int
    rows_missing: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of the run."""

    number: int
    start: int
    """Hides every row of older attempts from this step on."""
    ranks: tuple[int, ...]


@dataclass(slots=True)
class RunStatus:
    """How much of what happened can be read, and what happened to the rest."""

    attempts: list[Attempt] = field(default_factory=list)
    steps_complete: int = 0
    last_step: int | None = None
    """Last step that some rank has committed."""
    last_commit: float | None = None
    """When it was committed, seconds since 1970."""
    incomplete: list[IncompleteStep] = field(default_factory=list)
    rows_read: int = 0
    """Trajectory rows of committed, visible steps that were read."""
    rows_present: int = 0
    """Trajectory rows that those steps' commits speak of."""
    rows_pending: int = 0
    """Rows that no commit speaks of (yet)."""
    batches_orphaned: int = 0
    """Batches that no commit speaks of, beyond the one that a dying writer may leave in a table."""
    rows_hidden: int = 0
    """Trajectory rows hidden by a later attempt."""
    quarantined: list[Quarantined] = field(default_factory=list)
    unfetched: list[Quarantined] = field(default_factory=list)
    """Objects that a store did not give just now: the next look tries again."""
    batches_missing: int = 0
    """Gaps in the writers' sequence numbers."""
    cut_off: dict[str, int] = field(default_factory=dict)
    """Tails of dead writers that end within a batch, with its bytes: at most one step, which was
    being written. Not counted as loss."""
    amendments_unmatched: int = 0
    """Late values whose trajectory is not in the run."""
    losses: list[WriterLoss] = field(default_factory=list)
    steps_reduced: int = 0
    """Visible steps whose rows a summary stands for: complete, and no loss."""
    rows_reduced: int = 0
    """Trajectory rows that those steps had; not among `rows_present`."""
    steps_reduced_range: tuple[int, int] | None = None
    """The first and the last of them."""
    reduced_between: tuple[float, float] | None = None
    """When the first and the last of them was reduced, seconds since 1970."""
    amendments_after_reduction: int = 0
    """Late values that came after their step was reduced: they are kept, and nothing shows them."""

    def add_reduced(self, step: ReducedStep) -> None:
        """Count a visible step that is reduced."""
        self.steps_reduced += 1
        self.rows_reduced += step.trajectories
        number, when = step.key.step, step.reduced_at
        low, high = self.steps_reduced_range or (number, number)
        self.steps_reduced_range = min(low, number), max(high, number)
        begin, end = self.reduced_between or (when, when)
        self.reduced_between = min(begin, when), max(end, when)

    def describe_reduction(self) -> str | None:
        """Which steps are reduced, since when, as a sentence; None where none is."""
        if self.steps_reduced_range is None or self.reduced_between is None:
            return None
        low, high = self.steps_reduced_range
        steps = f"step {low}" if low == high else f"steps {low} to {high}"
        begin, end = (f"{datetime.fromtimestamp(t, UTC):%Y-%m-%d}" for t in self.reduced_between)
        when = f"on {begin}" if begin == end else f"between {begin} and {end}"
        count = "1 step is" if self.steps_reduced == 1 else f"{self.steps_reduced:,} steps are"
        return (
            f"{count} reduced ({steps}, {self.rows_reduced:,} trajectory rows, {when}): metrics "
            "and quantile sketches stand for the rows"
        )

    @property
    def data_lost(self) -> bool:
        """Whether anything is missing that should be there."""
        return bool(
            self.quarantined
            or self.unfetched
            or self.batches_missing
            or self.batches_orphaned
            or self.amendments_unmatched
            or self.amendments_after_reduction
            or any(item.rows_missing for item in self.incomplete)
            or any(loss.kind not in HARMLESS for loss in self.losses)
        )

    def describe_losses(self) -> list[str]:
        """Each loss as a sentence, the gravest first."""
        sentences = [f"{item.file}: {item.reason}" for item in self.quarantined]
        sentences += [f"{item.file}: not fetched: {item.reason}" for item in self.unfetched]
        if missing := self.rows_present - self.rows_read:
            sentences.append(f"{missing} of {self.rows_present} committed rows cannot be read")
        if self.batches_missing:
            sentences.append(
                f"{self.batches_missing} batches never arrived (gaps in the numbering)"
            )
        if self.batches_orphaned:
            sentences.append(f"{self.batches_orphaned} batches have lost the commit of their step")
        if self.amendments_unmatched:
            sentences.append(
                f"{self.amendments_unmatched} late values fit no trajectory of the run"
            )
        if self.amendments_after_reduction:
            sentences.append(
                f"{self.amendments_after_reduction} late values came after their step was reduced: "
                "its metrics are without them"
            )
        for file, size in self.cut_off.items():
            sentences.append(f"{file}: ends within a batch ({size} bytes), its writer is gone")
        for loss in self.losses:
            times = "once" if loss.count == 1 else f"{loss.count} times"
            sentences.append(
                f"rank {loss.rank}, attempt {loss.attempt}: {loss.kind} {times}, first: "
                f"{loss.first}. Way out: {loss.way_out}"
            )
        return sentences
