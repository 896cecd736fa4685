"""Metrics of steps that were measured before, kept by what they were measured from.

A step is found again by the names and checksums of the segments that hold its rows, so a run that
grew is measured where it is new, and nothing stale is ever found: another row, another version of
the code or another question is another key. The files can be deleted at any time.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

import mmhealth
from mmhealth.estimators import PopulationInterval
from mmhealth.health.metrics import StepMetrics
from mmhealth.health.step_reading import StepReading
from mmhealth.runlog.pieces import Piece
from mmhealth.runlog.source import StepSource
from mmhealth.usercache import user_cache

WORTH_S = 0.5
"""Seconds of work from which on what was measured is kept."""
_FLOORS = ("estimators", "health", "runlog")
_SCHEMA = pa.schema([("key", pa.string()), ("metrics", pa.string())])


class StepCache:
    """Steps of one run, in a folder of its own; what cannot be read or written counts as absent.

    ``question`` is all that the metrics depend on beside the rows.
    """

    def __init__(self, folder: Path, question: object) -> None:
        self._folder = folder
        self._question = repr((code_stamp(), question))
        self._known = dict(_read(folder, code_stamp()))
        self._new: dict[str, str] = {}

    def key(self, source: StepSource) -> str | None:
        """Name of a step by its content; None where rows lie in an open tail, or are missing."""
        places = []
        for (table, batch), place in sorted(source.places.items(), key=lambda item: str(item[0])):
            if not isinstance(place, Piece):
                return None
            places.append((table, batch.writer, batch.seq, place.segment.path.name))
        about = (source.key, source.ranks_expected, source.amendments.rows(), len(source.commits))
        text = repr((self._question, about, places))
        return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()

    def get(self, key: str | None) -> StepMetrics | None:
        """What was measured; None where it was not."""
        text = None if key is None else self._known.get(key)
        return None if text is None else metrics_from_json(text)

    def put(self, key: str | None, metrics: StepMetrics) -> None:
        """Keep what was measured, once `save` is called."""
        if key is not None:
            self._new[key] = metrics_to_json(metrics)

    def save(self, took: float) -> None:
        """Write what is new beside what is there, if to measure it took as many seconds as are
        worth it; what other code measured goes."""
        if not self._new or took < WORTH_S:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for old in self._folder.glob("*.parquet"):
                if not old.name.startswith(code_stamp()):
                    old.unlink(missing_ok=True)
            columns = [list(self._new), list(self._new.values())]
            digest = hashlib.blake2b("".join(columns[0]).encode(), digest_size=8).hexdigest()
            file = self._folder / f"{code_stamp()}-{digest}.parquet"
            hidden = file.with_name(f".{file.name}")
            table = pa.table([pa.array(column, pa.string()) for column in columns], schema=_SCHEMA)
            pq.write_table(table, hidden, compression="zstd", write_page_checksum=True)
            hidden.replace(file)
        except OSError:
            return
        self._known |= self._new
        self._new = {}


def step_cache() -> Path:
    """Where commands keep steps: a folder in the user's cache."""
    return user_cache() / "steps"


@cache
def code_stamp() -> str:
    """Changes with the code that measures."""
    root = Path(mmhealth.__file__).parent
    files = [root / "schema.py"]
    files += sorted(file for floor in _FLOORS for file in (root / floor).rglob("*.py"))
    digest = hashlib.blake2b(f"{np.__version__} {pl.__version__}".encode(), digest_size=6)
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _read(folder: Path, stamp: str) -> Iterable[tuple[str, str]]:
    for file in sorted(folder.glob(f"{stamp}-*.parquet")):
        try:
            table = pq.read_table(file, schema=_SCHEMA, page_checksum_verification=True)
        except (OSError, pa.ArrowException):
            continue
        yield from zip(*(column.to_pylist() for column in table.columns), strict=True)


def metrics_to_json(metrics: StepMetrics) -> str:
    """All of it but the reference, as one line of JSON."""
    content: dict[str, Any] = {
        "values": metrics.values,
        "reasons": metrics.reasons,
        "rows": metrics.rows,
        "updates": metrics.updates,
        "sources": metrics.sources,
        "has_weights": metrics.has_weights,
        "assumes_weights": metrics.assumes_weights,
        "intervals": [
            (metric, level, found if isinstance(found, str) else asdict(found))
            for (metric, level), found in metrics.intervals.items()
        ],
        "reading": None if metrics.reading is None else metrics.reading.as_json(),
    }
    return json.dumps(content, default=lambda number: number.item())


def metrics_from_json(text: str) -> StepMetrics:
    """What `metrics_to_json` was given, bit for bit."""
    content = json.loads(text)
    intervals = {
        (metric, level): found if isinstance(found, str) else PopulationInterval(**found)
        for metric, level, found in content.pop("intervals")
    }
    reading = content.pop("reading", None)
    read = None if reading is None else StepReading.from_json(reading)
    return StepMetrics(**content, intervals=intervals, reading=read)
