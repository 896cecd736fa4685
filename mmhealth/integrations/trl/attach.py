"""`attach`: puts recorder, meter, hooks and callback in place before ``trainer.train()``."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from accelerate.utils import broadcast_object_list

from mmhealth.errors import AttachError
from mmhealth.health import Policy, load_policy
from mmhealth.integrations.trl.callback import HealthCallback, Judge, OnAlert
from mmhealth.integrations.trl.modes import modes_of
from mmhealth.integrations.trl.norms import WHAT, Norms
from mmhealth.integrations.trl.samples import Success, reward_columns
from mmhealth.integrations.trl.session import Session
from mmhealth.integrations.trl.signatures import Kind, kind_of
from mmhealth.runlog import Recorder, new_attempt
from mmhealth.runlog.attempt import ATTEMPT_VARIABLE
from mmhealth.schema import TRAJECTORIES, UPDATES

logger = logging.getLogger("mmhealth")

_SETTINGS = (
    "num_generations", "num_iterations", "steps_per_generation", "generation_batch_size",
    "gradient_accumulation_steps", "per_device_train_batch_size", "max_completion_length",
    "temperature", "learning_rate", "beta", "epsilon", "epsilon_high", "loss_type",
    "importance_sampling_level", "scale_rewards", "max_grad_norm", "max_steps", "seed",
    "mask_truncated_completions", "use_vllm", "vllm_importance_sampling_correction",
    "vllm_importance_sampling_mode",
)  # fmt: skip


_LABELS = {"source", "capability", "modality", "horizon"}
"""Columns of the tables that say what a task is: a dataset may fill them, and no others."""
_MEASURED = {c.name for table in (TRAJECTORIES, UPDATES) for c in table.columns} - _LABELS


class Attachment:
    """What `attach` has put in place; over when ``trainer.train()`` is."""

    def __init__(self, session: Session, limits: Sequence[str]) -> None:
        self._session = session
        self.limits = tuple(limits)
        """What is not recorded with the trainer's settings, in words; ``run.json`` has them too."""

    @property
    def recorder(self) -> Recorder:
        """The recorder: log evaluations, events and late rewards of your own with it."""
        return self._session.recorder

    def close(self) -> None:
        """Give the trainer its methods back and close the run. Called again, does nothing."""
        self._session.unhook()
        with self.recorder.guard():
            self._session.finish()
        self.recorder.close()


def attach(
    trainer: Any,
    run_dir: str | os.PathLike[str],
    *,
    norms: bool = True,
    norms_every: int = 1,
    stop: bool = False,
    policy: Policy | str | Path | None = None,
    on_alert: OnAlert | None = None,
    columns: Sequence[str] = (),
    success: str | tuple[str, float] | None = None,
    strict: bool = False,
) -> Attachment:
    """Record what ``trainer.train()`` does next to a run directory. Training stays as it is.

    Call it on every rank, after the trainer is made and before ``train()``, once for each call of
    ``train()``: a resumed run is a new attempt of the same run directory. What was attached to the
    trainer before, and is not over because training has failed, is closed.

    Args:
        trainer: a GRPOTrainer or RLOOTrainer of trl.
        run_dir: directory of the run; made where missing.
        norms: take gradient norms per trajectory. They are tried once on a made-up batch; where
            they cannot be taken exactly, the reason is among the `Attachment.limits`.
        norms_every: take them in every n-th step alone; the column is null in the others. It costs
            that part of the time, and rules on norms fire up to n times later.
        stop: end training when an alert fires for which the policy's gate would fail.
        policy: the policy, or its file; the default policy where none is given.
        on_alert: called on rank 0 with each alert that fires or resolves and the
            `TrainerControl`, in which it may ask to save, to evaluate or to stop.
        columns: columns of the dataset to keep with each trajectory, to slice by; by names that
            mmhealth has no measurements of its own for.
        success: the reward function, by its name, that tells whether a trajectory succeeded: where
            it gives 1 or more, or at least the number that is given beside the name. Without it a
            reward that is only ever 0 or 1 serves.
        strict: raise RecordError instead of counting what could not be recorded.

    Raises AttachError where the trainer is not one that we know or an argument is none, RecordError
    where the run cannot be opened, PolicyError as `load_policy` does.
    """
    kind = kind_of(trainer)
    if norms_every < 1:
        raise AttachError(f"norms_every must be 1 or more, got {norms_every}")
    if taken := [name for name in columns if name in _MEASURED or name.startswith("reward_")]:
        raise AttachError(
            f"columns: {', '.join(taken)} would replace what is measured; rename the dataset's "
            "columns, or leave them out"
        )
    told = None if success is None else _success(trainer, success)
    rules = policy if isinstance(policy, Policy) else load_policy(policy)
    _end_earlier(trainer)
    modes = modes_of(trainer, kind)
    off = modes.no_norms if norms else "gradient norms: off, because attach(norms=False) says so"
    meter = Norms(trainer, off, every=norms_every)
    limits = [*modes.limits, *([meter.off] if meter.off else [])]
    if norms_every > 1 and not meter.off:
        limits.append(f"gradient norms: in one of {norms_every} steps")
    rank, ranks = trainer.accelerator.process_index, trainer.accelerator.num_processes
    judge = None
    if stop or on_alert is not None:
        judge = Judge(Path(run_dir), rules, first=rank == 0, stop=stop, on_alert=on_alert)
    recorder = Recorder(
        run_dir,
        rank=rank,
        world_size=ranks,
        attempt=_attempt(Path(run_dir), rank, ranks),
        config=_config(trainer, kind, limits, told),
        loss_ratio=modes.loss_ratio,
        grad_norm="" if meter.off else WHAT,
        nominal_batch=trainer.args.generation_batch_size,
        strict=strict,
    )
    session = Session(trainer, kind, recorder, meter, keep=tuple(columns), success=told)
    attachment = Attachment(session, limits)
    trainer.add_callback(HealthCallback(session, judge, attachment.close))
    session.hook()
    for limit in limits if rank == 0 else ():
        level = logging.WARNING if norms and limit == meter.off else logging.INFO
        logger.log(level, "mmhealth records %s with this limit: %s", run_dir, limit)
    return attachment


def _success(trainer: Any, given: str | tuple[str, float]) -> Success:
    name, *least = (given,) if isinstance(given, str) else given
    names = [column.removeprefix("reward_") for column in reward_columns(trainer.reward_func_names)]
    if name not in names:
        raise AttachError(f"success: no reward function {name!r}; there are {', '.join(names)}")
    return Success(f"reward_{name}", *map(float, least))


def _end_earlier(trainer: Any) -> None:
    for callback in list(trainer.callback_handler.callbacks):
        if isinstance(callback, HealthCallback):
            callback.end()
            trainer.remove_callback(callback)


def _attempt(run_dir: Path, rank: int, ranks: int) -> int | None:
    """The same number on all ranks; None where the recorder finds it by itself."""
    if ranks == 1 or ATTEMPT_VARIABLE in os.environ:
        return None
    issued = [new_attempt(run_dir) if rank == 0 else None]
    broadcast_object_list(issued)
    return issued[0]


def _config(
    trainer: Any, kind: Kind, limits: Sequence[str], success: Success | None
) -> dict[str, Any]:
    args = trainer.args
    versions = {module.__name__: module.__version__ for module in (trl, transformers, torch)}
    settings = {name: getattr(args, name) for name in _SETTINGS if hasattr(args, name)}
    return {
        "trainer": f"trl.{kind}Trainer",
        "model": getattr(trainer.model.config, "_name_or_path", ""),
        "reward_functions": list(trainer.reward_func_names),
        "success": None if success is None else f"{success.column} >= {success.least:g}",
        "versions": versions,
        "settings": settings,
        "limits": list(limits),
    }
