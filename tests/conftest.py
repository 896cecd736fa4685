"""Shared helpers: small batches to record."""

import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from mmhealth import Recorder

settings.register_profile("mmhealth", deadline=None, derandomize=True)
settings.load_profile("mmhealth")


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


def make_noisy_batch(step: int, rows: int = 64) -> dict[str, Any]:
    """A batch with real gradients in 32 dimensions: they agree less and less, by step 20 not at
    all, and those of the source "judge", a quarter of the rows, become larger."""
    rng = np.random.default_rng(step)
    source = np.where(np.arange(rows) % 4 == 0, "judge", "verifier")
    size = np.where(source == "judge", 1 + 0.15 * step, 1.0)[:, None]
    gradients = max(1 - step / 20, 0) * 0.35 + size * rng.normal(size=(rows, 32))
    whole, norms = gradients.sum(axis=0), np.linalg.norm(gradients, axis=1)
    return make_batch(step, rows) | {
        "source": source,
        "grad_norm": norms,
        "grad_cosine": gradients @ whole / (norms * np.linalg.norm(whole)),
    }


@pytest.fixture(scope="session")
def noisy_batch() -> Any:
    """The function `make_noisy_batch`."""
    return make_noisy_batch


@pytest.fixture(scope="session")
def noisy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 steps with gradient cosines. Only for reading."""
    path = tmp_path_factory.mktemp("runs") / "noisy"
    with Recorder(path, nominal_batch=64, strict=True) as recorder:
        for step in range(30):
            recorder.log_step(step, make_noisy_batch(step))
    return path


@pytest.fixture(scope="session")
def batch() -> Any:
    """The function `make_batch`."""
    return make_batch


def record_run(path: Path, mixed: Iterable[float], **more: Any) -> Path:
    """A finished run of one step for each share of mixed groups; ``more`` goes to the Recorder."""
    with Recorder(path, nominal_batch=64, strict=True, **more) as recorder:
        for step, share in enumerate(mixed):
            recorder.log_step(step, make_batch(step, mixed=share))
    return path


@pytest.fixture(scope="session")
def healthy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 steps in which every group is mixed. Only for reading."""
    return record_run(tmp_path_factory.mktemp("runs") / "healthy", [1.0] * 12)


@pytest.fixture(scope="session")
def collapsing_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From step 6 on one group of eight is mixed, the others failed. Only for reading."""
    return record_run(tmp_path_factory.mktemp("runs") / "collapsing", [1.0] * 6 + [0.1] * 8)


@pytest.fixture(scope="session")
def record() -> Any:
    """The function `record_run`."""
    return record_run


@pytest.fixture
def unused_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
