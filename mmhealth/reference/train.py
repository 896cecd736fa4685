"""Trains the reference policy and records the run."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmhealth.interventions import EssAdaptive, EssAdaptiveConfig
from mmhealth.reference import checkpoint
from mmhealth.reference.loop import LoopConfig, StepLog, Trainer

Preset = Literal["baseline", "fix"]
PRESETS: tuple[Preset, ...] = ("baseline", "fix")


class AlertSource(Protocol):
    """What training needs of `mmhealth.health.Monitor`."""

    def subscribe(self, subscriber: Callable[[Any], None], /) -> object:
        """Call ``subscriber`` with every alert from now on."""

    def poll(self) -> object:
        """Judge what the run directory has gained, and call the subscribers."""


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    """Everything that decides the course of a run, beside its seed and preset."""

    loop: LoopConfig = field(default_factory=LoopConfig)
    """Environment, policy and optimizer."""
    controller: EssAdaptiveConfig = field(
        default_factory=lambda: EssAdaptiveConfig(kl_coef=0.25, hold=60)
    )
    """The ESS-adaptive control of preset ``fix``."""


@dataclass(kw_only=True, slots=True)
class TrainResult:
    """What a call of `train` did."""

    first_step: int
    """Step it began with: 0, or where the checkpoint ended."""
    success: list[float]
    """Held-out success after each of its steps."""


def train(
    preset: Preset = "baseline",
    *,
    run_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    steps: int = 160,
    config: TrainConfig | None = None,
    record: bool = True,
    resume: bool = False,
    checkpoint_every: int = 20,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    monitor: AlertSource | None = None,
    pace: float = 0.0,
    progress: bool = True,
    on_step: Callable[[StepLog], None] | None = None,
) -> TrainResult:
    """Train environment F2 (`mmhealth.reference.majority_rule`) for ``steps`` steps.

    Deterministic for a seed and preset: runs on one thread, and neither recording nor ``pace`` nor
    an interruption changes a number.

    Args:
        preset: ``baseline``, or ``fix``: the ESS-adaptive control of `mmhealth.interventions`.
        run_dir: directory of the run; needed to record.
        seed: draws the environment, the policy, the rollouts and the evaluations.
        steps: total steps, those before a checkpoint included.
        config: knobs; the defaults are those of the documented runs.
        record: write the run directory.
        resume: continue from the checkpoint, if there is one; otherwise begin at step 0.
        checkpoint_every: steps between checkpoints; 0 keeps none.
        checkpoint_dir: where the checkpoint lies; default ``run_dir/checkpoints``.
        monitor: source of alerts, polled after every step. Preset ``fix`` watches ``run_dir`` with
            `mmhealth.health.Monitor` when none is given.
        pace: least seconds a step takes; for watching a run live.
        progress: show a progress bar on a terminal.
        on_step: called with the `StepLog` of every step before the monitor is polled.

    Raises ValueError for a preset or a combination of arguments that makes no sense, and `RunError`
    for a checkpoint of another configuration.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r} is not one of {', '.join(PRESETS)}")
    if record and run_dir is None:
        raise ValueError("recording needs run_dir; pass it, or record=False")
    if preset == "fix" and monitor is None and not record:
        raise ValueError("the fix acts on alerts: record the run, or pass a monitor")
    config = config or TrainConfig()
    about = {"preset": preset, "seed": seed, **asdict(config)}
    folder = _checkpoint_folder(run_dir, checkpoint_dir)
    controller = EssAdaptive(config.controller) if preset == "fix" else None

    with ExitStack() as stack:
        stack.enter_context(_one_thread())
        trainer = Trainer(config.loop, seed, controller)
        first = _restore(trainer, folder, about) if resume and folder is not None else 0
        write: Callable[[StepLog], None] | None = None
        if record and run_dir is not None:
            write = stack.enter_context(_recording(Path(run_dir), about, config.loop, first))
            if controller is not None and monitor is None:
                from mmhealth.health import Monitor

                monitor = Monitor(run_dir)
        if controller is not None and monitor is not None:
            monitor.subscribe(controller.on_alert)
        bar = stack.enter_context(_bar(progress))
        task = bar.add_task(f"{preset}, seed {seed}", total=steps, completed=first, success=0.0)
        success: list[float] = []
        for step in range(first, steps):
            started = time.monotonic()
            log = trainer.step(step)
            if write is not None:
                write(log)
            if on_step is not None:
                on_step(log)
            if monitor is not None:
                monitor.poll()
            if folder is not None and checkpoint_every and (step + 1) % checkpoint_every == 0:
                state = trainer.state_dict()
                checkpoint.save(folder, next_step=step + 1, config=about, state=state)
            success.append(log.successes / log.episodes)
            bar.update(task, advance=1, success=success[-1])
            time.sleep(max(0.0, pace - (time.monotonic() - started)))
    return TrainResult(first_step=first, success=success)


def _restore(trainer: Trainer, folder: Path, about: dict[str, Any]) -> int:
    """Load the checkpoint, if there is one; the step to begin with."""
    saved = checkpoint.load(folder, config=about)
    if saved is None:
        return 0
    first, state = saved
    trainer.load_state_dict(state)
    return first


def _checkpoint_folder(
    run_dir: str | os.PathLike[str] | None, checkpoint_dir: str | os.PathLike[str] | None
) -> Path | None:
    if checkpoint_dir is not None:
        return Path(checkpoint_dir)
    return Path(run_dir) / "checkpoints" if run_dir is not None else None


@contextmanager
def _recording(
    run_dir: Path, about: dict[str, Any], loop: LoopConfig, first_step: int
) -> Iterator[Callable[[StepLog], None]]:
    from mmhealth.reference.recording import GRAD_NORM, record
    from mmhealth.runlog import Recorder

    with Recorder(
        run_dir,
        config=about,
        loss_ratio="sequence",
        grad_norm=GRAD_NORM,
        nominal_batch=loop.group_size * loop.environment.prompts,
        start_step=first_step,
    ) as recorder:
        yield lambda log: record(recorder, log, horizon=loop.environment.decisions)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _bar(wanted: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("held-out success {task.fields[success]:.2f}"),
        console=console,
        disable=not (wanted and console.is_terminal),
    )
