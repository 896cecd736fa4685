"""Imports a trainer's dump into a run directory: again and again, and while it grows."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from mmhealth.engines import Engine
from mmhealth.errors import ImportDataError
from mmhealth.integrations.dumps.format import LossRatio
from mmhealth.integrations.dumps.ledger import NAME as LEDGER
from mmhealth.integrations.dumps.ledger import Ledger, read_head
from mmhealth.integrations.dumps.places import readable
from mmhealth.integrations.dumps.problems import Problems
from mmhealth.integrations.dumps.registry import Dump, find_dump
from mmhealth.integrations.dumps.writing import Progress, StepWriter
from mmhealth.usercache import user_cache

POLL_S = 2.0
SETTLE_S = 10.0
"""A last step whose files have not changed for so long is taken for complete."""


@dataclass(frozen=True, slots=True)
class ImportedDump:
    """What an import has done so far."""

    run_dir: Path
    root: Path
    format: str
    steps: int
    """Steps that were imported now; 0 where nothing was new."""
    rows: int
    problems: Problems
    lacks: Mapping[str, str]
    """Columns that this format cannot give, and why."""
    waiting: int | None = None
    """A step that is left for later, because it is still being written."""


def import_dump(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    format: str | None = None,
    loss_ratio: LossRatio | None = None,
    nominal_batch: int | None = None,
    replace: bool = False,
    settle: float | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> ImportedDump:
    """Import what is new in a dump; imported again, an unchanged dump adds nothing.

    Memory holds one step's columns, and of formats with a line a trajectory one line. After a kill
    the next import goes on after the last committed step. Records that cannot be read are left out
    and counted in `ImportedDump.problems` with file and line; all others are kept.

    Args:
        path: folder (or file) of the dump, or one that holds a single dump.
        out: run directory to make or go on with; by default one in the user's cache.
        format: name of the format; by default it is told from file names and first records.
        loss_ratio: level of the loss's importance ratio; by default the trainer's own default.
        nominal_batch: trajectories a step is meant to have.
        replace: make the run anew, if an import made it.
        settle: leave the last step for later if its files changed in the last ``settle`` seconds.
        progress: told, after each step, how far the reading is.
        engine: what reads the files of formats that have some for each step, a few steps ahead;
            they are written here, in order. The run is the same.

    Raises ImportDataError when there is no dump, or several, or ``out`` holds something else, and
    ImportBusyError when another process is importing into it.
    """
    dump = locate(Path(path), format)
    with _session(
        dump, out, loss_ratio, nominal_batch, replace, progress=progress, engine=engine
    ) as writer:
        writer.advance(settle=settle)
        return _summary(writer)


def follow_dump(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    stop: Event,
    format: str | None = None,
    loss_ratio: LossRatio | None = None,
    nominal_batch: int | None = None,
    replace: bool = False,
    poll: float = POLL_S,
    settle: float = SETTLE_S,
    told: Callable[[ImportedDump], None] | None = None,
) -> ImportedDump:
    """Import a dump while it grows, until ``stop`` is set; the last step once it has settled.

    ``told`` is called after each look with what was imported so far. Arguments and errors are those
    of `import_dump`.
    """
    dump = locate(Path(path), format)
    dump = Dump(dump.format, dump.root.resolve())  # a link ``latest`` may move to another run
    with _session(dump, out, loss_ratio, nominal_batch, replace) as writer:
        while True:
            if not dump.root.exists():
                raise ImportDataError(f"{dump.root} is gone; what was imported of it stays")
            writer.advance(settle=settle, stop=stop)
            if told is not None:
                told(_summary(writer))
            if stop.wait(poll):
                return _summary(writer)


def locate(path: Path, format: str | None = None) -> Dump:
    """The one dump at a path. Raises ImportDataError."""
    with readable(path):
        if not path.exists():
            raise ImportDataError(f"{path}: there is no such file or folder")
    dump = find_dump(path, format)
    if dump is None:
        what = "a dump of a trainer that mmhealth knows" if format is None else f"a {format} dump"
        raise ImportDataError(f"{path} is not {what}, nor holds one (docs/import.md)")
    return dump


def cache_dir(dump: Dump) -> Path:
    """The run directory of a dump in the user's cache."""
    place = f"{dump.format.name}:{dump.root.resolve()}"
    digest = hashlib.sha256(place.encode()).hexdigest()[:12]
    return user_cache() / "imports" / f"{dump.root.resolve().name}-{digest}"


@contextmanager
def _session(
    dump: Dump,
    out: str | os.PathLike[str] | None,
    loss_ratio: LossRatio | None,
    nominal_batch: int | None,
    replace: bool,
    *,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> Iterator[StepWriter]:
    run_dir = cache_dir(dump) if out is None else Path(out)
    ratio: LossRatio = loss_ratio or dump.format.loss_ratio
    head = {
        "format": dump.format.name,
        "dump": str(dump.root.resolve()),
        "loss_ratio": ratio,
        "nominal_batch": nominal_batch,
    }
    if _holds_other(run_dir, head, replace):
        _remove(run_dir)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImportDataError(f"{run_dir} cannot be made: {error.strerror}") from error
    with (
        Ledger.open(run_dir, head) as ledger,
        StepWriter(
            dump,
            ledger,
            loss_ratio=ratio,
            nominal_batch=nominal_batch,
            progress=progress,
            engine=engine,
        ) as writer,
    ):
        yield writer


def _holds_other(run_dir: Path, head: dict[str, Any], replace: bool) -> bool:
    """Whether a run stands there that has to go first. Raises where it must not."""
    if not run_dir.exists() or (run_dir.is_dir() and not any(run_dir.iterdir())):
        return False
    there = read_head(run_dir)
    if there is None and [path.name for path in run_dir.iterdir()] == [LEDGER]:
        return False  # killed before the ledger had its first line
    if there is None:
        raise ImportDataError(
            f"{run_dir} exists and was not made by importing a dump: choose another --out"
        )
    if replace:
        return True
    for name, value in head.items():
        if there.get(name) != value:
            raise ImportDataError(
                f"{run_dir} was imported with {name} {there.get(name)!r}, not {value!r}: pass "
                "--replace, or choose another --out"
            )
    return False


def _remove(run_dir: Path) -> None:
    """Remove a run that an import made, unless somebody imports into it."""
    if run_dir.is_symlink():
        raise ImportDataError(f"{run_dir} is a symbolic link: give --out the folder it points to")
    with Ledger.open(run_dir, {}):
        shutil.rmtree(run_dir)


def _summary(writer: StepWriter) -> ImportedDump:
    known = writer.dump.format
    return ImportedDump(
        writer.run_dir,
        writer.dump.root,
        known.name,
        writer.steps,
        writer.rows,
        writer.problems,
        known.lacks,
        writer.waiting,
    )
