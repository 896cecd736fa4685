"""Names and places of the files in a run directory.

::

    run.json                                                     written once, never changed
    writers/<rank>-<attempt>.json                                one owner each, replaced atomically
    writers/<rank>-<attempt>.lock                                empty; held by a ``rejoin`` writer
    <table>/<rank>-<attempt>-<first>-<last>-<crc32>.parquet      sealed segment, immutable
    <table>/<rank>-<attempt>-<first>.open.arrows                 open tail, an Arrow IPC stream

``first`` and ``last`` are sequence numbers: every batch of a (table, rank, attempt) has the next
one. A tail carries its first number so that a new one can open while the old one is being sealed.
The name of a sealed segment carries the CRC-32 of the whole file: whatever bit changes, it is
noticed.
"""

import errno
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mmhealth.schema import TABLES

RUN_FILE = "run.json"
WRITERS = "writers"
DAMAGED_SUFFIX = ".damaged"

_SEALED = re.compile(r"(\d+)-(\d+)-(\d+)-(\d+)-([0-9a-f]{8})\.parquet")
_TAIL = re.compile(r"(\d+)-(\d+)-(\d+)\.open\.arrows")
_WRITER = re.compile(r"(\d+)-(\d+)\.json")


class Writer(NamedTuple):
    """Whoever wrote a row: one rank in one attempt."""

    rank: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Sealed:
    """The name of a sealed segment, taken apart."""

    path: Path
    writer: Writer
    first: int
    last: int
    checksum: int


@dataclass(frozen=True, slots=True)
class OpenTail:
    """The name of an open tail, taken apart."""

    path: Path
    writer: Writer
    first: int


def sealed_path(folder: Path, writer: Writer, first: int, last: int, checksum: int) -> Path:
    """Where the sealed segment with these batches belongs."""
    name = f"{writer.rank}-{writer.attempt}-{first:09d}-{last:09d}-{checksum:08x}.parquet"
    return folder / name


def tail_path(folder: Path, writer: Writer, first: int) -> Path:
    """Where the tail that starts with batch ``first`` belongs."""
    return folder / f"{writer.rank}-{writer.attempt}-{first:09d}.open.arrows"


def writer_path(run_dir: Path, writer: Writer) -> Path:
    """The writer's own file of counts and losses."""
    return run_dir / WRITERS / f"{writer.rank}-{writer.attempt}.json"


def lock_path(run_dir: Path, writer: Writer) -> Path:
    """What a writer holds that others may go on for, see `mmhealth.runlog.rejoin`; empty."""
    return run_dir / WRITERS / f"{writer.rank}-{writer.attempt}.lock"


def parse_segment(path: Path) -> Sealed | OpenTail | None:
    """Take a file name apart; None when it follows neither pattern."""
    if match := _SEALED.fullmatch(path.name):
        rank, attempt, first, last = (int(group) for group in match.groups()[:4])
        return Sealed(path, Writer(rank, attempt), first, last, int(match[5], 16))
    if match := _TAIL.fullmatch(path.name):
        rank, attempt, first = (int(group) for group in match.groups())
        return OpenTail(path, Writer(rank, attempt), first)
    return None


def is_segment_like(name: str) -> bool:
    """Whether a file claims to hold rows, rightly named or not."""
    return name.endswith((".parquet", ".arrows", DAMAGED_SUFFIX)) and name[0] != "."


def list_folder(folder: Path) -> list[Path]:
    """The files of a table, sorted by name; an absent folder is empty."""
    try:
        return sorted(Path(entry.path) for entry in os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def list_tails(run_dir: Path) -> Iterator[OpenTail]:
    """All open tails of a run."""
    for table in TABLES:
        for path in list_folder(run_dir / table):
            if isinstance(name := parse_segment(path), OpenTail):
                yield name


def unnamed_tail(path: Path) -> Path:
    """Where a tail is begun, before it is locked and gets its name."""
    return path.with_name(f".{path.name}")


def unnamed_segment(folder: Path, writer: Writer, first: int) -> Path:
    """Where a sealed segment is written, before it is whole and gets its name."""
    unique = f"{os.getpid()}-{os.urandom(4).hex()}"
    return folder / f".{writer.rank}-{writer.attempt}-{first:09d}-{unique}.parquet"


def list_unnamed(run_dir: Path) -> list[Path]:
    """All tails and segments of a run that have no name yet."""
    names = (".*.open.arrows", ".*.parquet")
    return [path for table in TABLES for name in names for path in (run_dir / table).glob(name)]


def list_writers(run_dir: Path) -> list[Writer]:
    """All (rank, attempt) that ever opened the run."""
    found = map(parse_writer, list_folder(run_dir / WRITERS))
    return sorted(writer for writer in found if writer is not None)


def parse_writer(path: Path) -> Writer | None:
    """Whose file of counts and losses this is; None when it is nobody's."""
    name = _WRITER.fullmatch(path.name)
    return None if name is None else Writer(int(name[1]), int(name[2]))


def replace_json(path: Path, content: dict[str, Any], *, durable: bool = False) -> None:
    """Write JSON so that a reader sees either the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    if durable:
        sync(temporary)
    temporary.replace(path)
    if durable:
        sync(path.parent)


def create_json(path: Path, content: dict[str, Any]) -> bool:
    """Write JSON only where no file stands yet, whole or not at all; say whether it was us."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    temporary.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    sync(temporary)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        return _create_without_links(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)
    return True


def _create_without_links(temporary: Path, path: Path) -> bool:
    """The next best thing on file systems that know no hard links."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    temporary.replace(path)
    return True


def sync(path: Path) -> None:
    """Make a file's content, or a folder's renames and new files, survive power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def to_json(content: Any) -> str:
    """One line of JSON; what JSON does not know is written as text."""
    return json.dumps(content, default=str, allow_nan=True)
