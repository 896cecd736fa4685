"""Metrics and their values as sentences name them."""

from mmhealth.health.rule_table import UNIT_INTERVAL

_NAMES = {
    "ess_weight": "the effective sample size of the importance weights",
    "ess_signal": "the effective sample size of the signal",
    "ess_contribution": "the effective sample size of the gradient contributions",
    "gini_grad_norm": "the Gini coefficient of the gradient norms",
    "top5_share": "the share held by the 5 % largest gradients",
    "gradient_snr": "the signal-to-noise ratio of the update",
    "noise_scale": "the gradient noise scale, in trajectories",
    "gradient_diversity": "the gradient diversity",
    "opposing_share": "the share of the contribution that points against the update",
    "baseline_gap": "the distance of the group's mean reward from the baseline of least variance",
    "weight_khat": "the tail index of the importance weights (Pareto k-hat)",
    "entropy": "the policy entropy",
    "strategic_entropy": "the entropy of the choices of what to do",
    "kl_ref": "the KL divergence from the reference policy",
    "dead_group_share": "the share of dead groups",
    "stuck_share": "the share of trajectories stuck in settled choices that fail",
    "retreat_share": "the share of trajectories that refuse or work serially",
    "violated_share": "the share of trajectories that violate a constraint",
    "log_ratio_p95": "the 95th percentile of the token log-ratios",
    "log_ratio_p95_tool": "the 95th percentile of the token log-ratios after tool results",
    "reward": "the mean reward",
    "success_rate": "the success rate",
    "nonfinite": "the number of non-finite values",
    "data_gap": "the share of the step that is missing",
}


def name_metric(metric: str) -> str:
    """A timeline column in words; its own name where there are none."""
    return _NAMES.get(metric, metric)


def show_value(metric: str, value: float) -> str:
    """A value of a metric: shares in percent, all else as a number of three digits."""
    if UNIT_INTERVAL.match(metric) and not metric.startswith("gini"):
        return percent(value)
    return f"{value:.3g}"


def percent(value: float) -> str:
    """A fraction in percent, to three digits."""
    return f"{100 * value:.3g} %"


def listed(names: list[str], most: int = 8, between: str = ", ") -> str:
    """Names, one after another; of many the first ``most``, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return between.join(names[:most]) + more


def capital(text: str) -> str:
    """The text with a capital letter to begin with."""
    return text[:1].upper() + text[1:]
