"""What a driver sends to its workers so that each records its own rank."""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any, Self

from mmhealth.errors import RecordError
from mmhealth.runlog.arguments import MOST, folder, whole_number
from mmhealth.runlog.attempt import new_attempt
from mmhealth.runlog.recorder import Recorder

_OWN = ("rank", "world_size", "attempt", "rejoin")
_opened: dict[tuple[str, int, int], Recorder] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class RecorderHandle:
    """Describes a run and an attempt; it can be pickled, and no worker need ask another.

    The driver makes one and gives each worker, such as a Ray actor, its share; the worker's
    `recorder` writes through its own files, so no process is a bottleneck::

        handle = RecorderHandle.issue("/shared/runs/today", world_size=4, loss_ratio="token")
        actors = [Actor.remote(mine) for mine in handle.ranks()]

        class Actor:
            def __init__(self, handle):
                self.rec = handle.recorder()

    A worker that dies and is begun again with the same handle goes on for the one that died: what
    that committed stands, steps of other ranks are not touched, and a step that it logs once more
    stays as it was committed. When the whole job starts again, the driver issues a new attempt.
    """

    run_dir: str
    world_size: int
    attempt: int
    rank: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further keywords of `Recorder`."""

    @classmethod
    def issue(
        cls,
        run_dir: str | os.PathLike[str],
        *,
        world_size: int,
        attempt: int | None = None,
        **options: Any,
    ) -> Self:
        """A handle of a new attempt, or of one that was issued elsewhere; call it once a job.

        ``world_size`` is how many workers record, ``options`` are keywords of `Recorder`. Raises
        RecordError for a number that makes no sense, and for keywords that are the handle's own or
        that `Recorder` does not have: here, and not on every worker.
        """
        if taken := sorted(set(options) & set(_OWN)):
            raise RecordError(f"{', '.join(taken)}: the handle says that itself")
        known = set(signature(Recorder).parameters)
        if unknown := sorted(set(options) - known):
            raise RecordError(f"{', '.join(unknown)}: no keyword of Recorder")
        path = folder("run_dir", run_dir)
        size = whole_number("world_size", world_size, least=1, most=MOST)
        number = (
            new_attempt(path) if attempt is None else whole_number("attempt", attempt, most=MOST)
        )
        return cls(str(path), size, number, options=options)

    def of(self, rank: int) -> Self:
        """The share of one worker. Raises RecordError for a rank that there is not."""
        if (rank := whole_number("rank", rank)) >= self.world_size:
            raise RecordError(f"rank {rank} is not one of world_size {self.world_size}")
        return replace(self, rank=rank)

    def ranks(self) -> list[Self]:
        """The shares of all workers, in order."""
        return [self.of(rank) for rank in range(self.world_size)]

    def recorder(self, rank: int | None = None) -> Recorder:
        """This process's recorder of a rank: opened when first asked for, the same from then on.

        Raises RecordError where no rank is known, or where another living process records it, and
        as `Recorder` does.
        """
        mine = self if rank is None else self.of(rank)
        if mine.rank is None:
            raise RecordError("which rank? Hand out handle.ranks(), or say recorder(rank)")
        key = mine.run_dir, mine.attempt, mine.rank
        with _lock:
            if (found := _opened.get(key)) is None or found.closed:
                found = _opened[key] = mine.open()
        return found

    def open(self) -> Recorder:
        """A recorder of this rank for whoever closes it, such as a task of a few steps."""
        if self.rank is None:
            raise RecordError("which rank? Hand out handle.ranks(), or say of(rank)")
        return Recorder(
            self.run_dir,
            rank=self.rank,
            world_size=self.world_size,
            attempt=self.attempt,
            rejoin=True,
            **self.options,
        )
