"""What readers need of the place where a run lies, and the folder that it mostly is."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from mmhealth.errors import RunUnavailableError
from mmhealth.place import RunPlace
from mmhealth.runlog.checksum import checksum_of
from mmhealth.runlog.footers import Footers
from mmhealth.runlog.layout import Sealed

_FOOTERS = Footers()


class DamagedSegmentError(Exception):
    """What a file holds is not what was once written to it. Caught by the scanner, never public."""


class Store(Protocol):
    """Files of one run: a name is that of a file in a folder of `root`.

    What is not there raises FileNotFoundError; what is there and cannot be had for the moment
    raises RunUnavailableError.
    """

    @property
    def place(self) -> RunPlace:
        """What the user calls it."""

    @property
    def root(self) -> Path:
        """What all paths begin with."""

    @property
    def listings(self) -> int:
        """How often a poll may list a folder until all that it lists is there."""

    @property
    def is_far(self) -> bool:
        """Whether whoever reads mostly waits: then it pays to read ahead in another thread."""

    def look(self) -> None:
        """Look anew at which files there are."""

    def names(self, folder: str) -> Sequence[str]:
        """Names of the files of a folder, in any order; an absent folder is empty."""

    def fetch(self, paths: Sequence[Path]) -> None:
        """Bring files that will be asked for; what cannot be brought shows then."""

    def stamp(self, path: Path) -> Any:
        """What is another when a file has changed; None where that cannot be told."""

    def read_text(self, path: Path) -> str:
        """A small file. Raises OSError, too."""

    def verify(self, name: Sealed) -> None:
        """Compare a segment with the checksum in its name, as far as that is cheap.

        Raises DamagedSegmentError.
        """

    def parquet(self, path: Path) -> AbstractContextManager[pq.ParquetFile]:
        """A segment to read from; page checksums are compared. Raises DamagedSegmentError."""


@dataclass(frozen=True, slots=True)
class FolderStore:
    """A run directory on a file system."""

    root: Path

    listings = 10
    is_far = False

    @property
    def place(self) -> Path:
        """See `Store.place`."""
        return self.root

    def look(self) -> None:
        """See `Store.look`."""

    def names(self, folder: str) -> Sequence[str]:
        """See `Store.names`."""
        place = self.root / folder
        try:
            with os.scandir(place) as entries:
                return [entry.name for entry in entries]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise not_now(place, error) from error

    def fetch(self, paths: Sequence[Path]) -> None:
        """See `Store.fetch`: they are here."""

    def stamp(self, path: Path) -> None:
        """See `Store.stamp`."""

    def read_text(self, path: Path) -> str:
        """See `Store.read_text`."""
        return path.read_text(encoding="utf-8")

    def verify(self, name: Sealed) -> None:
        """See `Store.verify`: the whole file is compared."""
        try:
            found = checksum_of(name.path)
        except (FileNotFoundError, IsADirectoryError):
            raise
        except OSError as error:
            raise not_now(name.path, error) from error
        compare(name, *found)

    @contextmanager
    def parquet(self, path: Path) -> Iterator[pq.ParquetFile]:
        """See `Store.parquet`."""
        place = str(path)
        try:
            with (
                pa.OSFile(place) as source,  # of a path Arrow first finds out the file system
                pq.ParquetFile(
                    source,
                    metadata=_FOOTERS.get(place),
                    page_checksum_verification=True,
                    pre_buffer=False,
                ) as file,
            ):
                _FOOTERS.keep(place, file.metadata)
                yield file
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "is gone", place) from error
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise not_now(path, error) from error
            raise DamagedSegmentError(f"cannot be decoded: {error}") from error


def not_now(path: Path, error: OSError) -> RunUnavailableError:
    """What the system says of a file that is there, and that tells nothing of what it holds.

    Arrow raises OSError for bytes that it cannot decode, too: those have no ``errno``.
    """
    why = os.strerror(error.errno) if error.errno else error
    return RunUnavailableError(f"{path} cannot be read just now ({why}): try again")


def compare(name: Sealed, checksum: int, size: int) -> None:
    """Raises DamagedSegmentError where a segment is not what its name says."""
    if not size:
        raise DamagedSegmentError("the file is empty")
    if checksum != name.checksum:
        raise DamagedSegmentError("checksum mismatch: the file is not what was written")
