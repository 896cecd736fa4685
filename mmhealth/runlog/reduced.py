"""Summaries that stand in the place of a step's rows, as readers find them.

A summary file ``reduced/<first step>-<last step>-<crc32>.parquet`` has one row a step, as an
attempt lived it. It is written before any row goes (`mmhealth.runlog.reducing`). A step that has a
summary is *reduced*: whether or not rows of it are still there, readers take the summary.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa

from mmhealth.errors import RunUnavailableError
from mmhealth.runlog.commit_table import NONE, by_rank
from mmhealth.runlog.commits import Commits, StepKey
from mmhealth.runlog.intervals import IntArray
from mmhealth.runlog.layout import Sealed, Writer, list_folder
from mmhealth.runlog.store import DamagedSegmentError, Store

T = TypeVar("T")

REDUCED = "reduced"
TABLES_REDUCED = ("trajectories", "updates")
"""Whose rows go; commits, evaluations, events and late values stay."""
SUMMARY_SCHEMA = pa.schema(
    [
        ("attempt", pa.int64()),
        ("step", pa.int64()),
        *((f"{table}_rows", pa.int64()) for table in (*TABLES_REDUCED, "amendments")),
        ("amendments_unmatched", pa.int64()),
        ("reduced_at", pa.float64()),
        ("version", pa.string()),
        ("logged", pa.list_(pa.string())),
        ("horizons", pa.list_(pa.int64())),
        ("metrics", pa.string()),
        ("sketches", pa.string()),
    ]
)
"""``logged`` are the columns, as ``table.column``, in which some row had a value; ``metrics`` and
``sketches`` are JSON, written by `mmhealth.retention`."""
_PLAIN = [name for name in SUMMARY_SCHEMA.names if name not in ("metrics", "sketches")]
_NAME = re.compile(r"(-?\d+)-(-?\d+)-([0-9a-f]{8})\.parquet")


@dataclass(frozen=True, slots=True)
class ReducedStep:
    """What is at hand of a step whose rows are gone."""

    key: StepKey
    trajectories: int
    """Rows that there were."""
    updates: int
    amendments: int
    """Late values that had come by then."""
    amendments_unmatched: int
    """Those of them that fit no trajectory."""
    reduced_at: float
    """When, seconds since 1970."""
    version: str
    """Of mmhealth, that measured it."""
    logged: frozenset[str]
    """``table.column`` of all that held a value."""
    horizons: tuple[int, ...]
    """In turns, that its trajectories were sampled with, ascending."""

    @property
    def date(self) -> str:
        """The day, UTC."""
        return f"{datetime.fromtimestamp(self.reduced_at, UTC):%Y-%m-%d}"

    @property
    def reason(self) -> str:
        """Why something of the rows is not known any more."""
        return f"rows were reduced on {self.date}"


Summary: TypeAlias = tuple[ReducedStep, str]
"""A reduced step, and its metrics as JSON."""


def summaries_in(run_dir: Path) -> list[Path]:
    """The summary files of a run directory."""
    return [path for path in list_folder(run_dir / REDUCED) if path.name[0] != "."]


class Reductions:
    """All summaries of a run; `refresh` takes in what is new."""

    def __init__(self, store: Store) -> None:
        self.steps: dict[StepKey, ReducedStep] = {}
        self.quarantined: dict[str, str] = {}
        """Files that cannot be read, with the reason: what they speak of is lost."""
        self.unfetched: dict[str, str] = {}
        self._store = store
        self._files: set[str] = set()
        self._places: dict[StepKey, tuple[Path, int]] = {}
        self._by_attempt: dict[int, IntArray] = {}
        self._texts: dict[str, tuple[Path, list[str]]] = {}
        """By column, the file that was read last and what it says."""
        self._alike: dict[Any, Any] = {}
        """Steps are much alike: what they have in common is held once."""

    def refresh(self) -> set[StepKey]:
        """The steps that were reduced since the last call."""
        new: set[StepKey] = set()
        self.unfetched = {}
        try:
            names = sorted(self._store.names(REDUCED))
        except RunUnavailableError as error:
            self.unfetched[REDUCED] = str(error)
            return new
        folder = self._store.root / REDUCED
        for path in (folder / name for name in names if not name.startswith(".")):
            if path.name in self._files:
                continue
            try:
                new |= self._take_in(path)
            except DamagedSegmentError as error:
                self.quarantined[_file(path)] = str(error)
            except IsADirectoryError as error:
                self.quarantined[_file(path)] = f"cannot be read: {error.strerror}"
            except (RunUnavailableError, FileNotFoundError) as error:
                self.unfetched[_file(path)] = str(error)
                continue
            self._files.add(path.name)
        return new

    def text(self, key: StepKey, column: str) -> str | None:
        """The ``metrics`` or ``sketches`` of a step.

        None where it has none, or its file is damaged or gone since: then it is not reduced.
        """
        if key not in self._places:
            return None
        path, row = self._places[key]
        if column not in self._texts or self._texts[column][0] != path:
            try:
                read = self._read(path, [column]).column(0).to_pylist()
            except (DamagedSegmentError, FileNotFoundError) as error:
                self._forget(path, str(error))
                return None
            self._texts[column] = path, read
        texts = self._texts[column][1]
        return texts[row]

    def summary(self, key: StepKey) -> Summary | None:
        """Of a reduced step what was measured."""
        text = self.text(key, "metrics")
        return None if text is None else (self.steps[key], text)

    def of(self, attempt: int) -> IntArray:
        """The steps of an attempt that are reduced, ascending."""
        if attempt not in self._by_attempt:
            steps = sorted(key.step for key in self.steps if key.attempt == attempt)
            self._by_attempt[attempt] = np.array(steps, np.int64)
        return self._by_attempt[attempt]

    def batches(self, commits: Commits, table: str) -> Iterator[tuple[Writer, IntArray]]:
        """The numbers of the batches of a table that were reduced, by writer."""
        found: dict[Writer, list[IntArray]] = defaultdict(list)
        for attempt, held in commits.tables.items():
            steps = self.of(attempt)
            for block in held.blocks(steps[np.isin(steps, held.steps)]):
                seqs = block[f"{table}_seq"]
                for rank, places in by_rank(block["rank"]):
                    found[Writer(rank, attempt)].append(seqs[places][seqs[places] != NONE])
        for writer, parts in found.items():
            yield writer, np.sort(np.concatenate(parts))

    def _take_in(self, path: Path) -> set[StepKey]:
        named = _NAME.fullmatch(path.name)
        if named is None:
            raise DamagedSegmentError("not named as a summary")
        steps = int(named[1]), int(named[2])
        self._store.verify(Sealed(path, Writer(0, 0), *steps, int(named[3], 16)))
        new = set()
        for number, row in enumerate(self._read(path, _PLAIN).to_pylist()):
            key = StepKey(row.pop("attempt"), row.pop("step"))
            if key in self.steps:
                continue
            self.steps[key] = ReducedStep(
                key,
                row["trajectories_rows"],
                row["updates_rows"],
                row["amendments_rows"],
                row["amendments_unmatched"],
                row["reduced_at"],
                self._shared(row["version"]),
                self._shared(frozenset(row["logged"])),
                self._shared(tuple(row["horizons"])),
            )
            self._places[key] = path, number
            self._by_attempt.pop(key.attempt, None)
            new.add(key)
        return new

    def _shared(self, value: T) -> T:
        alike: T = self._alike.setdefault(value, value)
        return alike

    def _read(self, path: Path, columns: list[str]) -> pa.Table:
        with self._store.parquet(path) as parquet:
            if missing := set(columns) - set(parquet.schema_arrow.names):
                raise DamagedSegmentError(f"has no column {', '.join(sorted(missing))}")
            return parquet.read(columns=columns, use_threads=False)

    def _forget(self, path: Path, reason: str) -> None:
        self.quarantined[_file(path)] = reason
        for key in [key for key, (place, _) in self._places.items() if place == path]:
            del self._places[key], self.steps[key]
            self._by_attempt.pop(key.attempt, None)


def _file(path: Path) -> str:
    return f"{REDUCED}/{path.name}"
