"""Brings to an object store what it lacks of a run: sealed segments, and what speaks of them.

The names of segments carry their checksum, so an object of the same name and size is the same and
is not sent again: whatever a crash or a lost connection leaves, the next upload sends the rest.
"""

import importlib
import json
import mmap
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmhealth.errors import ObjectStoreRefusedError
from mmhealth.place import RunUrl
from mmhealth.runlog.layout import (
    RUN_FILE,
    WRITERS,
    Sealed,
    Writer,
    list_folder,
    list_writers,
    parse_segment,
    writer_path,
)
from mmhealth.runlog.losses import Losses
from mmhealth.runlog.reduced import summaries_in
from mmhealth.runlog.storage import ObjectStore, Retries
from mmhealth.schema import STEPS, TABLES

_CHUNK_BYTES = 8 << 20
_AGAIN = Retries(first_pause=1.0, longest_pause=60.0)


@dataclass(slots=True)
class Uploaded:
    """What was done."""

    sent: int = 0
    """Segments."""
    sent_bytes: int = 0
    present: int = 0
    """Segments that were there already."""
    removed: int = 0
    """Segments removed in the store, since bigger ones hold what they held."""


@dataclass(slots=True)
class Upload:
    """Uploads of one run directory to one place; each `send` brings what is new.

    Args:
        run_dir: the run directory.
        store: where it goes.
        wanted: whose files; two processes never send those of the same writer.
    """

    run_dir: Path
    store: ObjectStore
    wanted: Callable[[Writer], bool] = lambda _: True
    _there: dict[str, int] | None = None
    """Sizes of the objects in the store, by name."""
    _sent_writers: dict[Writer, bytes] = field(default_factory=dict)

    def send(self) -> Uploaded:
        """Send what is lacking. Raises ObjectStoreError and OSError; then the next call goes on.

        A step's rows, or the summary that stands for them, go before the commit that speaks of
        them, what a writer says of itself after both, as it was before, and a bigger segment before
        the small ones that it replaces are removed: readers may be at work.
        """
        if self._there is None:
            self.store.look()
            self._send_run_file()
            self._there = {file: info.size for file, info in self.store.infos.items()}
        done = Uploaded()
        before = frozenset(self._there)
        while (files := self._send_all(self._there, done)) is None:
            pass
        done.present = len(before.intersection(files))
        for table in TABLES:
            for file in self._replaced(table, self._there):
                self.store.delete(file)
                del self._there[file]
                done.removed += 1
        return done

    def _send_all(self, there: dict[str, int], done: Uploaded) -> list[str] | None:
        """Send what is here, and name it; None where a segment was merged or reduced before it was
        sent: what holds its rows now was not listed, and the commits that speak of them wait.
        """
        writers = [(w, self._about(w)) for w in list_writers(self.run_dir) if self.wanted(w)]
        commits = [name.path for name in self._sealed(STEPS.name)]
        tables = (table for table in TABLES if table != STEPS.name)
        paths = [name.path for table in tables for name in self._sealed(table)]
        sent = all(self._send_file(path, there, done) for path in paths)
        # Of rows that were gone by now a summary stands: it was there before they went.
        rest = [*summaries_in(self.run_dir), *commits]
        if not sent or not all(self._send_file(path, there, done) for path in rest):
            return None
        for writer, content in writers:
            self._send_writer(writer, content)
        return [f"{path.parent.name}/{path.name}" for path in paths + rest]

    def lacking(self) -> int:
        """Segments and summaries that are not there, as far as is known."""
        there = self._there or {}
        paths = [name.path for table in TABLES for name in self._sealed(table)]
        paths += summaries_in(self.run_dir)
        return sum(f"{path.parent.name}/{path.name}" not in there for path in paths)

    def _sealed(self, table: str) -> list[Sealed]:
        names = map(parse_segment, list_folder(self.run_dir / table))
        return [n for n in names if isinstance(n, Sealed) and self.wanted(n.writer)]

    def _send_run_file(self) -> None:
        content = (self.run_dir / RUN_FILE).read_bytes()
        try:
            there = self.store.read(RUN_FILE)
        except FileNotFoundError:
            self.store.write(RUN_FILE, lambda stream: int(stream.write(content)))
            return
        if _run_id(there) != _run_id(content):
            raise ObjectStoreRefusedError(
                f"{self.store.url} holds another run than {self.run_dir}: upload to another URL"
            )

    def _send_file(self, path: Path, there: dict[str, int], done: Uploaded) -> bool:
        """Send a segment or summary that the store lacks; False where it is gone here."""
        file = f"{path.parent.name}/{path.name}"
        try:
            size = path.stat().st_size
            if there.get(file) == size:
                return True
            if size:
                self.store.write(file, lambda stream: _copy(path, stream))
        except FileNotFoundError:
            if path.exists():  # then it is the place in the store that is gone
                raise
            return False
        there[file] = size
        done.sent += 1
        done.sent_bytes += size
        return True

    def _about(self, writer: Writer) -> bytes:
        return writer_path(self.run_dir, writer).read_bytes()

    def _send_writer(self, writer: Writer, content: bytes) -> None:
        path = writer_path(self.run_dir, writer)
        if self._sent_writers.get(writer) != content:
            self.store.write(f"{WRITERS}/{path.name}", lambda stream: int(stream.write(content)))
            self._sent_writers[writer] = content

    def _replaced(self, table: str, there: dict[str, int]) -> list[str]:
        """Objects whose segments are gone here, and whose batches a segment in the store holds."""
        here = {_file(name): name for name in self._sealed(table)}
        found = (parse_segment(Path(file)) for file in there if file.startswith(f"{table}/"))
        gone = [n for n in found if isinstance(n, Sealed) and self.wanted(n.writer)]
        held = [name for file, name in here.items() if file in there]
        return [
            _file(name)
            for name in gone
            if _file(name) not in here
            and any(
                name.writer == by.writer and by.first <= name.first and name.last <= by.last
                for by in held
            )
        ]


def upload_run(run_dir: Path, url: RunUrl) -> Uploaded:
    """Send what an object store lacks of a run; safe to repeat. The open tails stay.

    Raises ObjectStoreError, also where another run is there.
    """
    return Upload(run_dir, ObjectStore(url)).send()


class Uploader:
    """Uploads from a thread of its own whenever there is something new; raises nothing.

    What fails is counted, warned of once, and tried again after longer and longer pauses.
    """

    def __init__(self, upload: Upload, losses: Losses) -> None:
        # Arrow ends its S3 at exit, before whatever registered earlier: so it does so now.
        importlib.import_module("pyarrow.fs")
        self._upload = upload
        self._losses = losses
        self._news = threading.Event()
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="mmhealth-upload", daemon=True)
        self._thread.start()

    def notify(self) -> None:
        """There is something new."""
        self._news.set()

    def close(self, timeout: float) -> str | None:
        """Send the rest, for at most ``timeout`` seconds; what is left, in words."""
        self._deadline = time.monotonic() + timeout
        self._news.set()  # first: a thread that sees the end must see that there is more to send
        self._closing.set()
        self._thread.join(timeout)
        if not self._news.is_set() and not self._thread.is_alive():
            return None
        lacking = self._upload.lacking()
        segments = "1 segment is" if lacking == 1 else f"{lacking} segments are"
        return f"{segments} not in {self._upload.store.url} as the run is closed"

    def _run(self) -> None:
        failures = 0
        while not (self._closing.is_set() and self._is_done()):
            self._news.wait()
            self._news.clear()
            try:
                self._upload.send()
                failures = 0
            except Exception as error:  # noqa: BLE001 - counted; no upload may break a training loop
                self._news.set()
                self._losses.add("upload", f"{type(error).__name__}: {error}")
                if self._closing.is_set() and isinstance(error, ObjectStoreRefusedError):
                    return
                failures += 1
                self._pause(_AGAIN.pause(failures))

    def _is_done(self) -> bool:
        return not self._news.is_set() or time.monotonic() > self._deadline

    def _pause(self, seconds: float) -> None:
        """Wait; once the run is being closed a second at most."""
        if self._closing.wait(seconds):
            time.sleep(min(seconds, 1.0))


def _file(name: Sealed) -> str:
    return f"{name.path.parent.name}/{name.path.name}"


def _copy(path: Path, stream: Any) -> int:
    """Write a file to a stream. It is mapped: nothing but the stream can fail half-way, which would
    close, and so publish, half an object."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for start in range(0, len(content), _CHUNK_BYTES):
            stream.write(content[start : start + _CHUNK_BYTES])
        return len(content)


def _run_id(content: bytes) -> Any:
    try:
        return json.loads(content)["run_id"]
    except (ValueError, KeyError, TypeError):
        return None
