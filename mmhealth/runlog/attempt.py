"""Attempts: numbered starts of a run."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmhealth.errors import RecordError
from mmhealth.runlog.arguments import MOST, whole_number
from mmhealth.runlog.layout import Writer, create_json, list_writers, writer_path
from mmhealth.runlog.rejoin import Left, hold_writer, read_left

ATTEMPT_VARIABLE = "MMHEALTH_ATTEMPT"
_RESTARTS = "TORCHELASTIC_RESTART_COUNT"
"""How often torchrun has started all ranks again: each time is an attempt of its own."""


def new_attempt(run_dir: str | os.PathLike[str]) -> int:
    """The next attempt number: call it once (rank 0 or the launcher), pass it to all ranks."""
    return max((writer.attempt for writer in list_writers(Path(run_dir))), default=-1) + 1


@dataclass(frozen=True, slots=True)
class Claim:
    """A rank and attempt that are this process's own."""

    writer: Writer
    lock: int | None = None
    """Descriptor of the lock that the writer holds, where others may go on for it."""
    left: Left | None = None
    """What a dead process left that had claimed the same."""


def claim_attempt(
    run_dir: Path,
    rank: int,
    world_size: int,
    attempt: int | None,
    about: dict[str, Any],
    *,
    rejoin: bool = False,
) -> Claim:
    """Take possession of (rank, attempt) by creating its file.

    Raises RecordError when several ranks record and no attempt was issued, or when somebody has
    recorded this rank and attempt before: with ``rejoin``, only if that process lives.
    """
    if attempt is None and (given := os.environ.get(ATTEMPT_VARIABLE)) is not None:
        if not given.isdecimal():
            raise RecordError(f"{ATTEMPT_VARIABLE}={given!r} is not a number")
        number = int(given) + int(os.environ.get(_RESTARTS, "0"))
        attempt = whole_number(ATTEMPT_VARIABLE, number, most=MOST)
    if attempt is None and rejoin:
        raise RecordError("rejoin: say which attempt, as mmhealth.new_attempt issued it")
    if attempt is None and world_size > 1:
        raise RecordError(
            f"{world_size} ranks record, so the attempt must be issued once and passed to all: "
            "call mmhealth.new_attempt(run_dir) on rank 0 and broadcast it, or set "
            f"{ATTEMPT_VARIABLE}"
        )
    if attempt is not None and rejoin:
        return _rejoin(run_dir, Writer(rank, attempt), about)
    while True:
        number = new_attempt(run_dir) if attempt is None else attempt
        writer = Writer(rank, number)
        content = {"rank": rank, "attempt": number, **about, "losses": []}
        if create_json(writer_path(run_dir, writer), content):
            return Claim(writer)
        if attempt is not None:
            raise RecordError(
                f"rank {rank} has recorded attempt {attempt} of {run_dir} before: a restart "
                "needs a new attempt, see mmhealth.new_attempt"
            )


def _rejoin(run_dir: Path, writer: Writer, about: dict[str, Any]) -> Claim:
    lock = hold_writer(run_dir, writer)
    content = {"rank": writer.rank, "attempt": writer.attempt, **about, "losses": []}
    try:
        first = create_json(writer_path(run_dir, writer), content)
        return Claim(writer, lock, None if first else read_left(run_dir, writer))
    except OSError:
        os.close(lock)
        raise
