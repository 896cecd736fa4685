"""What could not be recorded: counted, warned of once, never raised into the training loop."""

import logging
import threading
from dataclasses import dataclass
from typing import Any, Literal

logger = logging.getLogger("mmhealth")

LossKind = Literal[
    "column",
    "step",
    "duplicate_commit",
    "repeated_step",
    "write",
    "queue_full",
    "over_budget",
    "run_removed",
    "evaluation",
    "event",
    "amendment",
    "forked",
    "upload",
    "callback",
    "internal",
]

WAYS_OUT: dict[LossKind, str] = {
    "column": "log one number, text or flag a row, for every row; the other columns are kept",
    "step": "see the message; the step is missing from the run",
    "duplicate_commit": "log each step once; a restart takes a new attempt",
    "repeated_step": "nothing: it stands as it was committed before the process died",
    "write": "free space or repair the path; recording goes on as soon as a write succeeds",
    "queue_full": "the disk does not keep up: log fewer columns or record to a faster disk",
    "over_budget": "record to a faster disk or raise time_budget; nothing is lost yet",
    "run_removed": "do not delete a run while it is recorded; recording goes on in a new directory",
    "evaluation": "see the message; this evaluation is missing from the run",
    "event": "see the message; this event is missing from the run",
    "amendment": "see the message; this late value is missing from the run",
    "forked": "open a Recorder of its own in the child process",
    "callback": "mend your function that the message names; nothing of the run is missing",
    "upload": "it is tried again while recording goes on; `mmhealth upload RUN URL` sends the rest",
    "internal": "please report this; training is not affected",
}
"""What a user can do about each kind of loss."""

HARMLESS: frozenset[str] = frozenset({"over_budget", "callback", "repeated_step", "upload"})
"""Kinds that cost no data."""


@dataclass(slots=True)
class Loss:
    """All losses of one kind."""

    kind: LossKind
    count: int
    first: str
    """Message of the first one."""
    first_step: int | None
    last_step: int | None


class Losses:
    """Counts losses by kind; safe to use from several threads."""

    def __init__(self) -> None:
        self._by_kind: dict[LossKind, Loss] = {}
        self._lock = threading.Lock()
        self.changed = False
        """Whether anything came since this was last set to False."""

    def add(self, kind: LossKind, why: str, step: int | None = None) -> None:
        """Count one loss; the first of its kind is logged as a warning with the way out."""
        with self._lock:
            self.changed = True
            if loss := self._by_kind.get(kind):
                loss.count += 1
                loss.last_step = step if step is not None else loss.last_step
                return
            self._by_kind[kind] = Loss(kind, 1, why, step, step)
        at = "" if step is None else f" at step {step}"
        logger.warning(
            "mmhealth could not record everything%s: %s. Way out: %s. (Further losses of this kind "
            "are counted, not repeated.)",
            at,
            why,
            WAYS_OUT[kind],
        )

    def restore(self, said: Any) -> None:
        """Go on from what `as_json` said before; what cannot be understood is left out."""
        for loss in said if isinstance(said, list) else ():
            try:
                kind, count, first = loss["kind"], int(loss["count"]), str(loss["first"])
                steps = loss["first_step"], loss["last_step"]
            except (KeyError, TypeError, ValueError):
                continue
            if kind in WAYS_OUT:
                self._by_kind[kind] = Loss(kind, count, first, *steps)

    def as_json(self) -> list[dict[str, Any]]:
        """One object a kind, for the writer's file."""
        with self._lock:
            return [
                {
                    "kind": loss.kind,
                    "count": loss.count,
                    "first": loss.first,
                    "first_step": loss.first_step,
                    "last_step": loss.last_step,
                    "way_out": WAYS_OUT[loss.kind],
                }
                for loss in self._by_kind.values()
            ]
