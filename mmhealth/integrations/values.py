"""Foreign values as values of the schema: exact, or an error that shows the first bad one."""

from collections.abc import Callable
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from mmhealth.schema import Kind

Stored = Literal["integer", "real", "flag", "text"]
"""How the values of a column are stored; the kinds that need no decision."""

_NAMES: dict[Stored, str] = {
    "integer": "a whole number",
    "real": "a number",
    "flag": "true, false, 0 or 1",
    "text": "text",
}
_WHOLE = r"^(0|-?[1-9][0-9]{0,17})$"


class BadValueError(Exception):
    """A value that does not fit its column; caught where file and column are known."""

    def __init__(self, row: int, value: object, stored: Stored) -> None:
        text = repr(value)
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        super().__init__(f"{shown} is not {_NAMES[stored]}")
        self.row = row


def convert(array: pa.Array, stored: Stored) -> pa.Array:
    """The values, stored so. Raises BadValueError with the first that does not fit.

    NaN counts as missing where whole numbers or flags are expected: Pandas writes it so.
    """
    plain = _plain(array)
    try:
        return _CASTS[stored](plain)
    except pa.ArrowException:
        row = _first_bad(plain, _CASTS[stored])
        raise BadValueError(row, plain[row].as_py(), stored) from None


def narrowest(array: pa.Array, kind: Kind | None, *, parse: bool) -> Stored | None:
    """How these values of an id, or of a column of the user's own, can be stored; None: no value.

    ``parse``: text may stand for numbers and flags, as in CSV. An id such as 007 stays text.
    """
    plain = _plain(array)
    values, dtype = plain.drop_null(), plain.type
    stored: Stored | None = "text"
    if not len(values):
        stored = None
    elif pa.types.is_boolean(dtype):
        stored = "flag"
    elif pa.types.is_integer(dtype) or (kind == "id" and pa.types.is_floating(dtype)):
        stored = "integer"
    elif pa.types.is_floating(dtype):
        stored = "real"
    elif parse and pa.types.is_string(dtype):
        stored = _parsed(values, kind)
    return stored


def _parsed(texts: pa.Array, kind: Kind | None) -> Stored:
    if pc.all(pc.match_substring_regex(texts, _WHOLE)).as_py():
        return "integer"
    candidates: tuple[Stored, ...] = () if kind == "id" else ("real", "flag")
    for stored in candidates:
        try:
            _CASTS[stored](texts)
        except pa.ArrowException:
            continue
        return stored
    return "text"


def both(a: Stored | None, b: Stored | None) -> Stored | None:
    """How values can be stored of which some need ``a`` and some ``b``."""
    if a is None or b is None or a == b:
        return a or b
    return "real" if {a, b} == {"integer", "real"} else "text"


def _plain(array: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        return array.cast(pa.string())
    if pa.types.is_decimal(array.type):
        return array.cast(pa.float64())
    return array.cast(pa.float32()) if pa.types.is_float16(array.type) else array


def _real(array: pa.Array) -> pa.Array:
    if pa.types.is_floating(array.type):
        return array
    if pa.types.is_string(array.type):
        return pc.utf8_trim_whitespace(array).cast(pa.float64())
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int64())
    return _single(array).cast(pa.float64())


def _integer(array: pa.Array) -> pa.Array:
    if pa.types.is_string(array.type):
        array = pc.utf8_trim_whitespace(array)
        whole = pc.all(pc.match_substring_regex(array, r"^-?[0-9]+$")).as_py()
        array = array if whole else array.cast(pa.float64())
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    return _single(array).cast(pa.int64())


def _flag(array: pa.Array) -> pa.Array:
    if pa.types.is_boolean(array.type):
        return array
    if pa.types.is_string(array.type):
        array = pc.utf8_lower(pc.utf8_trim_whitespace(array))
        array = pc.replace_substring_regex(array, "^true$", "1")
        array = pc.replace_substring_regex(array, "^false$", "0")
    numbers = _integer(array)
    if pc.any(pc.not_equal(pc.multiply(numbers, numbers), numbers)).as_py():
        raise pa.ArrowInvalid("neither 0 nor 1")
    return numbers.cast(pa.bool_())


def _text(array: pa.Array) -> pa.Array:
    return _single(array).cast(pa.string())


def _single(array: pa.Array) -> pa.Array:
    if pa.types.is_nested(array.type) or pa.types.is_binary(array.type):
        raise pa.ArrowInvalid("not a single value")
    return array


_CASTS: dict[Stored, Callable[[pa.Array], pa.Array]] = {
    "integer": _integer,
    "real": _real,
    "flag": _flag,
    "text": _text,
}


def _first_bad(array: pa.Array, cast: Callable[[pa.Array], pa.Array]) -> int:
    """Index of the first value that fails, by halving."""
    low, high = 0, len(array)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            cast(array.slice(low, middle - low))
        except pa.ArrowException:
            high = middle
        else:
            low = middle
    return low
