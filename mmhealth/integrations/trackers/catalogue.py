"""What each number that is sent means, and its unit."""

from typing import Literal, NamedTuple

Unit = Literal["ratio", "nats", "trajectories", "values", ""]
"""Empty where a number has none, or that of the trainer's rewards."""


class Entry(NamedTuple):
    """Meaning and unit of a number."""

    unit: Unit
    meaning: str


_OF_SAMPLED = "effective sample size of {} as a fraction of the sampled rows"
_OF_UPDATE = "effective sample size of {} as a fraction of the rows that entered an update"
_OF_NOMINAL = "effective sample size of {} as a fraction of the nominal batch"
_BASES = {
    "weight": "the importance weights",
    "signal": "weight times absolute advantage",
    "contribution": "the per-trajectory gradient norms",
}

CATALOGUE: dict[str, Entry] = {
    "n": Entry("trajectories", "sampled trajectories of the step"),
    **{f"ess_{name}": Entry("ratio", _OF_SAMPLED.format(of)) for name, of in _BASES.items()},
    **{f"ess_{name}_update": Entry("ratio", _OF_UPDATE.format(of)) for name, of in _BASES.items()},
    **{
        f"ess_{name}_nominal": Entry("ratio", _OF_NOMINAL.format(of)) for name, of in _BASES.items()
    },
    "ess_signal_unsolved": Entry("ratio", "ess_signal without the groups that are solved"),
    "ess_contribution_unsolved": Entry(
        "ratio", "ess_contribution without the groups that are solved"
    ),
    "ess_signal_ceiling": Entry("ratio", "largest ess_signal that the observed outcomes allow"),
    "ess_weight_other": Entry("ratio", "ess_weight at the level that the loss does not use"),
    "gini_grad_norm": Entry("ratio", "Gini coefficient of the gradient norms"),
    "gini_grad_norm_unsolved": Entry("ratio", "gini_grad_norm without solved groups"),
    "top5_share": Entry("ratio", "share of the 5 % largest gradient norms in their sum"),
    "gradient_snr": Entry("", "signal-to-noise ratio of the update"),
    "gradient_snr_low": Entry("", "lower end of the 90 % interval of gradient_snr"),
    "gradient_snr_high": Entry("", "upper end of the 90 % interval of gradient_snr"),
    "noise_scale": Entry("trajectories", "gradient noise scale"),
    "noise_scale_low": Entry("trajectories", "lower end of the 90 % interval of noise_scale"),
    "noise_scale_high": Entry("trajectories", "upper end of the 90 % interval of noise_scale"),
    "gradient_diversity": Entry("", "gradient diversity"),
    "opposing_share": Entry("ratio", "share of the contribution that points against the update"),
    "baseline_gap": Entry("", "mean distance of a group's mean reward from its best baseline"),
    "weight_khat": Entry("", "Pareto k-hat, the tail index of the importance weights"),
    "weight_khat_limit": Entry("", "k-hat above which averages of so few weights mislead"),
    "max_weight_share": Entry("ratio", "share of the largest importance weight in their sum"),
    "entropy": Entry("nats", "policy entropy a token"),
    "strategic_entropy": Entry("nats", "entropy of the choices of what to do"),
    "kl_ref": Entry("nats", "KL divergence from the reference policy a token"),
    "violated_share": Entry("ratio", "share of trajectories that violate a constraint"),
    "retreat_share": Entry("ratio", "share of trajectories that refuse or work serially"),
    "stuck_share": Entry("ratio", "share of trajectories stuck in settled choices that fail"),
    "solved_group_share": Entry("ratio", "share of groups in which all trajectories succeed"),
    "failed_group_share": Entry("ratio", "share of groups in which all trajectories fail"),
    "dead_group_share": Entry("ratio", "share of groups that are solved or failed"),
    "dead_group_share_unsolved": Entry("ratio", "dead_group_share without solved groups"),
    "log_ratio_p95": Entry("nats", "95th percentile of the absolute token log-ratios"),
    "log_ratio_p95_tool": Entry("nats", "log_ratio_p95 of the tokens after tool results"),
    "reward": Entry("", "mean reward of the sampled trajectories"),
    "reward_pending": Entry("ratio", "share of the rewards that have not arrived yet"),
    "success_rate": Entry("ratio", "share of sampled trajectories that succeed"),
    "nonfinite": Entry("values", "NaN and infinite values in the columns that matter"),
    "data_gap": Entry("ratio", "share of the step that is missing"),
    "attempt": Entry("", "start or restart of the run that the step belongs to"),
    "alerts_warning": Entry("", "alerts of severity warning that are firing"),
    "alerts_critical": Entry("", "alerts of severity critical that are firing"),
}
"""By name, every number that is sent but the verdict."""
