"""Many ranks on few cores, some killed: is every step that a rank was told is committed read back?

64 processes log steps for a minute into one run directory, as fast as they get to run, with small
segments that are merged as they come; 10 of them, at random moments, get SIGKILL. A step is
acknowledged when `log_step` has returned within its time budget; the rank then writes its number to
a file of its own. Meanwhile one reader follows the run. Writes docs/benchmarks/many_writers.md.
"""

import multiprocessing
import os
import random
import signal
import struct
import tempfile
import time
from pathlib import Path

import polars as pl
from tables import machine, write_table

from mmhealth import Recorder, new_attempt, open_run
from mmhealth.runlog import compact, seal_orphans

RANKS, KILLED, SECONDS, ROWS = 64, 10, 60, 16
_NUMBER = struct.Struct("<q")


def rank_loop(folder: Path, rank: int, attempt: int) -> None:
    """Log steps until the file ``stop`` is there; note each that was acknowledged."""
    rec = Recorder(
        folder / "run",
        rank=rank,
        world_size=RANKS,
        attempt=attempt,
        time_budget=60.0,
        segment_bytes=200_000,
        compact_segments=8,
    )
    notes = os.open(folder / f"acknowledged-{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    step = 0
    while not (folder / "stop").exists():
        ids = [f"{rank}-{step}-{row}" for row in range(ROWS)]
        columns = {"trajectory_id": ids, "reward": [float(step)] * ROWS, "log_weight": [0.1] * ROWS}
        rec.log_step(step, columns)
        os.write(notes, _NUMBER.pack(step))
        step += 1
    rec.close()


def follow(path: Path, until: Path, told: "multiprocessing.Queue[tuple[int, float]]") -> None:
    """Poll as a dashboard does; tell how many polls there were and the slowest one's seconds."""
    while not (path / "run.json").exists():
        time.sleep(0.05)
    reader, polls, slowest = open_run(path), 0, 0.0
    while not until.exists():
        begun = time.monotonic()
        for _ in reader.tail():
            pass
        polls, slowest = polls + 1, max(slowest, time.monotonic() - begun)
        time.sleep(0.5)
    told.put((polls, slowest))


def acknowledged(folder: Path, rank: int) -> set[int]:
    content = (folder / f"acknowledged-{rank}").read_bytes()
    return {number for (number,) in _NUMBER.iter_unpack(content[: len(content) // 8 * 8])}


def missing(folder: Path) -> tuple[int, int]:
    """Acknowledged steps, and those of them that are not read back with all their rows."""
    frame = open_run(folder / "run").trajectories
    counts = frame.group_by("rank", "step").agg(
        rows=pl.len(), right=(pl.col("reward") == pl.col("step")).all()
    )
    whole = counts.filter((pl.col("rows") == ROWS) & pl.col("right"))
    read = set(whole.select("rank", "step").iter_rows())
    expected = {(rank, step) for rank in range(RANKS) for step in acknowledged(folder, rank)}
    return len(expected), len(expected - read)


def main() -> None:
    rng, context = random.Random(0), multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mmhealth.runlog"])
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        attempt = new_attempt(folder / "run")
        ranks = [
            context.Process(target=rank_loop, args=(folder, rank, attempt)) for rank in range(RANKS)
        ]
        told: multiprocessing.Queue[tuple[int, float]] = context.Queue()
        reader = context.Process(target=follow, args=(folder / "run", folder / "stop", told))
        for process in (*ranks, reader):
            process.start()
        begun = time.monotonic()
        moments = sorted(rng.uniform(SECONDS / 6, SECONDS) for _ in range(KILLED))
        victims = rng.sample(range(RANKS), KILLED)
        for moment, victim in zip(moments, victims, strict=True):
            time.sleep(max(0.0, begun + moment - time.monotonic()))
            os.kill(ranks[victim].pid or 0, signal.SIGKILL)
        time.sleep(max(0.0, begun + SECONDS - time.monotonic()))
        (folder / "stop").touch()
        for process in ranks:
            process.join()
        polls, slowest = told.get()
        reader.join()
        killed = sum(process.exitcode == -signal.SIGKILL for process in ranks)
        steps, lost = missing(folder)
        seal_orphans(folder / "run")
        compact(folder / "run")
        _, lost_after = missing(folder)
        quarantined = len(open_run(folder / "run").status().quarantined)
        rows = [
            ["writers, of them killed", f"{RANKS}, {killed}"],
            ["acknowledged (rank, step)", f"{steps:,}"],
            ["not read back", f"{lost}"],
            ["not read back after seal and compact", f"{lost_after}"],
            ["files that cannot be read", f"{quarantined}"],
            ["polls of the reader, slowest", f"{polls}, {slowest:.1f} s"],
        ]
        about = (
            f"{RANKS} processes, {ROWS} rows a step, {SECONDS} s, SIGKILL at random. {machine()}"
        )
        write_table("many_writers", "Many ranks on few cores", about, ["what", "seen"], rows)


if __name__ == "__main__":
    main()
