"""What recording costs a training run: the reference trainer with and without it, in pairs.

Both arms train the same seed, so they do the same arithmetic; the order within a pair alternates.
Writes docs/benchmarks/recorder_overhead.md.
"""

import statistics
import tempfile
import time
from pathlib import Path

from tables import bootstrap_interval, machine, write_table

from mmhealth.reference import train

PAIRS, STEPS = 12, 160


def seconds(record: bool) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        train(
            "F2",
            "baseline",
            run_dir=Path(folder) / "run",
            steps=STEPS,
            record=record,
            checkpoint_every=0,
            progress=False,
        )
        return time.perf_counter() - start


def measure(pairs: int, *, control: bool) -> list[str]:
    """Ratios of recorded to plain runs; ``control`` compares plain with plain."""
    ratios, plain_seconds = [], []
    for pair in range(pairs):
        arms = [False, not control]
        times = {}
        for position in (0, 1) if pair % 2 else (1, 0):
            times[position] = seconds(arms[position])
        ratios.append(times[1] / times[0])
        plain_seconds.append(times[0])
    low, high = bootstrap_interval(ratios)
    name = "control: plain / plain" if control else "recorded / plain"
    plain = statistics.median(plain_seconds) / STEPS * 1e3
    ratio = statistics.median(ratios)
    interval = f"{low:.3f} to {high:.3f}"
    return [
        name,
        str(pairs),
        f"{ratio:.3f}",
        interval,
        f"{plain:.1f}",
        f"{plain * (ratio - 1):.1f}",
    ]


if __name__ == "__main__":
    seconds(record=True)
    write_table(
        "recorder_overhead",
        "What recording costs a training run",
        f"Reference trainer, baseline, {STEPS} steps of 512 trajectories, evaluation included, "
        "whole runs with the final seal, in pairs of alternating order; median ratio with its 95 % "
        f"bootstrap interval. {machine()}",
        [
            "arms",
            "pairs",
            "median ratio",
            "95 % interval",
            "plain ms a step",
            "difference, ms a step",
        ],
        [measure(PAIRS, control=False), measure(PAIRS, control=True)],
    )
