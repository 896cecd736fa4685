"""The words beside each figure: what it shows and what good looks like."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caption:
    """The words beside a figure."""

    title: str
    shows: str
    good: str
    """What good looks like."""


CAPTIONS: dict[str, Caption] = {
    "ess": Caption(
        "Effective sample size",
        "Share of the sampled trajectories that effectively make the update.",
        "Good: steady, and well above the dashed alert line.",
    ),
    "heldout": Caption(
        "Held-out success",
        "Success on held-out episodes, 15-step mean (bold) and its stall; dotted: ESS alerts fire.",
        "Good: rising, or solved.",
    ),
    "gini": Caption(
        "Inequality of gradient norms",
        "Gini coefficient: 0 when all trajectories contribute alike, near 1 when one holds all.",
        "Good: steady, and below the alert line.",
    ),
    "entropy": Caption(
        "Policy entropy",
        "Mean token entropy: how much the policy still explores.",
        "Good: a slow decline that levels off above zero.",
    ),
    "reward_ess": Caption(
        "Reward against ESS",
        "Mean reward (solid, left) and effective sample size (dotted, right), step by step.",
        "Good: they do not part. Reward up while ESS falls is the silent collapse.",
    ),
    "groups": Caption(
        "Dead groups",
        "Share of groups in which all trajectories have the same outcome; dotted: the solved ones.",
        "Good: low, or dead only because solved.",
    ),
    "lorenz": Caption(
        "Contribution curve",
        "Which share of the whole contribution the smallest trajectories hold (Lorenz curve).",
        "Good: close to the diagonal. In the corner: a few trajectories make the update.",
    ),
    "noise": Caption(
        "Signal in the gradient",
        "Signal-to-noise ratio of the update (90 % interval), and the share of the contribution "
        "that points against it.",
        "Good: 1 or above. Well below 1 mostly noise moves the parameters, and a larger batch pays "
        "in full; far above 1 a smaller one would do.",
    ),
    "sources": Caption(
        "Gradient by source",
        "Share of the squared gradient norms that each source holds (solid) and of the "
        "trajectories (dotted).",
        "Good: the two are close. A source far above its dots makes the noise: look at its "
        "rewards, then its weight in the mix.",
    ),
    "horizon": Caption(
        "Success by horizon",
        "Held-out success rate, with its 95 % Wilson interval; an empty cell was not measured.",
        "Good: a row as high at horizons it was not trained at as at its own.",
    ),
}
"""What each figure shows and what good looks like, for report and dashboard alike."""
