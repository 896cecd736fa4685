"""Records SkyRL's RayPPOTrainer: ``attach(trainer, run_dir)`` (docs/hooks.md). Experimental.

Its callbacks see the batch without rewards and groups, which the trainer takes out before; this
looks at it as soon as its advantages are known.
"""

import os
from collections.abc import Mapping
from typing import Any

from mmhealth.errors import AttachError
from mmhealth.integrations.dumps.format import LossRatio
from mmhealth.integrations.dumps.problems import Problems
from mmhealth.integrations.dumps.tokens import Row
from mmhealth.integrations.live.hooking import check, hook, setting
from mmhealth.integrations.live.rows import Columns, row_sums, rows_of
from mmhealth.integrations.live.session import Session

KNOWN = "skyrl 0.3.0"
"""Release that this was written and checked against."""

_SETTINGS = (
    "trainer.policy.model.path",
    "trainer.policy_mini_batch_size",
    "trainer.train_batch_size",
    "trainer.update_epochs_per_batch",
    "trainer.algorithm.advantage_estimator",
    "trainer.algorithm.policy_loss_type",
    "trainer.algorithm.loss_reduction",
    "trainer.algorithm.use_kl_in_reward",
    "trainer.algorithm.zero_variance_filter",
    "trainer.algorithm.off_policy_correction.tis_ratio_type",
    "trainer.algorithm.off_policy_correction.sequence_mask_metric",
    "generator.n_samples_per_prompt",
    "generator.step_wise_trajectories",
)


def attach(trainer: Any, run_dir: str | os.PathLike[str]) -> Session:
    """Record the steps of a trainer of SkyRL, made but not yet training, into ``run_dir``.

    Returns the `Session`, to ``close()`` when training is over; without that its end is sealed by
    the next attempt or ``mmhealth seal``.

    Raises:
        AttachError: its methods are not those we know.
        RecordError: the run cannot be set up.
    """
    check(trainer, "compute_advantages_and_returns", ("data",), KNOWN)
    for name in ("cfg", "global_step"):
        if not hasattr(trainer, name):
            raise AttachError(
                f"{type(trainer).__name__} has no {name}, as RayPPOTrainer of {KNOWN} has"
            )
    known = {path: setting(trainer.cfg, path) for path in _SETTINGS}
    session = Session(
        run_dir,
        trainer=f"skyrl.{type(trainer).__name__}",
        settings=known,
        loss_ratio=_loss_ratio(known),
        prompts=known["trainer.train_batch_size"],
        samples=known["generator.n_samples_per_prompt"],
    )

    def computed(_given: Mapping[str, Any], data: Any) -> None:
        session.log(int(trainer.global_step), lambda problems: _rows(data, problems))

    hook(trainer, "compute_advantages_and_returns", computed)
    return session


def _loss_ratio(known: Mapping[str, Any]) -> LossRatio:
    corrected = known["trainer.algorithm.off_policy_correction.tis_ratio_type"]
    if corrected in ("token", "sequence"):
        level: LossRatio = corrected
        return level
    return "geometric" if known["trainer.algorithm.policy_loss_type"] == "gspo" else "token"


def _rows(data: Any, problems: Problems) -> list[Row]:
    """The rows of a ``TrainingInputBatch``; its last ``pad_size`` rows are copies and left out."""
    about = data.metadata
    tensors = {name: data[name] for name in data.keys() if data[name] is not None}  # noqa: SIM118
    ends = about.get("is_last_step") or [True] * len(tensors["loss_mask"])
    rewards = row_sums(tensors["rewards"])
    values = [
        {"group_id": str(group), "reward": reward if last else None}
        for group, reward, last in zip(about["uids"], rewards, ends, strict=True)
    ]
    columns = Columns(
        own=tensors["loss_mask"],
        old=tensors.get("action_log_probs"),
        sampler=tensors.get("rollout_logprobs"),
        reference=tensors.get("base_action_log_probs"),
        advantages=tensors["advantages"],
    )
    rows = rows_of(columns, values, problems)
    return rows[: len(rows) - int(about.get("pad_size", 0))]
