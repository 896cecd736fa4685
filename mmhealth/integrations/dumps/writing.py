"""Parts of a dump become steps of a run directory."""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from threading import Event
from types import TracebackType
from typing import Any, Self

from mmhealth.engines import Engine
from mmhealth.errors import ImportDataError, RecordError
from mmhealth.integrations.dumps.format import LossRatio
from mmhealth.integrations.dumps.ledger import Ledger
from mmhealth.integrations.dumps.parts import Found, Imported, Part
from mmhealth.integrations.dumps.places import readable
from mmhealth.integrations.dumps.problems import Problems
from mmhealth.integrations.dumps.reading import read_parts
from mmhealth.integrations.dumps.registry import Dump
from mmhealth.integrations.dumps.tokens import Row
from mmhealth.runlog import Recorder, StepRecord, new_attempt
from mmhealth.schema import TRAJECTORIES, UPDATES

_PATIENCE_S = 3600.0
_SHARED = ("trajectory_id", "role")

Progress = Callable[[int, int, int], None]
"""Told bytes read, bytes there are, and rows imported, after each step."""


class StepWriter:
    """Writes what is new in a dump, step by step. Use as a context manager, under a ledger.

    A step is committed as a whole, then noted in the ledger. A step that is not above the last one
    (its files changed, or the trainer went back to a checkpoint) begins a new attempt.
    """

    def __init__(
        self,
        dump: Dump,
        ledger: Ledger,
        *,
        loss_ratio: LossRatio,
        nominal_batch: int | None,
        progress: Progress | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.dump = dump
        self.problems = Problems()
        self.steps = 0
        self.rows = 0
        self.waiting: int | None = None
        """A step that is left for later: it is still being written."""
        self._ledger = ledger
        self.run_dir = ledger.run_dir
        self._loss_ratio: LossRatio = loss_ratio
        self._nominal_batch = nominal_batch
        self._progress = progress
        self._engine = engine
        self._recorder: Recorder | None = None

    def advance(self, *, settle: float | None = None, stop: Event | None = None) -> int:
        """Import what is new, and return how many steps that were.

        Args:
            settle: the dump grows; its last step is taken once its files have not changed for so
                many seconds. Without it all that is there is taken.
            stop: end before the next step once this is set.
        """
        before = self.steps
        self.waiting = None
        growing = settle is not None
        found = Found(self.dump.root, tuple(self._ledger.entries), self.problems, growing)
        for part, rows, problems in read_parts(self._due(found, settle), self._engine):
            if stop is not None and stop.is_set():
                break
            self._import(part, rows, problems)
        return self.steps - before

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _parts(self, found: Found) -> Iterator[Part]:
        with readable(self.dump.root):
            yield from self.dump.format.parts(found)

    def _due(self, found: Found, settle: float | None) -> Iterator[Part]:
        """All parts but a last one that is still being written."""
        held: Part | None = None
        for part in self._parts(found):
            if held is not None:
                yield held
            held = part
        if held is None:
            return
        if settle is not None and held.changed and time.time() - held.changed < settle:
            self.waiting = held.step
        else:
            yield held

    def _import(self, part: Part, rows: Iterator[Row], problems: Problems) -> None:
        first = next(rows, None)
        recorder = self._recorder_from(part.step)
        count = 0
        try:
            if first is not None or part.scalars:
                with recorder.step(part.step) as record:
                    record.scalars(part.scalars)
                    count = record_rows(record, chain([first], rows)) if first is not None else 0
            if problems.count or problems.notices:
                recorder.log_event(part.step, "import", _details(problems))
        except RecordError as error:
            files = ", ".join(map(str, part.files[:1])) or str(self.dump.root)
            raise ImportDataError(f"{files}, step {part.step}: {error}") from error
        self._ledger.add(Imported(part.step, part.stamp, count))
        self.problems.absorb(problems)
        self.steps += 1 if count or part.scalars else 0
        self.rows += count
        if self._progress is not None:
            self._progress(*part.reached, self.rows)

    def _recorder_from(self, step: int) -> Recorder:
        """The recorder of this attempt, or of a new one where steps from here on stand already."""
        entries = self._ledger.entries
        again = bool(entries) and entries[-1].step >= step
        if self._recorder is not None and not again:
            return self._recorder
        self._close()
        known = self.dump.format
        self._recorder = Recorder(
            self.run_dir,
            attempt=new_attempt(self.run_dir),
            start_step=step,
            config={
                "imported_from": str(self.dump.root.absolute()),
                "format": known.name,
                "lacks": dict(known.lacks),
            },
            loss_ratio=self._loss_ratio,
            nominal_batch=self._nominal_batch,
            time_budget=_PATIENCE_S,
            strict=True,
        )
        return self._recorder

    def _close(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.close()


def record_rows(record: StepRecord, rows: Iterator[Row]) -> int:
    """Add trajectories, and how they were used, to a step; how many. There must be one at least."""
    kept = []
    for number, row in enumerate(rows):
        row.values.setdefault("trajectory_id", number)
        kept.append(row.values)
        if row.log_ratios is not None:
            record.log_ratios(row.log_ratios, after_tool=row.after_tool)
    names = [name for name in dict.fromkeys(chain(*kept)) if _has_values(kept, name)]
    of_updates = [name for name in names if UPDATES.kind(name) and not TRAJECTORIES.kind(name)]
    sampled = [name for name in names if name not in of_updates]
    record.add({_storable(name): _column(kept, name) for name in sampled})
    used = [values for values in kept if values.get("role") != "filtered"]
    if of_updates and used:
        shared = [name for name in _SHARED if name in names]
        record.update({name: _column(used, name) for name in (*of_updates, *shared)})
    return len(kept)


def _has_values(rows: Sequence[dict[str, Any]], name: str) -> bool:
    return any(row.get(name) is not None for row in rows)


def _column(rows: Sequence[dict[str, Any]], name: str) -> list[Any]:
    return [_storable(row.get(name)) for row in rows]


def _storable(value: Any) -> Any:
    """Text as UTF-8 can hold it: JSON can name halves of characters."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode("utf-8")
    return value


def _details(problems: Problems) -> dict[str, Any]:
    return {
        "left_out": problems.count,
        "first": [str(problem) for problem in problems.first[:3]],
        "unknown": dict(problems.notices),
    }
