"""The wire format of protocol buffers, as far as event files and W&B logs need it.

A message is a sequence of fields, each a number and a value; what is not asked for is passed over,
so that newer writers can be read (protobuf.dev/programming-guides/encoding). Neither TensorBoard
nor W&B has to be installed.
"""

import struct
from collections.abc import Iterator

from mmhealth.integrations.dumps.problems import BadRecordError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_SIZES = {FIXED64: 8, FIXED32: 4}

Value = int | bytes


def fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """Numbers and values of a message: int for varints, the raw bytes for all others.

    Raises BadRecordError where it is no message.
    """
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == BYTES:
            size, at = _varint(message, at)
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            raise BadRecordError(f"no protocol buffer: wire type {kind}")
        if at + size > end:
            raise BadRecordError("no protocol buffer: a field reaches beyond its end")
        yield number, message[at : at + size]
        at += size


def signed(value: Value) -> int:
    """A varint as int64."""
    if not isinstance(value, int):
        raise BadRecordError("no protocol buffer: bytes where a number was expected")
    return value - (1 << 64) if value >> 63 else value


def raw(value: Value) -> bytes:
    """The bytes of a field that is a message, text or fixed."""
    if isinstance(value, int):
        raise BadRecordError("no protocol buffer: a number where bytes were expected")
    return value


def text(value: Value) -> str:
    """Text; what is no UTF-8 is replaced."""
    return raw(value).decode("utf-8", "replace")


def floats(value: Value, code: str) -> list[float]:
    """Little-endian numbers packed: ``f`` or ``d``."""
    packed, size = raw(value), struct.calcsize(code)
    if len(packed) % size:
        raise BadRecordError("no protocol buffer: a number is cut off")
    return list(struct.unpack(f"<{len(packed) // size}{code}", packed))


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        if at >= len(message):
            break
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise BadRecordError("no protocol buffer: a number does not end")
