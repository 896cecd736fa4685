"""The open tail of a table: an Arrow IPC stream that is readable while it grows.

Arrow's stream format has no checksum: most flipped bits decode as clean data, and some abort the
process that decodes them. So each batch carries a seal in the metadata of its message: sequence
number, length of the message, and a CRC-32 of all its bytes (those of the seal's own checksum read
as zeros), seeded with the CRC-32 of the schema. Nothing is decoded before its seal is verified.
"""

import os
import re
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from mmhealth.runlog.layout import unnamed_tail
from mmhealth.runlog.lock import try_lock

_CONTINUATION = b"\xff\xff\xff\xff"
_PREFIX = struct.Struct("<4si")
_MAX_METADATA = 1 << 26
_KEY = "mmhealth"
_BLANK = b"0" * 8
_SEAL_ROOM = 1024
_SEAL = re.compile(rb"seq=(\d{12}) bytes=(\d{14}) crc32=([0-9a-f]{8})")


def _seal(seq: int, size: int) -> bytes:
    return b"seq=%012d bytes=%014d crc32=" % (seq, size) + _BLANK


class TailWriter:
    """Appends batches of one schema to one tail. Not thread-safe; raises OSError as it comes.

    The file is locked (``flock``) before it gets its name and as long as it is open: that is how a
    live tail is told from an orphan.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.schema = schema
        self.size = 0
        self._scratch: _Scratch | None = None
        header = schema.serialize().to_pybytes()
        self._schema_checksum = zlib.crc32(header)
        hidden = unnamed_tail(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._descriptor = os.open(hidden, flags, 0o644)
        try:
            try_lock(self._descriptor)
            self._write(memoryview(header))
            hidden.rename(path)
        except OSError:
            os.close(self._descriptor)
            hidden.unlink(missing_ok=True)
            raise

    def append(self, batch: pa.RecordBatch, seq: int, *, sync: bool = False) -> None:
        """Write one batch; on failure the file is cut back to where it was."""
        self._write(self._message(batch, seq))
        if sync:
            os.fsync(self._descriptor)

    def removed(self) -> bool:
        """Whether somebody deleted the file under us."""
        return os.fstat(self._descriptor).st_nlink == 0

    def close(self) -> None:
        """Let go of file and lock."""
        os.close(self._descriptor)

    def _message(self, batch: pa.RecordBatch, seq: int) -> memoryview:
        """The sealed message, in a buffer that the next one reuses."""
        needed = pa.ipc.get_record_batch_size(batch) + _SEAL_ROOM
        if self._scratch is None or not self._scratch.has_room(needed):
            self._scratch = _Scratch(self.schema, needed)
        message = self._scratch.encode(batch, _seal(seq, 0))
        metadata = message[: _framed_size(message)]
        start = bytes(metadata).index(_seal(seq, 0))
        end = start + len(_seal(seq, 0))
        message[start:end] = _seal(seq, len(message))
        message[end - len(_BLANK) : end] = b"%08x" % zlib.crc32(message, self._schema_checksum)
        return message

    def _write(self, content: memoryview) -> None:
        written = 0
        try:
            while written < len(content):
                written += os.write(self._descriptor, content[written:])
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            os.lseek(self._descriptor, self.size, os.SEEK_SET)
            raise
        self.size += written


class _Scratch:
    """An encoder of one schema and the buffer it fills, message after message."""

    def __init__(self, schema: pa.Schema, message_size: int) -> None:
        header = len(schema.serialize())
        self._buffer = pa.allocate_buffer(header + max(4 * message_size, 1 << 20))
        self._sink = pa.FixedSizeBufferWriter(self._buffer)
        self._stream = pa.ipc.new_stream(self._sink, schema)
        self._used = header

    def has_room(self, message_size: int) -> bool:
        """Whether one more message of this size fits."""
        return bool(self._used + message_size <= self._buffer.size)

    def encode(self, batch: pa.RecordBatch, seal: bytes) -> memoryview:
        """The batch as a message."""
        self._stream.write_batch(batch, custom_metadata={_KEY: seal})
        start, self._used = self._used, self._sink.tell()
        return memoryview(self._buffer).cast("B")[start : self._used]


@dataclass(slots=True)
class TailPosition:
    """How far a tail has been read."""

    offset: int = 0
    schema: bytes = b""


@dataclass(slots=True)
class TailRead:
    """What one look at a tail brought."""

    batches: list[tuple[int, pa.RecordBatch]] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    unfinished: int = 0
    """Bytes at the end that are not a whole batch, or not yet."""


def read_tail(path: Path, position: TailPosition) -> TailRead:
    """Read the whole batches behind ``position`` and move it forward.

    Damaged stretches are named and stepped over, up to the next message that is whole. Bytes at the
    end that are not a whole message are unfinished: being written, or cut off. Raises
    FileNotFoundError when the tail has just been sealed.
    """
    with path.open("rb") as file:
        file.seek(position.offset)
        new = memoryview(file.read())
    result = TailRead()
    if not position.schema and new:
        size = _framed_size(new)
        if size is None or size > len(new):
            _leave_rest(new, position, result)
            return result
        position.schema = bytes(new[:size])
        position.offset += size
        new = new[size:]
    seed = zlib.crc32(position.schema)
    while new:
        message = _whole_message(new, seed)
        if message is None:
            skipped = _next_whole(new, seed)
            if skipped is None:
                _leave_rest(new, position, result)
                return result
            where = f"bytes {position.offset} to {position.offset + skipped}"
            result.damaged.append(f"{where} are damaged and were stepped over")
            position.offset += skipped
            new = new[skipped:]
            continue
        seq, size = message
        stream = pa.ipc.open_stream(pa.py_buffer(position.schema + bytes(new[:size])))
        result.batches.append((seq, stream.read_next_batch()))
        position.offset += size
        new = new[size:]
    return result


def _framed_size(content: memoryview) -> int | None:
    """Bytes of the message's prefix and metadata, or None where no message begins."""
    if len(content) < _PREFIX.size:
        return None
    mark, size = _PREFIX.unpack_from(content)
    if mark != _CONTINUATION or not 0 < size < _MAX_METADATA:
        return None
    return _PREFIX.size + int(size)


def _whole_message(content: memoryview, seed: int) -> tuple[int, int] | None:
    """Sequence number and length of the message that begins here, if its seal is right."""
    framed = _framed_size(content)
    seal = _SEAL.search(content[:framed]) if framed and framed <= len(content) else None
    if seal is None or int(seal[2]) > len(content):
        return None
    message = bytearray(content[: int(seal[2])])
    message[seal.start(3) : seal.end(3)] = _BLANK
    if zlib.crc32(message, seed) != int(seal[3], 16):
        return None
    return int(seal[1]), int(seal[2])


def _next_whole(content: memoryview, seed: int) -> int | None:
    """Where the next whole message begins behind a damaged one."""
    everything = bytes(content)
    for seal in _SEAL.finditer(everything):
        begin = everything.rfind(_CONTINUATION, 1, seal.start())
        while begin > 0 and seal.start() - begin < _MAX_METADATA:
            if _whole_message(content[begin:], seed) is not None:
                return begin
            begin = everything.rfind(_CONTINUATION, 1, begin)
    return None


def _leave_rest(rest: memoryview, position: TailPosition, result: TailRead) -> None:
    """Name what cannot be read: unfinished if it may be the beginning of one message."""
    if _may_be_growing(rest, seals_expected=1 if position.schema else 0):
        result.unfinished = len(rest)
    else:
        where = f"{len(rest)} bytes from byte {position.offset}"
        result.damaged.append(f"{where} are damaged and cannot be read")


def _may_be_growing(rest: memoryview, seals_expected: int) -> bool:
    if not _CONTINUATION.startswith(bytes(rest[:4])):
        return False
    if len(rest) < _PREFIX.size:
        return True
    framed = _framed_size(rest)
    seals = list(_SEAL.finditer(bytes(rest)))
    if framed is None or len(seals) > seals_expected:
        return False
    return len(rest) < framed or (len(seals) == 1 and int(seals[0][2]) > len(rest))
