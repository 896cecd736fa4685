"""Where the rows of steps are: what another process needs to read them."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from mmhealth.runlog.batches import Batches
from mmhealth.runlog.commits import Commit, StepKey
from mmhealth.runlog.reduced import TABLES_REDUCED, Summary
from mmhealth.runlog.scan import Key, Place
from mmhealth.runlog.stepdata import StepData, build_step
from mmhealth.runlog.store import DamagedSegmentError


class MovedError(Exception):
    """Rows are not where they were: a segment is part of a bigger one now, or damaged."""


@dataclass(frozen=True, slots=True)
class StepSource:
    """All that a step is put together from, with the places of its rows; it can be pickled."""

    key: StepKey
    commits: Mapping[int, Commit]
    places: Mapping[tuple[str, Key], Place]
    """Of the batches that are there."""
    amendments: pl.DataFrame
    ranks_expected: int
    summary: Summary | None
    """In place of the rows, where the step is reduced."""


def read_steps(
    sources: Sequence[StepSource], columns: Collection[str] | None = None
) -> Iterator[StepData]:
    """The steps, one after the other, with all columns or those named that are there.

    Raises MovedError.
    """
    tables: dict[str, Batches] = defaultdict(Batches)
    for source in sources:

        def rows_of(table: str, commit: Commit, source: StepSource = source) -> pl.DataFrame | None:
            if table in TABLES_REDUCED and source.summary is not None:
                return None
            key = commit.key(table)
            place = None if key is None else source.places.get((table, key))
            if place is None:
                return None
            try:
                return tables[table].read_place(place, None if table == "steps" else columns)
            except (FileNotFoundError, DamagedSegmentError) as error:
                raise MovedError(str(error)) from error

        yield build_step(
            source.key,
            source.commits,
            rows_of,
            source.amendments,
            ranks_expected=source.ranks_expected,
            summary=source.summary,
        )
