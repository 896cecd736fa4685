"""A step of verl's ``RayPPOTrainer``: the batch that it updates the actor with."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from mmhealth.integrations.dumps.problems import Problems
from mmhealth.integrations.dumps.tokens import Row
from mmhealth.integrations.live.hooking import check, hook
from mmhealth.integrations.live.rows import Columns, row_sums, rows_of
from mmhealth.integrations.verl.recording import KNOWN, Recording


def hook_trainer(module: ModuleType, run_dir: str) -> None:
    """Hook the trainer in ``verl.trainer.ppo.ray_trainer``. Raises `AttachError`."""
    trainer: Any = module.RayPPOTrainer
    check(trainer, "_update_actor", ("self", "batch"), KNOWN)
    check(trainer, "fit", ("self",), KNOWN)
    recording = Recording(run_dir)

    def updated(given: Mapping[str, Any], _result: Any) -> None:
        batch = given["batch"]

        def collect(problems: Problems) -> list[Row]:
            return rows(batch.batch, batch.non_tensor_batch, problems)

        recording.log(given["self"], int(given["self"].global_steps), collect, {})

    def over(_given: Mapping[str, Any], _result: Any) -> None:
        recording.close()

    hook(trainer, "_update_actor", updated)
    hook(trainer, "fit", over)


def rows(tensors: Any, others: Mapping[str, Any], problems: Problems) -> list[Row]:
    """The rows of a step, from the tensors and the other columns of a ``DataProto``."""
    known = {name: tensors[name] for name in tensors.keys()}  # noqa: SIM118
    rewards = row_sums(known["token_level_scores"]) if "token_level_scores" in known else None
    groups = others.get("uid")
    values = [
        {
            "group_id": None if groups is None else str(groups[number]),
            "reward": None if rewards is None else rewards[number],
        }
        for number in range(len(known["response_mask"]))
    ]
    columns = Columns(
        own=known["response_mask"],
        old=known.get("old_log_probs"),
        sampler=known.get("rollout_log_probs"),
        reference=known.get("ref_log_prob"),
        advantages=known.get("advantages"),
    )
    return rows_of(columns, values, problems)
