"""Fields of a foreign record, checked one by one. What is wrong is said with the field's name."""

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from mmhealth.integrations.dumps.problems import BadRecordError
from mmhealth.integrations.plan import KNOWN
from mmhealth.runlog.columns import RESERVED
from mmhealth.schema import STEPS

Record = Mapping[str, Any]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]

_TAKEN = {*KNOWN, *RESERVED, *(column.name for column in STEPS.columns)}


def need(record: Record, name: str) -> Any:
    """A field that must be there and have a value."""
    if name not in record:
        raise BadRecordError(f"field {name!r} is missing")
    if record[name] is None:
        raise BadRecordError(f"field {name!r} has no value")
    return record[name]


def number(record: Record, name: str) -> float:
    """A number that must be there; NaN and infinities are numbers."""
    return as_number(need(record, name), name)


def maybe_number(record: Record, name: str) -> float | None:
    """A number, or None where there is none."""
    return None if record.get(name) is None else number(record, name)


def whole(record: Record, name: str) -> int:
    """A whole number that must be there."""
    return as_whole(need(record, name), name)


def maybe_whole(record: Record, name: str) -> int | None:
    """A whole number, or None where there is none."""
    return None if record.get(name) is None else whole(record, name)


def as_number(value: Any, name: str) -> float:
    """The value of a field that should be a number; one too large for float64 is infinite."""
    if not is_number(value):
        raise BadRecordError(f"field {name!r} is not a number: {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def as_whole(value: Any, name: str) -> int:
    """The value of a field that should be a whole number, of at most 53 bits."""
    exact = as_number(value, name)
    if isinstance(value, bool) or not abs(exact) <= 1 << 53 or not exact.is_integer():
        raise BadRecordError(f"field {name!r} is not a whole number: {shown(value)}")
    return int(exact)


def listed(record: Record, name: str) -> list[Any]:
    """A list that must be there."""
    value = need(record, name)
    if not isinstance(value, list):
        raise BadRecordError(f"field {name!r} is not a list: {shown(value)}")
    return value


def numbers(record: Record, name: str, size: int | None = None) -> FloatArray:
    """A flat list of numbers that must be there, float64 (size,); null becomes NaN."""
    return as_numbers(need(record, name), name, size)


def as_numbers(value: Any, name: str, size: int | None = None) -> FloatArray:
    """Anything that should be a flat list of numbers; null becomes NaN."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise BadRecordError(f"field {name!r} is not a list of numbers: {shown(value)}") from None
    if array.ndim != 1 or (size is not None and array.size != size):
        expected = "a flat list" if size is None else f"a flat list of {size}"
        raise BadRecordError(
            f"field {name!r} has shape {array.shape} where {expected} was expected"
        )
    return array


def version(record: Record, name: str, known: Collection[int]) -> None:
    """Refuse a schema version that is not known."""
    value = need(record, name)
    if isinstance(value, bool | list | dict) or value not in known:
        names = ", ".join(map(str, known))
        raise BadRecordError(f"field {name!r} is {shown(value)}; this mmhealth reads {names}")


def extras(record: Record, taken: Collection[str]) -> dict[str, float]:
    """All further fields that are numbers or flags, under names that are free in a run."""
    return {
        (f"{name}_given" if name in _TAKEN else name or "unnamed"): as_number(value, name)
        for name, value in record.items()
        if name not in taken and is_number(value)
    }


def is_number(value: Any) -> bool:
    """Whether a value is a number or a flag."""
    return isinstance(value, bool | int | float)


def shown(value: Any) -> str:
    """A value, cut short for people."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."
