"""Writes what the loop says of a step to the run directory."""

from mmhealth.reference.loop import StepLog
from mmhealth.runlog import Recorder

GRAD_NORM = (
    "exact norm over all parameters of the gradient of the trajectory's term in the loss, "
    "KL penalty included, after the 1/B of the batch mean; rows with role 'replaced': in the batch "
    "as it was sampled"
)


def record(recorder: Recorder, log: StepLog, *, horizon: int) -> None:
    """Commit the step, then its evaluation and what the intervention did."""
    if log.switched is not None:
        recorder.log_event(
            log.step, "intervention", {"name": "ess_adaptive", "active": log.switched}
        )
    with recorder.step(log.step) as step:
        step.add(log.trajectories)
        for part in log.updates:
            step.update(part)
        step.scalars(log.scalars)
    recorder.log_evaluation(
        log.step,
        train_horizons=[horizon],
        eval_horizon=horizon,
        episodes=log.episodes,
        successes=log.successes,
        reward_sum=float(log.successes),
    )
