"""Dumps of other trainers in place of run directories, and what is said about an import."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import typer

from mmhealth.errors import ImportBusyError, ImportDataError
from mmhealth.integrations.dumps import (
    SETTLE_S,
    Dump,
    ImportedDump,
    Problems,
    cache_dir,
    find_dump,
    follow_dump,
    import_dump,
)
from mmhealth.place import RunPlace
from mmhealth.report.progress import reading

_SHOWN = 10


def as_run(path: RunPlace) -> RunPlace:
    """The run directory itself, or one in the user's cache made from the dump that lies there."""
    dump = _dump_at(path)
    if dump is None:
        return path
    run_dir = _import(dump)
    if not (run_dir / "run.json").exists():
        raise ImportDataError(f"{path}: no row of this {dump.format.name} dump could be read")
    return run_dir


@contextmanager
def following(paths: Sequence[RunPlace]) -> Iterator[list[RunPlace]]:
    """Run directories of all paths; those of dumps are kept up to date until the block is left."""
    stop = Event()
    threads = []
    runs: list[RunPlace] = []
    for path in paths:
        dump = _dump_at(path)
        runs.append(path if dump is None else _import(dump, settle=SETTLE_S))
        if dump is not None:
            threads.append(Thread(target=_follow, args=(dump, stop), daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield runs
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def say_imported(done: ImportedDump) -> None:
    """What an import did, and what its format cannot give, on stdout."""
    new = _count(done) if done.steps else "nothing new"
    typer.echo(f"{done.run_dir}: {new}, from the {done.format} dump {done.root}")
    for name, why in done.lacks.items():
        typer.echo(f"not given: {name}: {why}")
    if done.waiting is not None:
        typer.echo(f"step {done.waiting} is still being written: the next import takes it")


def say_followed() -> Callable[[ImportedDump], None]:
    """Says what an import did when it begins, and from then on what is new."""
    said: list[ImportedDump] = []
    told = Counter[str]()

    def say(done: ImportedDump) -> None:
        if not said:
            say_imported(done)
        elif done.steps > said[-1].steps:
            typer.echo(_count(done))
        new = [problem for problem in map(str, done.problems.first) if problem not in told]
        told.update(new)
        for problem in new:
            typer.echo(f"mmhealth: left out: {problem}", err=True)
        said[:] = [done]

    return say


def _count(done: ImportedDump) -> str:
    return (f"{done.rows:,} rows in " if done.rows else "") + f"{done.steps:,} steps"


def say_problems(problems: Problems) -> None:
    """What is unknown and what was left out, on stderr."""
    for what, count in sorted(problems.notices.items()):
        typer.echo(f"mmhealth: {what} ({count:,} rows)", err=True)
    for problem in problems.first[:_SHOWN]:
        typer.echo(f"mmhealth: left out: {problem}", err=True)
    if (more := problems.count - min(len(problems.first), _SHOWN)) > 0:
        typer.echo(f"mmhealth: left out: {more:,} more", err=True)


def _dump_at(path: RunPlace) -> Dump | None:
    if not isinstance(path, Path) or not path.exists() or (path / "run.json").exists():
        return None
    return find_dump(path)


def _import(dump: Dump, *, settle: float | None = None) -> Path:
    run_dir = cache_dir(dump)
    try:
        with reading(f"importing {dump.root.name}") as progress:
            done = import_dump(dump.root, format=dump.format.name, settle=settle, progress=progress)
    except ImportBusyError:
        typer.echo(f"mmhealth: {dump.root} is being imported: shown as it stands", err=True)
        return run_dir
    typer.echo(f"mmhealth: {dump.root} is a {done.format} dump, imported into {run_dir}", err=True)
    if "trajectories" in done.lacks:
        typer.echo(f"mmhealth: not given: trajectories: {done.lacks['trajectories']}", err=True)
    say_problems(done.problems)
    return run_dir


def _follow(dump: Dump, stop: Event) -> None:
    try:
        done = follow_dump(dump.root, stop=stop, format=dump.format.name)
    except ImportBusyError:
        return
    except (ImportDataError, OSError) as error:
        typer.echo(f"mmhealth: {dump.root} is followed no longer: {error}", err=True)
        return
    say_problems(done.problems)
