"""A step of verl's ``PPOTrainer``: what its transfer queue holds when metrics are computed."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from mmhealth.integrations.dumps.problems import Problems
from mmhealth.integrations.dumps.tokens import Row
from mmhealth.integrations.live.hooking import check, hook, setting
from mmhealth.integrations.live.rows import Columns, row_sums, rows_of
from mmhealth.integrations.verl.recording import KNOWN, Recording

_FIELDS = [
    "response_mask", "loss_mask", "rm_scores", "advantages",
    "old_log_probs", "rollout_log_probs", "ref_log_prob", "entropy",
]  # fmt: skip
_COMPUTE = ("self", "batch", "metrics", "timing_raw", "global_steps", "epoch")


def hook_trainer(module: ModuleType, run_dir: str) -> None:
    """Hook the trainer in ``verl.trainer.ppo.v1.trainer_base``. Raises `AttachError`."""
    trainer: Any = module.PPOTrainer
    check(trainer, "_compute_metrics", _COMPUTE, KNOWN)
    check(trainer, "fit", ("self",), KNOWN)
    recording = Recording(run_dir)

    def computed(given: Mapping[str, Any], _result: Any) -> None:
        step, batch = int(given["global_steps"]), given["batch"]

        def collect(problems: Problems) -> list[Row]:
            data = module.tq.kv_batch_get(
                keys=batch.keys, partition_id=batch.partition_id, select_fields=_FIELDS
            )
            trains = (setting(given["self"].config, "trainer.critic_warmup") or 0) <= step
            return rows(data, batch.keys, batch.tags, step, problems, trains=trains)

        recording.log(given["self"], step, collect, given["metrics"])

    def over(_given: Mapping[str, Any], _result: Any) -> None:
        recording.close()

    hook(trainer, "_compute_metrics", computed)
    hook(trainer, "fit", over)


def rows(
    data: Any,
    keys: list[str],
    tags: list[dict[str, Any]],
    step: int,
    problems: Problems,
    *,
    trains: bool = True,
) -> list[Row]:
    """The rows of a step.

    Args:
        data: the fields of the queue by name, one entry a key.
        keys: as verl names trajectories: ``{uid}_{session}_{index}``.
        tags: what verl notes of each; rows of padding are left out.
        step: verl's global step.
        problems: takes what is not in the batch.
        trains: whether the policy is updated; during the critic's warm-up it is not.
    """
    fields = {name: data[name] for name in _FIELDS if name in data.keys()}  # noqa: SIM118
    real = [number for number, tag in enumerate(tags) if not tag.get("is_padding", False)]
    rewards = row_sums(fields["rm_scores"]) if "rm_scores" in fields else None
    values = [
        {
            "trajectory_id": key,
            "group_id": key.rsplit("_", 2)[0],
            "reward": None if rewards is None else rewards[number],
            "behavior_lag": _age(tag.get("min_global_steps"), step),
        }
        for number, (key, tag) in enumerate(zip(keys, tags, strict=True))
    ]
    mask = fields["response_mask"]
    columns = Columns(
        own=fields.get("loss_mask", mask),
        counted=mask,
        old=fields.get("old_log_probs"),
        sampler=fields.get("rollout_log_probs"),
        reference=fields.get("ref_log_prob"),
        entropy=fields.get("entropy"),
        advantages=fields.get("advantages"),
    )
    found = rows_of(columns, values, problems)
    kept = [found[number] for number in real]
    for row in () if trains else kept:
        row.values["role"] = "filtered"
    return kept


def _age(oldest: int | None, step: int) -> int | None:
    """Weight versions between the oldest that sampled a trajectory and the one before the step."""
    return None if oldest is None else step - 1 - int(oldest)
