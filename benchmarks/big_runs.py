"""Big runs to measure on, quickly written: steps of 10,000 trajectories with 13 columns."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from mmhealth import Recorder

ROWS = 10_000
_MOST_UNSEALED = 64
_BATCHES = 16
"""Different steps; then they come again, in another order of rows."""


def write_run(path: Path, steps: int, rows: int = ROWS, **recorder: Any) -> Path:
    """A run of this many steps, unless it is there."""
    if not (path / "run.json").exists():
        rng = np.random.default_rng(0)
        pool = [_columns(rng, rows) for _ in range(_BATCHES)]
        with Recorder(path, nominal_batch=rows, strict=True, **recorder) as rec:
            for step in range(steps):
                rec.log_step(step, _shifted(pool[step % _BATCHES], step))
                while step % 256 == 0 and _unsealed(path) > _MOST_UNSEALED:
                    time.sleep(0.1)
    return path


def _unsealed(path: Path) -> int:
    """Tails that wait to be sealed, which takes longer than to log, and four times the disk."""
    return len(list(path.glob("*/*.arrows")))


def _columns(rng: np.random.Generator, n: int) -> dict[str, Any]:
    group = np.arange(n) // 8
    success = rng.random(n) < rng.random(n // 8 + 1)[group]
    advantage = success - success.mean() + 0.01 * rng.normal(size=n)
    return {
        "group_id": group,
        "reward": success.astype(np.float64),
        "success": success,
        "length": rng.integers(50, 2000, n),
        "horizon": rng.integers(1, 30, n),
        "behavior_lag": rng.integers(0, 3, n),
        "entropy": rng.gamma(2, 0.5, n),
        "kl_ref": rng.gamma(1, 0.01, n),
        "source": np.array(["verifier", "judge"], dtype=object)[rng.integers(0, 2, n)],
        "advantage": advantage,
        "log_weight": rng.normal(0, 0.3, n),
        "grad_norm": np.abs(advantage) * rng.lognormal(0, 0.5, n),
    }


def _shifted(columns: dict[str, Any], by: int) -> dict[str, Any]:
    groups = len(columns["group_id"]) // 8
    first = 8 * (by * 7919 % groups)
    kept = {name: np.roll(values, first) for name, values in columns.items() if name != "group_id"}
    return {"group_id": columns["group_id"]} | kept
