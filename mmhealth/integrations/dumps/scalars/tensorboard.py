"""TensorBoard: event files, which are TFRecords of ``Event`` messages."""

import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mmhealth.integrations.dumps.format import Format
from mmhealth.integrations.dumps.parts import Found, Part
from mmhealth.integrations.dumps.places import folders
from mmhealth.integrations.dumps.problems import BadRecordError, Problems
from mmhealth.integrations.dumps.scalars.crc32c import masked_crc32c
from mmhealth.integrations.dumps.scalars.names import LACKS
from mmhealth.integrations.dumps.scalars.parts import Reading, Spot, scalar_parts
from mmhealth.integrations.dumps.scalars.wire import fields, floats, raw, signed, text

_MARK = ".tfevents."
_MOST_BYTES = 16 << 20
"""A larger event holds a picture or a graph, not scalars."""
_HEAD = struct.Struct("<QI")
_TAIL = struct.Struct("<I")
_NUMBERS = {1: (5, "f"), 2: (6, "d")}
"""By the dtype of a tensor: the field of its values, and how they are packed."""


def _find(path: Path) -> list[Path]:
    """Folders of events; those below such a one hold its hyperparameters and custom charts."""
    if path.is_file():
        return [path] if _MARK in path.name else []
    found: list[Path] = []
    for folder in folders(path):
        below = any(folder.is_relative_to(other) for other in found)
        if not below and _events(folder):
            found.append(folder)
    return found


def _events(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    return sorted(path for path in folder.iterdir() if _MARK in path.name and path.is_file())


def _parts(found: Found) -> Iterator[Part]:
    return scalar_parts(found, _events(found.root), read_events)


def read_events(path: Path, spot: Spot, whole: bool, problems: Problems) -> Iterator[Reading]:
    """The events of a file that hold scalars, from a spot on.

    An event that is damaged is told and passed over; where its length is, nothing behind it can be
    read. Unless ``whole``, an event that is cut off is still being written, and waits.
    """
    at, number, before = spot.offset, spot.number, 0.0
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while at < size:
            number += 1
            file.seek(at)
            try:
                length = _length(file.read(_HEAD.size))
            except BadRecordError as error:
                problems.add(path, number, f"{error}; nothing behind it can be read")
                return
            start = at
            at += _HEAD.size + (length or 0) + _TAIL.size
            if length is None or at > size:
                if whole:
                    problems.add(path, number, "the file ends within this event")
                return
            if length > _MOST_BYTES:
                continue
            try:
                moment, step, values = _event(file, length)
            except BadRecordError as error:
                problems.add(path, number, str(error))
                continue
            if values:
                before = moment if math.isfinite(moment) else before
                yield Reading(step, values, before, start, at, number)


def _length(head: bytes) -> int | None:
    """Bytes of the event; None where the file ends within its head."""
    if len(head) < _HEAD.size:
        return None
    length, crc = _HEAD.unpack(head)
    if masked_crc32c(head[:8]) != crc:
        raise BadRecordError("the length of this event has the wrong checksum")
    return int(length)


def _event(file: BinaryIO, length: int) -> tuple[float, int, dict[str, float]]:
    """Time, step and scalars. The checksum is looked at where there are any: it is slow."""
    data = file.read(length)
    (crc,) = _TAIL.unpack(file.read(_TAIL.size))
    try:
        found = parse_event(data)
    except BadRecordError as error:
        why = str(error) if masked_crc32c(data) == crc else "this event has the wrong checksum"
        raise BadRecordError(why) from None
    if found[2] and masked_crc32c(data) != crc:
        raise BadRecordError("this event has the wrong checksum")
    return found


def parse_event(data: bytes) -> tuple[float, int, dict[str, float]]:
    """Time, step and scalars of one ``Event``."""
    moment, step = 0.0, 0
    values: dict[str, float] = {}
    for number, value in fields(data):
        match number:
            case 1:
                (moment,) = floats(value, "d")
            case 2:
                step = signed(value)
            case 5:
                for item, found in fields(raw(value)):
                    if item == 1:
                        values |= _scalar(raw(found))
    if values and not 0 <= step < 1 << 53:
        raise BadRecordError(f"step {step} is no step")
    return moment, step, values


def _scalar(value: bytes) -> dict[str, float]:
    """Tag and number of one ``Summary.Value``; nothing where it is no scalar."""
    tag, numbers = "", []
    for number, found in fields(value):
        match number:
            case 1:
                tag = text(found)
            case 2:
                numbers = floats(found, "f")
            case 8:
                numbers = _tensor(raw(found))
    return {tag: numbers[0]} if len(numbers) == 1 else {}


def _tensor(tensor: bytes) -> list[float]:
    """The values of a ``TensorProto`` of floats, as TensorFlow 2 and JAX write scalars."""
    parts = list(fields(tensor))
    dtype = next((value for number, value in parts if number == 1), None)
    if dtype not in _NUMBERS:
        return []
    place, code = _NUMBERS[dtype]
    return [
        number for found, value in parts if found in (4, place) for number in floats(value, code)
    ]


TENSORBOARD = Format(
    name="tensorboard",
    trainer="any trainer that logs to TensorBoard",
    find=_find,
    parts=_parts,
    loss_ratio="token",
    lacks=LACKS,
    scalars=True,
)
