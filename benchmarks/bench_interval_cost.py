"""What the intervals that rules demand cost, beside the metrics of the same step.

Steps of groups of 8 with binary rewards, of which all metrics are computed without and with the
intervals demanded; all in one process, taking turns, so that a noisy machine is noisy for all.
Writes docs/benchmarks/interval_cost.md.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tables import machine, write_table

from mmhealth import Recorder
from mmhealth.health.metrics import step_metrics
from mmhealth.health.step_intervals import Demand
from mmhealth.runlog import StepData, open_run

ROWS = (64, 512, 4096)
GROUP = 8
STEPS = 4
ROUNDS = 40
LEVEL = 0.9
DEMANDED: dict[str, list[Demand]] = {
    "none": [],
    "ess_weight": [("ess_weight", LEVEL)],
    "ess_signal": [("ess_signal", LEVEL)],
    "ess_signal, excuse_solved": [("ess_signal", LEVEL), ("ess_signal_unsolved", LEVEL)],
    "gini_grad_norm": [("gini_grad_norm", LEVEL)],
}


def columns(rows: int, seed: int) -> dict[str, Any]:
    """Trajectories of one step, as GRPO has them."""
    rng = np.random.default_rng(seed)
    group = np.arange(rows) // GROUP
    success = rng.random(rows) < rng.beta(1, 1, size=rows // GROUP)[group]
    advantage = success - (np.bincount(group, weights=success) / GROUP)[group]
    return {
        "group_id": group,
        "reward": success.astype(np.float64),
        "success": success,
        "token_count": np.full(rows, 400),
        "entropy": rng.random(rows),
        "advantage": advantage,
        "log_weight": 0.3 * rng.normal(size=rows),
        "grad_norm": np.abs(advantage) * rng.exponential(size=rows),
    }


def measure(steps: list[StepData]) -> dict[str, list[float]]:
    """Milliseconds a step in each round, by what is demanded."""
    times: dict[str, list[float]] = {name: [] for name in DEMANDED}
    for _ in range(ROUNDS):
        for name, demanded in DEMANDED.items():
            start = time.perf_counter()
            for step in steps:
                step_metrics(step, "sequence", demanded)
            times[name].append(1000 * (time.perf_counter() - start) / len(steps))
    return times


def main() -> None:
    table = []
    for rows in ROWS:
        with tempfile.TemporaryDirectory() as folder:
            with Recorder(Path(folder) / "run", strict=True) as recorder:
                for step in range(STEPS):
                    recorder.log_step(step, columns(rows, step))
            times = measure(open_run(Path(folder) / "run").tail().steps)
        base = times.pop("none")
        cells = [f"{rows:,}", f"{statistics.median(base):.1f}"]
        for found in times.values():
            more = [with_it - without for with_it, without in zip(found, base, strict=True)]
            extra = statistics.median(more)
            cells.append(f"+{extra:.1f} ({extra / statistics.median(base):+.0%})")
        table.append(cells)
    demanded = [name for name in DEMANDED if name != "none"]
    about = (
        f"Milliseconds a step (median of {ROUNDS} rounds) for all its metrics, and what one rule "
        f"with `demand_interval = {LEVEL}` adds. Groups of {GROUP}. {machine()}\n"
    )
    header = ["rows", "all metrics", *demanded]
    write_table("interval_cost", "Cost of the intervals that rules demand", about, header, table)


if __name__ == "__main__":
    main()
