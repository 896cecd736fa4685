"""Checks what a recorder is told, before anything is written."""

import json
import operator
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmhealth.errors import RecordError, RunNotFoundError
from mmhealth.place import RunUrl, run_place
from mmhealth.runlog.layout import to_json

MOST = 2**31 - 1
"""The largest number of a rank or an attempt, and of ranks."""


def whole_number(name: str, value: Any, *, least: int = 0, most: int | None = None) -> int:
    """An integer, also from NumPy or torch. Raises RecordError."""
    try:
        number = operator.index(value)
    except TypeError:
        raise RecordError(f"{name} {value!r} is not a whole number") from None
    if number < least:
        raise RecordError(f"{name} {number} is less than {least}")
    if most is not None and number > most:
        raise RecordError(f"{name} {number} is more than {most}")
    return number


def step_number(step: Any) -> int:
    """A step; whole floats pass. Raises what `int` raises, or RecordError."""
    number = int(step)
    if number != step:
        raise RecordError(f"step {step!r} is not a whole number")
    if abs(number) >= 2**63:
        raise RecordError(f"step {step!r} has more than 64 bits")
    return number


def one_of(name: str, value: Any, known: tuple[str, ...]) -> None:
    """Raise RecordError unless ``value`` is known."""
    if value not in known:
        raise RecordError(f"{name} {value!r} is not one of {', '.join(known)}")


def seconds(name: str, value: Any) -> float:
    """A positive number, infinity included. Raises RecordError."""
    if not isinstance(value, int | float) or not value > 0:
        raise RecordError(f"{name} {value!r} is not a positive number of seconds")
    return float(value)


def object_url(name: str, value: Any) -> RunUrl:
    """The URL of a run in an object store. Raises RecordError."""
    try:
        url = run_place(str(value))
    except RunNotFoundError as error:
        raise RecordError(f"{name}: {error}") from None
    if not isinstance(url, RunUrl):
        raise RecordError(f"{name} {value!r} is no URL of an object store: s3://, gs:// or az://")
    return url


def folder(name: str, value: str | os.PathLike[str]) -> Path:
    """A folder of this machine, absolute. Raises RecordError for the URL of an object store."""
    try:
        place = run_place(value)
    except RunNotFoundError:
        place = None
    if not isinstance(place, Path):
        raise RecordError(
            f"{name} {os.fspath(value)!r} is a URL, and a recorder writes to a folder of this "
            "machine: name one, and with upload=URL what is sealed is sent to that URL"
        )
    return place.absolute()


def encodable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config as JSON knows it. Raises RecordError."""
    try:
        return dict(json.loads(to_json(dict(config))))
    except (TypeError, ValueError) as error:
        raise RecordError(f"config cannot be written as JSON: {error}") from error
