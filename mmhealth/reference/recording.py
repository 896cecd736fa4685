"""Writes what the loop says of a step to the run directory."""

from mmhealth.reference.steplog import StepLog
from mmhealth.runlog import Recorder

GRAD_NORM = (
    "exact norm over all parameters of the gradient of the trajectory's term in the loss, "
    "penalties included, after the 1/B of the batch mean; rows with role 'replaced': as if they "
    "had been in the batch"
)


def record(recorder: Recorder, log: StepLog) -> None:
    """Commit the step, then its evaluations and what the interventions did."""
    if log.switched is not None:
        recorder.log_event(log.step, "intervention", {"name": log.control, "active": log.switched})
    for late in log.late:
        values = late.values.tolist()
        for trajectory, value in zip(late.trajectory_id.tolist(), values, strict=True):
            column = f"reward_{late.component}"
            recorder.amend(late.step, trajectory, column, value, arrived_step=late.arrived)
    with recorder.step(log.step) as step:
        step.add(log.trajectories)
        for part in log.updates:
            step.update(part)
        step.scalars(log.scalars)
    for evaluation in log.evaluations:
        recorder.log_evaluation(
            log.step,
            train_horizons=evaluation.train_horizons,
            eval_horizon=evaluation.horizon,
            episodes=evaluation.episodes,
            successes=evaluation.successes,
            reward_sum=float(evaluation.successes),
        )
