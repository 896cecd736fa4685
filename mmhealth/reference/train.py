"""Trains the reference policy and records the run."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmhealth.errors import RunError
from mmhealth.interventions import EssAdaptive
from mmhealth.reference import checkpoint
from mmhealth.reference.config import TrainConfig
from mmhealth.reference.loop import Trainer
from mmhealth.reference.presets import preset as make_preset
from mmhealth.reference.ranks import Ranks, joined
from mmhealth.reference.steplog import Evaluation, StepLog


class AlertSource(Protocol):
    """What training needs of `mmhealth.health.Monitor`."""

    def subscribe(self, subscriber: Callable[[Any], None], /) -> object:
        """Call ``subscriber`` with every alert from now on."""

    def poll(self) -> object:
        """Judge what the run directory has gained, and call the subscribers."""


@dataclass(kw_only=True, slots=True)
class TrainResult:
    """What a call of `train` did."""

    first_step: int
    """Step it began with: 0, or where the checkpoint ended."""
    success: list[float]
    """Held-out success at each of its evaluations, mean over the horizons."""
    final: list[Evaluation]
    """Evaluations of the trained policy, one a horizon; empty where none were asked for."""


def train(
    environment: str = "F2",
    preset: str = "baseline",
    *,
    run_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    steps: int | None = None,
    config: TrainConfig | None = None,
    record: bool = True,
    resume: bool = False,
    checkpoint_every: int = 20,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    monitor: AlertSource | None = None,
    pace: float = 0.0,
    progress: bool = True,
    final_episodes: int = 0,
    on_step: Callable[[StepLog], None] | None = None,
    alignment: bool = False,
) -> TrainResult:
    """Train a policy in one of the environments of `mmhealth.reference.presets`.

    Deterministic for a seed and configuration: runs on one thread, and neither recording nor
    ``pace`` nor an interruption changes a number. Under torchrun every rank calls it, plays its
    share of the prompts and records its rows.

    Args:
        environment: ``F1`` to ``F5``, or ``orchestrator``.
        preset: ``baseline``, the name of a fix, or ``all``.
        run_dir: directory of the run; needed to record.
        seed: draws the environment, the policy, the rollouts and the evaluations.
        steps: steps to stop after, those before a checkpoint included; default: a whole run.
            Schedules are fractions of the whole run wherever it stops.
        config: what to train instead of what the two names stand for.
        record: write the run directory.
        resume: continue from the checkpoint, if there is one; otherwise begin at step 0.
        checkpoint_every: steps between checkpoints; 0 keeps none.
        checkpoint_dir: where the checkpoint lies; default ``run_dir/checkpoints``.
        monitor: source of alerts, polled after every step. A run with the ESS loop watches
            ``run_dir`` with `mmhealth.health.Monitor` when none is given.
        pace: least seconds a step takes; for watching a run live.
        progress: show a progress bar on a terminal.
        final_episodes: held-out episodes per horizon to play with the trained policy.
        on_step: called with the `StepLog` of every step before the monitor is polled.
        alignment: also take the cosine of each trajectory's gradient with the update's
            (``grad_cosine``), on one rank.

    Raises ValueError for names or a combination of arguments that make no sense, and `RunError`
    for a checkpoint of another configuration.
    """
    config = config or make_preset(environment, preset)
    steps = config.steps if steps is None else steps
    if record and run_dir is None:
        raise ValueError("recording needs run_dir; pass it, or record=False")
    adaptive = config.fixes.ess is not None
    if adaptive and monitor is None and not record:
        raise ValueError("the ESS loop acts on alerts: record the run, or pass a monitor")
    about = {"world": environment, "preset": preset, "seed": seed, **_as_json(config)}
    folder = _checkpoint_folder(run_dir, checkpoint_dir)
    controller = EssAdaptive(config.fixes.ess) if config.fixes.ess else None

    with ExitStack() as stack:
        stack.enter_context(_one_thread())
        ranks = stack.enter_context(joined())
        trainer = Trainer(config, seed, controller, alignment=alignment)
        first = _restore(trainer, ranks, folder, about) if resume and folder is not None else 0
        write: Callable[[StepLog], None] | None = None
        if record and run_dir is not None:
            write = stack.enter_context(_recording(Path(run_dir), about, trainer, first))
            if adaptive and monitor is None and ranks.rank == 0:
                from mmhealth.health import Monitor

                monitor = Monitor(run_dir)
        if controller is not None and monitor is not None:
            monitor.subscribe(controller.on_alert)
        bar = stack.enter_context(_bar(progress and ranks.rank == 0))
        title = f"{environment} {preset}, seed {seed}"
        task = bar.add_task(title, total=steps, completed=first, success=0.0)
        success: list[float] = []
        for step in range(first, steps):
            started = time.monotonic()
            log = trainer.step(step)
            if write is not None:
                write(log)
            if on_step is not None:
                on_step(log)
            _listen(ranks, monitor, controller)
            if folder is not None and checkpoint_every and (step + 1) % checkpoint_every == 0:
                states = ranks.gather(trainer.state_dict())
                if ranks.rank == 0:
                    checkpoint.save(folder, next_step=step + 1, config=about, states=states)
            if log.evaluations:
                success.append(_mean_success(log.evaluations))
                bar.update(task, success=success[-1])
            bar.advance(task)
            time.sleep(max(0.0, pace - (time.monotonic() - started)))
        final = [
            trainer.evaluate(horizon, final_episodes)
            for horizon in trainer.environment.horizons
            if final_episodes
        ]
    return TrainResult(first_step=first, success=success, final=final)


def _listen(ranks: Ranks, monitor: AlertSource | None, controller: EssAdaptive | None) -> None:
    """Judge what is recorded; rank 0 does, when all have, and tells the others."""
    if ranks.size == 1:
        if monitor is not None:
            monitor.poll()
        return
    ranks.gather(None)
    if monitor is not None and ranks.rank == 0:
        monitor.poll()
    if controller is not None:
        controller.load_state_dict(ranks.agree(controller.state_dict()))


def _mean_success(evaluations: list[Evaluation]) -> float:
    return sum(e.successes for e in evaluations) / sum(e.episodes for e in evaluations)


def _as_json(config: TrainConfig) -> dict[str, Any]:
    """The configuration in plain containers."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain


def _restore(trainer: Trainer, ranks: Ranks, folder: Path, about: dict[str, Any]) -> int:
    """Load the checkpoint, if there is one; the step to begin with."""
    saved = checkpoint.load(folder, config=about)
    if saved is None:
        return 0
    first, states = saved
    if len(states) != ranks.size:
        raise RunError(
            f"{folder} was made by {len(states)} ranks, this is a group of {ranks.size}: resume "
            "with as many"
        )
    trainer.load_state_dict(states[ranks.rank])
    return first


def _checkpoint_folder(
    run_dir: str | os.PathLike[str] | None, checkpoint_dir: str | os.PathLike[str] | None
) -> Path | None:
    if checkpoint_dir is not None:
        return Path(checkpoint_dir)
    return Path(run_dir) / "checkpoints" if run_dir is not None else None


@contextmanager
def _recording(
    run_dir: Path, about: dict[str, Any], trainer: Trainer, first_step: int
) -> Iterator[Callable[[StepLog], None]]:
    from mmhealth.reference.recording import GRAD_NORM, record
    from mmhealth.runlog import Recorder, new_attempt

    ranks, loop = trainer.ranks, trainer.config.loop
    with Recorder(
        run_dir,
        rank=ranks.rank,
        world_size=ranks.size,
        attempt=ranks.agree(new_attempt(run_dir)) if ranks.size > 1 else None,
        config=about,
        loss_ratio=loop.loss_ratio,
        grad_norm=GRAD_NORM,
        nominal_batch=loop.group_size * trainer.environment.prompts,
        start_step=first_step,
    ) as recorder:
        yield lambda log: record(recorder, log)


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
