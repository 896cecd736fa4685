"""W&B: ``run-*.wandb``, which every run writes, online or offline.

The file is a log in blocks of 32 KiB as LevelDB writes them (github.com/google/leveldb,
doc/log_format.md), here with CRC-32 and a head of 7 bytes; its records are ``Record`` messages
(wandb_internal.proto).
"""

import json
import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mmhealth.integrations.dumps.fields import as_whole, is_number
from mmhealth.integrations.dumps.format import Format
from mmhealth.integrations.dumps.parts import Found, Part
from mmhealth.integrations.dumps.places import folders
from mmhealth.integrations.dumps.problems import BadRecordError, Problems
from mmhealth.integrations.dumps.scalars.names import LACKS
from mmhealth.integrations.dumps.scalars.parts import Reading, Spot, scalar_parts
from mmhealth.integrations.dumps.scalars.wire import fields, raw, signed, text

CLOCKS = ("train/global_step", "training/global_step", "trainer/global_step", "global_step")
"""Scalars that say the trainer's own step; the first that a run logs counts. W&B's step counts
calls of ``log``, which is another number where a trainer does not set it."""

_MAGIC = b":W&B"
_BEGIN = 7
_BLOCK = 1 << 15
_CHUNK = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_LOOKED_AT = 200
_MOST_BYTES = 16 << 20
"""A larger record holds a table or a configuration, not scalars."""


class Record(NamedTuple):
    """One record of the log."""

    start: int
    end: int
    number: int
    """From 1."""
    data: bytes


def _find(path: Path) -> list[Path]:
    places = [path] if path.is_file() else folders(path)
    found = {file.resolve(): file for place in places for file in _logs(place)}
    return list(found.values())


def _logs(place: Path) -> list[Path]:
    files = [place] if place.is_file() else sorted(place.glob("*.wandb"))
    return [file for file in files if file.suffix == ".wandb" and _has_magic(file)]


def _has_magic(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def _parts(found: Found) -> Iterator[Part]:
    return scalar_parts(found, [found.root], read_history)


def read_history(path: Path, spot: Spot, whole: bool, problems: Problems) -> Iterator[Reading]:
    """The history records of a log that hold numbers, from a spot on.

    A record that is damaged is told and passed over. Unless ``whole``, one that is cut off is still
    being written, and waits.
    """
    clock, now = _clock(path), None
    for record in records(path, spot, whole, problems):
        try:
            step, values = parse_history(record.data)
            if clock is not None:
                now = as_whole(values[clock], clock) if clock in values else now
                step = now
        except BadRecordError as error:
            problems.add(path, record.number, str(error))
            continue
        values = {name: value for name, value in values.items() if name != clock}
        if values and step is None:
            problems.note(f"{clock}: not logged beside these values: left out", len(values))
        elif values and step is not None:
            yield Reading(step, values, 0.0, record.start, record.end, record.number)


def records(path: Path, spot: Spot, whole: bool, problems: Problems) -> Iterator[Record]:
    """The records of a log, put together from their chunks."""
    start, number, held, wanted = spot.offset, spot.number, bytearray(), False
    with path.open("rb") as file:
        at = max(spot.offset, _BEGIN)
        while True:
            left = _BLOCK - at % _BLOCK
            if left < _CHUNK.size:
                at += left
                continue
            file.seek(at)
            head = file.read(_CHUNK.size)
            if len(head) < _CHUNK.size:
                break
            crc, size, kind = _CHUNK.unpack(head)
            data = file.read(size)
            if size + _CHUNK.size <= left and len(data) < size:
                wanted = True
                break
            right = zlib.crc32(data, zlib.crc32(head[-1:])) == crc
            if size + _CHUNK.size > left or not right:
                number += 1
                problems.add(path, number, "this record has the wrong checksum")
                at, held, wanted = at + left, bytearray(), False
                continue
            if kind in (_FULL, _FIRST):
                if wanted:
                    number += 1
                    problems.add(path, number, "the end of this record was never written")
                start, held = at, bytearray()
            elif not wanted:  # the rest of a record that began in a damaged chunk
                at += _CHUNK.size + size
                continue
            at += _CHUNK.size + size
            wanted = kind in (_FIRST, _MIDDLE)
            if len(held) <= _MOST_BYTES:
                held += data
            if not wanted:
                number += 1
                if len(held) <= _MOST_BYTES:
                    yield Record(start, at, number, bytes(held))
    if whole and (wanted or head):
        problems.add(path, number + 1, "the file ends within this record")


def parse_history(data: bytes) -> tuple[int | None, dict[str, float]]:
    """W&B's step and the numbers of a ``Record``; no numbers where it is no history."""
    history = next((raw(value) for number, value in fields(data) if number == 2), None)
    step: int | None = 0
    values: dict[str, float] = {}
    for number, value in fields(history or b""):
        if number == 1:
            values |= _item(raw(value))
        elif number == 2:
            step = next((signed(n) for item, n in fields(raw(value)) if item == 1), 0)
    if values and not 0 <= (step or 0) < 1 << 53:
        raise BadRecordError(f"step {step} is no step")
    return step, values


def _item(item: bytes) -> dict[str, float]:
    """Name and number of a ``HistoryItem``; nothing for what W&B adds and what is no number."""
    path, shown = [], b""
    for number, value in fields(item):
        if number in (1, 2):
            path.append(text(value))
        elif number == 16:
            shown = raw(value)
    name = ".".join(path)
    if name.startswith("_") or not name or shown[:1] in (b'"', b"{", b"[", b""):
        return {}
    try:
        value = json.loads(shown)
    except ValueError:
        raise BadRecordError(f"the value of {name!r} is not valid JSON") from None
    return {name: float(value)} if is_number(value) else {}


def _clock(path: Path) -> str | None:
    """Which of `CLOCKS` the run logs; None: it has W&B's step."""
    seen: set[str] = set()
    for record in islice(records(path, Spot(), False, Problems()), _LOOKED_AT):
        try:
            seen |= parse_history(record.data)[1].keys()
        except BadRecordError:
            continue
    return next((name for name in CLOCKS if name in seen), None)


WANDB = Format(
    name="wandb",
    trainer="any trainer that logs to W&B",
    find=_find,
    parts=_parts,
    loss_ratio="token",
    lacks=LACKS,
    scalars=True,
)
