"""One run: train an arm with a seed, measure it, leave one JSON file."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mmhealth.reference.experiments.arms import Arm
from mmhealth.reference.experiments.memory import batch_bytes, peak_bytes
from mmhealth.reference.experiments.results import (
    code_version,
    digest,
    result_path,
    write_atomically,
)
from mmhealth.reference.experiments.series import Series
from mmhealth.reference.loop import Trainer
from mmhealth.reference.steplog import Evaluation, StepLog
from mmhealth.reference.train import train


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A run to be made."""

    arm: Arm
    seed: int
    folder: Path
    """Of the whole reproduction."""

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"figure {self.arm.figure}, {self.arm.name}, seed {self.seed}"


class _Peak:
    """Measures every step; the last peak is that of training, without the final evaluation."""

    def __init__(self) -> None:
        self.series = Series()
        self.before = peak_bytes()
        self.peak = 0

    def __call__(self, log: StepLog) -> None:
        self.series.add(log)
        self.peak = peak_bytes()


def execute(job: Job) -> None:
    """Train, measure and write the result; a run that needs or gets alerts is recorded aside."""
    arm, config = job.arm, job.arm.config
    recorded = arm.audit or config.fixes.ess is not None
    batch = batch_bytes(config, job.seed)
    measured = _Peak()
    started = time.monotonic()
    scratch = job.folder / ".scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    run_dir = Path(tempfile.mkdtemp(dir=scratch)) / "run"
    try:
        final = _recorded(job, measured, run_dir) if recorded else _plain(job, measured)
        judged = _audit(run_dir) if arm.audit else None
    finally:
        shutil.rmtree(run_dir.parent, ignore_errors=True)
    series = measured.series
    content = {
        "digest": digest(arm, job.seed),
        "code": code_version(),
        "figure": arm.figure,
        "arm": arm.name,
        "about": arm.about,
        "seed": job.seed,
        "seconds": round(time.monotonic() - started, 2),
        "final": [
            {"horizon": one.horizon, "episodes": one.episodes, "successes": one.successes}
            for one in final
        ],
        "memory": {
            "peak_bytes": measured.peak,
            "before_training_bytes": measured.before,
            "batch_bytes": batch,
            "reserve_bytes": max((v or 0 for v in series.columns["reserve_bytes"]), default=0),
        },
        "audit": judged,
        "config": asdict(config),
        "evaluations": series.evaluations,
        "series": series.columns,
    }
    path = result_path(job.folder, arm, job.seed)
    write_atomically(path, json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n")


def _recorded(job: Job, on_step: Callable[[StepLog], None], run_dir: Path) -> list[Evaluation]:
    """Train as `mmhealth train` does, watched by a monitor."""
    trained = train(
        job.arm.figure,
        job.arm.name,
        config=job.arm.config,
        seed=job.seed,
        run_dir=run_dir,
        checkpoint_every=0,
        progress=False,
        final_episodes=job.arm.final_episodes,
        on_step=on_step,
    )
    return trained.final


def _plain(job: Job, on_step: Callable[[StepLog], None]) -> list[Evaluation]:
    """The same numbers without a run directory."""
    torch.set_num_threads(1)
    trainer = Trainer(job.arm.config, job.seed)
    for step in range(job.arm.config.steps):
        on_step(trainer.step(step))
    if job.arm.before_final is not None:
        job.arm.before_final(trainer.environment)
    return [trainer.evaluate(h, job.arm.final_episodes) for h in trainer.environment.horizons]


def _audit(run_dir: Path) -> Mapping[str, Any]:
    """Verdict of the default policy, and the failure modes with what they are at the end."""
    from mmhealth.health import Monitor, load_policy
    from mmhealth.report import audit_runs

    verdict = audit_runs([Monitor(run_dir, load_policy(None))]).runs[0].verdict
    return {
        "verdict": verdict.name,
        "why": verdict.why,
        "failure_modes": [
            {
                "name": mode.name,
                "severity": mode.severity,
                "rules": list(mode.rules),
                "first_step": mode.first_step,
                "active": mode.active,
            }
            for mode in verdict.failure_modes
        ],
    }
