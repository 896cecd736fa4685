"""Records OpenRLHF's PPO trainers (docs/hooks.md). Experimental.

Their trainer runs in a process of its own, which Ray starts: name `setup` there as
``worker_process_setup_hook`` and set ``MMHEALTH_RUN_DIR``; or call `attach` in your own trainer's
process, before it trains.
"""

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from mmhealth.errors import AttachError, RecordError
from mmhealth.integrations.dumps.format import LossRatio
from mmhealth.integrations.dumps.problems import Problems
from mmhealth.integrations.dumps.tokens import Row
from mmhealth.integrations.live.hooking import check, hook, setting
from mmhealth.integrations.live.late import when_imported
from mmhealth.integrations.live.rows import Columns, rows_of
from mmhealth.integrations.live.session import Session

KNOWN = "openrlhf 0.11.2"
"""Release that this was written and checked against."""

logger = logging.getLogger("mmhealth")

_MODULE = "openrlhf.trainer.ppo_trainer"
_SETTINGS = (
    "algo.advantage.estimator",
    "algo.advantage.is_correction_level",
    "algo.advantage.is_correction_mode",
    "algo.advantage.is_correction_gating",
    "algo.kl.init_coef",
    "algo.kl.use_loss",
    "actor.policy_loss_type",
    "actor.loss_agg_mode",
    "rollout.batch_size",
    "rollout.n_samples_per_prompt",
    "train.batch_size",
    "train.max_epochs",
)


def setup() -> None:
    """For Ray's ``worker_process_setup_hook``: hooks the trainer where it is imported."""
    if run_dir := os.environ.get("MMHEALTH_RUN_DIR"):
        when_imported(_MODULE, lambda module: _announce(module, run_dir))


def attach(trainer: Any, run_dir: str | os.PathLike[str]) -> None:
    """Record the steps of an OpenRLHF trainer, an object or its class, into ``run_dir``.

    Raises `AttachError` where its methods are not those we know. After that nothing of ours is
    raised into training.
    """
    check(trainer, "train_step", ("rollout_samples", "global_step"), KNOWN)
    hook(trainer, "train_step", _Recording(trainer, run_dir).begin, before=True)


def _announce(module: ModuleType, run_dir: str) -> None:
    try:
        attach(module.BasePPOTrainer, run_dir)
    except AttachError as error:
        said = f"does NOT record OpenRLHF: {error}"
    else:
        said = f"will record the steps of OpenRLHF's trainer in {run_dir}"
    print(f"mmhealth: {said}", file=sys.stderr, flush=True)


class _Recording:
    """Takes the step from the trainer and the batch from its experience maker."""

    def __init__(self, trainer: Any, run_dir: str | os.PathLike[str]) -> None:
        self._trainer = None if isinstance(trainer, type) else trainer
        self._run_dir = run_dir
        self._session: Session | None = None
        self._off = False
        self._step = 0

    def begin(self, given: Mapping[str, Any], _result: Any) -> None:
        """Before ``train_step``; OpenRLHF logs it under the number after the one it is given."""
        if self._off:
            return
        trainer = given.get("self", self._trainer)
        maker = getattr(trainer, "experience_maker", None)
        self._step = int(given["global_step"]) + 1
        try:
            check(maker, "make_experience_batch", ("rollout_samples",), KNOWN)
            if self._session is None:
                self._session = _session(self._run_dir, trainer)
        except (AttachError, RecordError) as error:
            self._off = True
            logger.warning("mmhealth: does not record OpenRLHF: %s", error)
            return
        samples = setting(trainer, "args.rollout.n_samples_per_prompt") or 1

        def made(_given: Mapping[str, Any], experiences: Sequence[Any]) -> None:
            if self._session is not None:
                self._session.log(self._step, lambda p: _rows(experiences, samples, p))

        hook(maker, "make_experience_batch", made)


def _session(run_dir: str | os.PathLike[str], trainer: Any) -> Session:
    args = getattr(trainer, "args", None)
    known = {path: setting(args, path) for path in _SETTINGS}
    level: LossRatio = "geometric" if known["actor.policy_loss_type"] == "gspo" else "token"
    return Session(
        run_dir,
        trainer=f"openrlhf.{type(trainer).__name__}",
        settings=known,
        loss_ratio=level,
        prompts=known["rollout.batch_size"],
        samples=known["rollout.n_samples_per_prompt"],
    )


def _rows(experiences: Sequence[Any], samples: int, problems: Problems) -> Iterator[Row]:
    """The rows of a step's micro-batches; ``index`` is a trajectory's place in the rollout."""
    for batch in experiences:
        rewards = batch.rewards.double().tolist()
        values = [
            {"trajectory_id": place, "group_id": place // samples, "reward": reward}
            for place, reward in zip(batch.index, rewards, strict=True)
        ]
        columns = Columns(
            own=batch.action_mask,
            old=batch.action_log_probs,
            sampler=batch.rollout_log_probs,
            reference=batch.base_action_log_probs,
            advantages=batch.advantages,
        )
        yield from rows_of(columns, values, problems)
