"""The run of a trainer of verl, opened at its first step."""

import logging
from collections.abc import Mapping
from typing import Any

from mmhealth.errors import RecordError
from mmhealth.integrations.dumps.format import LossRatio
from mmhealth.integrations.live.hooking import setting
from mmhealth.integrations.live.session import Collect, Session

KNOWN = "verl 0.9.1"
"""Release that this was written and checked against."""

logger = logging.getLogger("mmhealth")

_SETTINGS = (
    "algorithm.adv_estimator",
    "algorithm.norm_adv_by_std_in_grpo",
    "algorithm.use_kl_in_reward",
    "algorithm.rollout_correction.rollout_is",
    "algorithm.rollout_correction.rollout_is_threshold",
    "algorithm.rollout_correction.rollout_rs",
    "algorithm.rollout_correction.bypass_mode",
    "actor_rollout_ref.model.path",
    "actor_rollout_ref.rollout.n",
    "actor_rollout_ref.rollout.temperature",
    "actor_rollout_ref.rollout.calculate_log_probs",
    "actor_rollout_ref.actor.ppo_mini_batch_size",
    "actor_rollout_ref.actor.ppo_epochs",
    "actor_rollout_ref.actor.policy_loss.loss_mode",
    "actor_rollout_ref.actor.loss_agg_mode",
    "actor_rollout_ref.actor.optim.lr",
    "data.train_batch_size",
    "trainer.total_epochs",
)
_SCALARS = {"loss": "actor/pg_loss", "lr": "actor/lr"}


class Recording:
    """Opens the run when there is something to write, and closes it with the training."""

    def __init__(self, run_dir: str) -> None:
        self._run_dir = run_dir
        self._session: Session | None = None
        self._off = False

    def log(self, trainer: Any, step: int, collect: Collect, metrics: Mapping[str, Any]) -> None:
        """Commit one step; nothing is raised."""
        session = self._opened(type(trainer).__name__, getattr(trainer, "config", None))
        if session is not None:
            scalars = {
                name: metrics[theirs] for name, theirs in _SCALARS.items() if theirs in metrics
            }
            session.log(step, collect, scalars)

    def close(self) -> None:
        """Training is over; a step after it opens a new attempt."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _opened(self, trainer: str, config: Any) -> Session | None:
        if self._session is None and not self._off:
            known = {path: setting(config, path) for path in _SETTINGS}
            try:
                self._session = Session(
                    self._run_dir,
                    trainer=f"verl.{trainer}",
                    settings=known,
                    loss_ratio=loss_ratio(config),
                    prompts=known["data.train_batch_size"],
                    samples=known["actor_rollout_ref.rollout.n"],
                )
            except RecordError as error:
                self._off = True
                logger.warning("mmhealth: does not record verl: %s", error)
        return self._session


def loss_ratio(config: Any) -> LossRatio:
    """The level at which the loss multiplies weights.

    That of ``rollout_correction.rollout_is``, by which verl multiplies old / sampler, where it is
    set. Otherwise that of the policy loss: GSPO's is a sequence's geometric mean, others a token's.
    """
    corrected = setting(config, "algorithm.rollout_correction.rollout_is")
    if corrected in ("token", "sequence"):
        level: LossRatio = corrected
        return level
    mode = setting(config, "actor_rollout_ref.actor.policy_loss.loss_mode")
    return "geometric" if mode == "gspo" else "token"
