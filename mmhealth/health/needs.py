"""Which columns of a run each metric of the timeline is computed from."""

from collections.abc import Collection

KEYS = frozenset({"trajectory_id", "role", "update"})
"""Columns that say which row is which, beside those that every row of a step has alike."""
_TOKENS = frozenset({"token_count", "length"})
_OUTCOME = frozenset({"group_id", "success", "reward"})
_WEIGHT = frozenset({"log_weight"})
_SIGNAL = _WEIGHT | {"advantage"}
_NORM = frozenset({"grad_norm"})
_TOKEN_WEIGHT = frozenset({"token_logsum_w", "token_logsum_w2"})
_NOISE = _NORM | {"grad_cosine"}

NEEDS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("ess_weight", "ess_weight_nominal"), _WEIGHT),
    **dict.fromkeys(("ess_signal", "ess_signal_nominal"), _SIGNAL),
    **dict.fromkeys(("ess_contribution", "ess_contribution_nominal"), _NORM),
    "ess_weight_update": _WEIGHT | {"weight_used"},
    "ess_signal_update": _SIGNAL | {"weight_used"},
    "ess_contribution_update": _NORM,
    "ess_signal_unsolved": _SIGNAL | _OUTCOME,
    "ess_contribution_unsolved": _NORM | _OUTCOME,
    "ess_signal_ceiling": frozenset({"advantage"}),
    "ess_weight_other": _WEIGHT | _TOKEN_WEIGHT | _TOKENS,
    "gini_grad_norm": _NORM,
    "gini_grad_norm_unsolved": _NORM | _OUTCOME,
    "top5_share": _NORM,
    **dict.fromkeys(("gradient_snr", "gradient_snr_low", "gradient_snr_high"), _NOISE),
    **dict.fromkeys(("noise_scale", "noise_scale_low", "noise_scale_high"), _NOISE),
    **dict.fromkeys(("gradient_diversity", "opposing_share"), _NOISE),
    "baseline_gap": _NORM | {"advantage", "reward", "group_id"},
    **dict.fromkeys(("weight_khat", "weight_khat_limit", "max_weight_share"), _WEIGHT),
    "entropy": _TOKENS | {"entropy"},
    "strategic_entropy": frozenset({"strategic_entropy"}),
    "kl_ref": _TOKENS | {"kl_ref"},
    "violated_share": frozenset({"violated"}),
    "retreat_share": frozenset({"violated", "constraint_margin", "serial", "refused"}),
    "stuck_share": _OUTCOME | {"strategic_entropy"},
    **dict.fromkeys(("solved_group_share", "failed_group_share", "dead_group_share"), _OUTCOME),
    "dead_group_share_unsolved": _OUTCOME,
    **dict.fromkeys(("log_ratio_p95", "log_ratio_p95_tool"), frozenset()),
    **dict.fromkeys(("reward", "reward_pending"), frozenset({"reward"})),
    "success_rate": frozenset({"success", "reward"}),
    "nonfinite": _SIGNAL | _NORM | {"reward", "entropy", "kl_ref", "weight_used"},
}
"""Beside `KEYS`, for a loss that weighs sequences; see `columns_of`."""

ALL = frozenset(NEEDS)


def columns_of(metrics: Collection[str], loss_ratio: str) -> frozenset[str]:
    """Columns of trajectories and updates that these metrics are computed from."""
    columns = KEYS.union(*(NEEDS[name] for name in metrics))
    if "log_weight" in columns and loss_ratio in ("token", "geometric"):
        columns |= _TOKENS | _TOKEN_WEIGHT
    if set(metrics) >= ALL:
        columns |= {"source"}
    return columns
