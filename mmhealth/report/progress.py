"""Progress bars on stderr: for people at a terminal, and for nobody else."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")


def track(items: Sequence[T], doing: str) -> Iterable[T]:
    """The items, with a bar that counts those that are done."""
    with _bar() as bar:
        yield from bar.track(items, description=doing)


@contextmanager
def counting(doing: str) -> Iterator[Callable[[int, int], None]]:
    """A function that takes (done, total) and moves a bar."""
    with _bar() as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def reading(doing: str) -> Iterator[Callable[[int, int, int], None]]:
    """A function that takes (bytes read, bytes there are, rows) and moves a bar."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeRemainingColumn(),
    )
    with _bar(*columns) as bar:
        task = bar.add_task(doing, total=None, rows=0)
        yield lambda done, total, rows: bar.update(task, completed=done, total=total, rows=rows)


def _bar(*columns: ProgressColumn) -> Progress:
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
