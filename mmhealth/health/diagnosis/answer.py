"""What a diagnosis says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["diagnosed", "undetermined", "healthy", "insufficient data"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One failure mode that the log speaks for."""

    mode: str
    about: str
    confidence: float
    """Share of the runs with as strong a sign in which the mode was a cause; docs/diagnosis.md."""
    strength: float
    """The mode's statistic over its threshold, 1 on the border."""
    since: int | None
    """Step from which on it shows."""
    evidence: tuple[str, ...]
    rivals: Mapping[str, str]
    """Other modes that could look like it, and what the log says of each."""
    follows_from: str | None
    """A mode found beside it that may have brought it about; None: a cause of its own."""
    todo: str
    import_line: str
    experimental: bool


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The failure modes of a run, the most likely cause first."""

    outcome: Outcome
    why: str
    findings: tuple[Finding, ...] = ()
    """Modes whose sign is at or beyond its threshold: causes first, then what follows from them."""
    borderline: tuple[Finding, ...] = ()
    """Modes whose sign stays below it, and not by much."""
    ruled_out: tuple[str, ...] = ()
    """Modes that the log speaks against."""
    insufficient: Mapping[str, str] = field(default_factory=dict)
    """Modes that could not be judged, and why."""

    @property
    def first(self) -> Finding | None:
        """The first guess; None unless the outcome is *diagnosed*."""
        return self.findings[0] if self.outcome == "diagnosed" else None
