"""A small fleet: healthy, collapsing, rescued, silent about its estimator, broken."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmhealth import Recorder

HEALTHY = [1.0] * 30
COLLAPSING = [1.0] * 15 + [0.1] * 15
RESCUED = [1.0] * 10 + [0.1] * 8 + [1.0] * 15


@pytest.fixture(scope="session")
def fleet_folder(tmp_path_factory: pytest.TempPathFactory, batch: Any) -> Path:
    """Five runs below two experiments, and a folder that is no run. Only for reading."""
    folder = tmp_path_factory.mktemp("fleet")

    def record(name: str, mixed: Sequence[float], **lr: Any) -> None:
        config = {"optimizer": lr, "model": Path(name).parts[0]}
        with Recorder(folder / name, nominal_batch=64, strict=True, config=config) as recorder:
            for step, share in enumerate(mixed):
                recorder.log_step(step, batch(step, mixed=share))

    record("math/healthy", HEALTHY, lr=1e-6)
    record("math/collapsing", COLLAPSING, lr=1e-5)
    record("code/rescued", RESCUED, lr=1e-5)
    with Recorder(folder / "code" / "bare", strict=True) as recorder:
        recorder.log_step(0, {"reward": np.ones(8)})
    broken = folder / "code" / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("{", encoding="utf-8")
    (folder / "code" / "notes").mkdir()
    return folder
