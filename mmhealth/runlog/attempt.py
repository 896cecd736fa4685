"""Attempts: numbered starts of a run."""

import os
from pathlib import Path
from typing import Any

from mmhealth.errors import RecordError
from mmhealth.runlog.layout import Writer, create_json, list_writers, writer_path

ATTEMPT_VARIABLE = "MMHEALTH_ATTEMPT"


def new_attempt(run_dir: str | os.PathLike[str]) -> int:
    """The next attempt number: call it once (rank 0 or the launcher), pass it to all ranks."""
    return max((writer.attempt for writer in list_writers(Path(run_dir))), default=-1) + 1


def claim_attempt(
    run_dir: Path, rank: int, world_size: int, attempt: int | None, about: dict[str, Any]
) -> Writer:
    """Take possession of (rank, attempt) by creating its file.

    Raises RecordError when several ranks record and no attempt was issued, or when somebody has
    recorded this rank and attempt before.
    """
    if attempt is None and (given := os.environ.get(ATTEMPT_VARIABLE)) is not None:
        if not given.isdecimal():
            raise RecordError(f"{ATTEMPT_VARIABLE}={given!r} is not a number")
        attempt = int(given)
    if attempt is None and world_size > 1:
        raise RecordError(
            f"{world_size} ranks record, so the attempt must be issued once and passed to all: "
            "call mmhealth.new_attempt(run_dir) on rank 0 and broadcast it, or set "
            f"{ATTEMPT_VARIABLE}"
        )
    while True:
        number = new_attempt(run_dir) if attempt is None else attempt
        writer = Writer(rank, number)
        content = {"rank": rank, "attempt": number, **about, "losses": []}
        if create_json(writer_path(run_dir, writer), content):
            return writer
        if attempt is not None:
            raise RecordError(
                f"rank {rank} has recorded attempt {attempt} of {run_dir} before: a restart "
                "needs a new attempt, see mmhealth.new_attempt"
            )
