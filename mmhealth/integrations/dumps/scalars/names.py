"""Our names for scalars that trainers log under theirs (docs/import.md lists the sources)."""

import re

from mmhealth.runlog.columns import RESERVED
from mmhealth.schema import STEPS

KNOWN: dict[str, tuple[str, ...]] = {
    "reward": (
        "train/reward",  # TRL, ms-swift, NeMo-RL
        "critic/score/mean",  # verl; critic/rewards/mean has the KL penalty in it
        "train/all/*/reward/mean",  # prime-rl, one agent
        "env/all/reward/total",  # tinker-cookbook
        "reward/avg_raw_reward",  # SkyRL
        "rollout/raw_reward",  # slime
        "scores",  # open-instruct
    ),
    "entropy": (
        "train/entropy",
        "actor/entropy",
        "actor/entropy_loss",
        "entropy/all/mean",
        "optim/entropy",
        "policy/policy_entropy",
        "train/entropy_loss",
        "train/approx_entropy",
        "policy/entropy_avg",
    ),
    "kl_ref": (
        "train/kl",
        "actor/kl_loss",
        "actor/reward_kl_penalty",
        "train/kl_penalty",
        "policy/policy_kl",
        "train/kl_loss",
    ),
    "loss": (
        "train/loss",
        "actor/pg_loss",
        "loss/mean",
        "policy/final_loss",
        "train/policy_loss",
        "loss/total_avg",
    ),
    "lr": (
        "train/learning_rate",
        "actor/lr",
        "optim/lr",
        "train/lr",
        "policy/policy_lr",
        "train/lr-pg_0",
    ),
    "grad_norm": (
        "train/grad_norm",
        "actor/grad_norm",
        "optim/grad_norm",
        "policy/grad_norm",
    ),
    "clip_fraction": (
        "train/clip_ratio/region_mean",
        "actor/pg_clipfrac",
        "policy/loss_metrics/clip_ratio",
        "train/pg_clipfrac",
        "policy/clipfrac_avg",
    ),
    "length": (
        "train/completions/mean_length",
        "response_length/mean",
        "train/all/*/num_output_tokens/mean",
        "train/mean_gen_tokens_per_sample",
        "generate/avg_num_tokens",
        "rollout/response_len/mean",
        "val/sequence_lengths",
    ),
}
"""Our name, and theirs; the first that is logged counts. A ``*`` stands for one part of a path,
and counts where only one name fits."""

LACKS = {
    "trajectories": "the log has means of steps: ESS, Gini, tails and shares of groups are unknown",
    "success": "not told from other scalars",
}
"""What no log of scalars can give."""

MOST = 5000
"""Scalars of a step that are kept."""

_TAKEN = {*RESERVED, *KNOWN, *(column.name for column in STEPS.columns)}
_PATTERNS = {
    theirs: re.compile(re.escape(theirs).replace(r"\*", "[^/]+"))
    for names in KNOWN.values()
    for theirs in names
    if "*" in theirs
}


def ours(values: dict[str, float]) -> dict[str, float]:
    """The scalars of a step under our names where they are known, under their own otherwise."""
    found = {name: theirs for name in KNOWN if (theirs := _logged(name, values)) is not None}
    named = {name: values[theirs] for name, theirs in found.items()}
    rest = sorted(values.keys() - found.values())[:MOST]
    return named | {
        (_storable(name) if name not in _TAKEN else f"{name}_given"): values[name] for name in rest
    }


def _storable(name: str) -> str:
    """The name as UTF-8 can hold it, and not empty: JSON can name halves of characters."""
    return name.encode("utf-8", "replace").decode("utf-8") or "unnamed"


def _logged(name: str, values: dict[str, float]) -> str | None:
    for theirs in (name, *KNOWN[name]):
        if theirs in values:
            return theirs
        if theirs in _PATTERNS:
            fitting = [logged for logged in values if _PATTERNS[theirs].fullmatch(logged)]
            if len(fitting) == 1:
                return fitting[0]
    return None
