"""The checksum that the name of a sealed segment carries."""

import zlib
from pathlib import Path

_CHUNK_BYTES = 1 << 20


def checksum_of(path: Path) -> tuple[int, int]:
    """CRC-32 and size in bytes of a whole file."""
    checksum, size = 0, 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            checksum, size = zlib.crc32(chunk, checksum), size + len(chunk)
    return checksum, size
