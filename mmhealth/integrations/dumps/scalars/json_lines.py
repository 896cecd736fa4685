"""Scalars as lines of JSON: verl's file logger, and ``metrics.jsonl``."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mmhealth.integrations.dumps.fields import as_number, is_number, need, shown, whole
from mmhealth.integrations.dumps.format import Format
from mmhealth.integrations.dumps.jsonl import first_record, read_lines
from mmhealth.integrations.dumps.parts import Found, Part
from mmhealth.integrations.dumps.places import folders
from mmhealth.integrations.dumps.problems import BadRecordError, Problems
from mmhealth.integrations.dumps.scalars.names import LACKS
from mmhealth.integrations.dumps.scalars.parts import Reading, Spot, scalar_parts

Record = dict[str, Any]

METRICS = "metrics.jsonl"
_ASYNC_STEPS = 3
"""How far prime-rl's trainer may lag behind its orchestrator, which writes into the same file."""
_MOST_FILES = 50


def _find(holds: Callable[[Path], bool], pattern: str, path: Path) -> list[Path]:
    if path.is_file():
        return [path] if holds(path) else []
    files = (
        file for folder in folders(path) for file in sorted(folder.glob(pattern))[:_MOST_FILES]
    )
    return [file for file in files if file.is_file() and holds(file)]


def _is_of_verl(file: Path) -> bool:
    record = first_record(file) if file.suffix == ".jsonl" else None
    return record is not None and record.keys() == {"step", "data"} and _has_step(record)


def _is_metrics(file: Path) -> bool:
    record = first_record(file) if file.name == METRICS else None
    return record is not None and _has_step(record)


def _has_step(record: Record) -> bool:
    return isinstance(record.get("step"), int) and not isinstance(record["step"], bool)


def _of_verl(record: Record) -> Record:
    """``{"step": 5, "data": {"actor/entropy": 0.31}}``; it writes NaN and infinities as null."""
    data = need(record, "data")
    if not isinstance(data, dict):
        raise BadRecordError(f"field 'data' is no JSON object: {shown(data)}")
    return {name: math.nan if value is None else value for name, value in data.items()}


def _flat(record: Record) -> Record:
    """``{"step": 5, "time": 1.7e9, "entropy/all/mean": 0.31}``."""
    return {name: value for name, value in record.items() if name not in ("step", "time")}


def _read(
    values_of: Callable[[Record], Record],
    path: Path,
    spot: Spot,
    is_whole: bool,
    problems: Problems,
) -> Iterator[Reading]:
    lines = read_lines(path, problems, offset=spot.offset, number=spot.number, whole=is_whole)
    for line in lines:
        try:
            step = whole(line.record, "step")
            if step < 0:
                raise BadRecordError(f"step {step} is no step")
            values = {
                name: as_number(value, name)
                for name, value in values_of(line.record).items()
                if is_number(value)
            }
        except BadRecordError as error:
            problems.add(path, line.number, str(error))
            continue
        if values:
            yield Reading(step, values, 0.0, line.start, line.end, line.number)


def _parts_of_verl(found: Found) -> Iterator[Part]:
    return scalar_parts(found, [found.root], partial(_read, _of_verl), patience=0.0)


def _parts_of_metrics(found: Found) -> Iterator[Part]:
    read = partial(_read, _flat)
    return scalar_parts(found, [found.root], read, lag=_ASYNC_STEPS)


VERL_FILE = Format(
    name="verl-file",
    trainer="verl (trainer.logger=file)",
    find=partial(_find, _is_of_verl, "*.jsonl"),
    parts=_parts_of_verl,
    loss_ratio="token",
    lacks=LACKS,
    scalars=True,
)
METRICS_JSONL = Format(
    name="metrics-jsonl",
    trainer="prime-rl, tinker-cookbook",
    find=partial(_find, _is_metrics, METRICS),
    parts=_parts_of_metrics,
    loss_ratio="token",
    lacks=LACKS,
    scalars=True,
)
