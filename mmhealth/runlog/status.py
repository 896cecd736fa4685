"""What is known about the state of a run's data: complete, pending, damaged, lost."""

from dataclasses import dataclass, field

from mmhealth.runlog.losses import HARMLESS
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

    @property
    def data_lost(self) -> bool:
        """Whether anything is missing that should be there."""
        return bool(
            self.quarantined
            or self.unfetched
            or self.batches_missing
            or self.batches_orphaned
            or self.amendments_unmatched
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
        for file, size in self.cut_off.items():
            sentences.append(f"{file}: ends within a batch ({size} bytes), its writer is gone")
        for loss in self.losses:
            times = "once" if loss.count == 1 else f"{loss.count} times"
            sentences.append(
                f"rank {loss.rank}, attempt {loss.attempt}: {loss.kind} {times}, first: "
                f"{loss.first}. Way out: {loss.way_out}"
            )
        return sentences
