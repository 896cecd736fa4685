"""The footers of the segments that were read last: who reads on need not parse them again."""

import threading
from collections import OrderedDict
from collections.abc import Hashable

import pyarrow.parquet as pq

_BYTES = 8 << 20
"""Of all that are kept."""
_DECODED = 16 << 10
"""What one takes in memory beside its bytes, of which a long run has some 30 for each batch."""


class Footers:
    """Footers by file, those read last; safe to use from several threads."""

    def __init__(self, most_bytes: int = _BYTES) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[Hashable, pq.FileMetaData] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, file: Hashable) -> pq.FileMetaData | None:
        """The footer of a file; None where it is not kept."""
        with self._lock:
            if file in self._kept:
                self._kept.move_to_end(file)
            return self._kept.get(file)

    def keep(self, file: Hashable, footer: pq.FileMetaData) -> None:
        """Keep a footer, and let go of those that were read longest ago."""
        with self._lock:
            if file in self._kept:
                return
            self._kept[file] = footer
            self._bytes += _size(footer)
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= _size(self._kept.popitem(last=False)[1])


def _size(footer: pq.FileMetaData) -> int:
    return int(footer.serialized_size) + _DECODED
