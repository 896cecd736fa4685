"""The failure modes: what happens, what to do, and what each may bring about."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mode:
    """One named failure mode."""

    name: str
    about: str
    """What happens, in a sentence."""
    todo: str
    """What to do about it."""
    import_line: str
    """Python that imports the intervention, or what comes closest to one."""
    explains: tuple[str, ...] = ()
    """Modes that this one may bring about: found beside it they follow from it."""
    experimental: bool = False
    """No runs with this cause have been judged (docs/diagnosis.md)."""


_BEHAVIOUR = (
    "premature specialisation",
    "serial collapse",
    "needless sub-agents",
    "reward-component divergence",
    "horizon overfitting",
)
_UPDATE = ("dead groups", "gradient domination", *_BEHAVIOUR)

MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode(
            "non-finite values",
            "NaN or infinities reach rewards, weights or gradients.",
            "Find what made the first of them (a mean over no tokens, an overflow of exp, a rating "
            "in a wrong unit), go back to the checkpoint before that step, and stop on the first "
            "one: Monitor raises a critical alert.",
            "from mmhealth.health import Monitor",
            explains=("estimator collapse", *_UPDATE),
        ),
        Mode(
            "resume fault",
            "A restart brought back something other than what was running.",
            "Restore weights, optimizer, sampler and data position from the same step; give the "
            "states of all interventions to the checkpoint; go back to the last good one.",
            "from mmhealth import new_attempt",
        ),
        Mode(
            "tool-context variance growth",
            "After tool results trainer and sampler disagree more and more about the tokens.",
            "Make the trainer read tool results byte for byte as the sampler did, mask the tokens "
            "after those that cannot be; until then shrink the step with the ESS.",
            "from mmhealth.interventions import EssLearningRate",
            explains=("estimator collapse", *_UPDATE),
        ),
        Mode(
            "train-inference mismatch",
            "The sampler's probabilities are not those of the trainer for the same weights.",
            "Use the same precision and kernels on both sides, or recompute the sampler's log "
            "probabilities in the trainer; until then shrink the step with the ESS.",
            "from mmhealth.interventions import EssLearningRate",
            explains=_UPDATE,
        ),
        Mode(
            "staleness",
            "Trajectories come from a policy so old that few of them still count.",
            "Bound the age of trajectories, synchronise the sampler more often, or shrink the step "
            "with the ESS.",
            "from mmhealth.interventions import EssLearningRate",
            explains=_UPDATE,
        ),
        Mode(
            "estimator collapse",
            "The update moves the policy so far that the batch says little about it any more.",
            "Fewer updates of a batch, or a smaller step; anchor the policy and bring contrast "
            "back while the ESS is low.",
            "from mmhealth.interventions import EssAdaptive, EssLearningRate, NearMissReserve",
            explains=_UPDATE,
        ),
        Mode(
            "dead groups",
            "All trajectories of most groups get the same reward, and so no advantage.",
            "Sample prompts of which some trajectories succeed, drop the others and refill the "
            "batch, or give failed groups near misses.",
            "from mmhealth.interventions import NearMissReserve",
            explains=("gradient domination", *_BEHAVIOUR),
        ),
        Mode(
            "gradient domination",
            "One kind of trajectory makes nearly all of every update.",
            "Divide contributions by the spread of their source and the root of their length.",
            "from mmhealth.interventions import BucketNormalizer, VarianceCorrection",
            explains=_BEHAVIOUR,
        ),
        Mode(
            "reward-component divergence",
            "A reward component rises while success, once reached, is given up: it is gamed.",
            "Look at trajectories with the highest value of that component that fail; take its "
            "weight back until it agrees with outcomes, and let measured agreement raise it again.",
            "from mmhealth.interventions import ReliabilitySchedule",
            explains=("premature specialisation", "needless sub-agents"),
        ),
        Mode(
            "serial collapse",
            "A constraint is feared so much that the policy refuses or works one by one.",
            "Replace the hard penalty by a softplus one, and reward parallel work for a while.",
            "from mmhealth.interventions import ConstraintTable",
            explains=(
                "premature specialisation",
                "horizon overfitting",
                "reward-component divergence",
            ),
        ),
        Mode(
            "needless sub-agents",
            "Sub-agents are started because they pay, and success does not need them.",
            "Anneal the bonus for parallel work to zero, or charge for sub-agents.",
            "from mmhealth.interventions import AnnealedReward",
        ),
        Mode(
            "horizon overfitting",
            "The policy works at the horizons it was trained at and not at others.",
            "Draw horizons at random from the first step on, and standardise advantages within "
            "each.",
            "from mmhealth.interventions import MixedHorizons",
        ),
        Mode(
            "premature specialisation",
            "What to do is settled before the right thing was ever paid.",
            "Train what can be verified first and bring in preferences later, under an entropy "
            "floor on these choices.",
            "from mmhealth.interventions import EntropyFloor, StagedObjectives",
            explains=("horizon overfitting",),
        ),
    )
}
"""By name; in the order in which equally sure ones are named, causes before consequences."""
