"""Shared helpers: small batches to record."""

from typing import Any

import numpy as np
import pytest


def make_batch(step: int, rows: int = 64, *, mixed: float = 1.0) -> dict[str, Any]:
    """Columns of one step: groups of 8, of which a share is mixed and the others are failed."""
    rng = np.random.default_rng(step)
    group = np.repeat(np.arange(rows // 8), 8)
    alive = group < mixed * (rows // 8)
    success = alive & (np.arange(rows) % 2 == 0)
    advantage = np.where(alive, np.where(success, 0.5, -0.5), 0.0)
    return {
        "group_id": group,
        "reward": success.astype(np.float64),
        "success": success,
        "length": np.full(rows, 10),
        "source": ["verifier"] * rows,
        "entropy": np.full(rows, 1.0) + 0.01 * rng.random(rows),
        "token_count": np.full(rows, 10),
        "advantage": advantage,
        "log_weight": 0.05 * rng.normal(size=rows),
        "grad_norm": np.abs(advantage) * (1 + 0.1 * rng.random(rows)),
    }


@pytest.fixture
def batch() -> Any:
    """The function `make_batch`."""
    return make_batch
