"""Health metrics to Weights & Biases."""

import os
from collections.abc import Sequence

import wandb

from mmhealth.errors import TrackerError
from mmhealth.integrations.trackers.steps import PREFIX, HealthStep
from mmhealth.runlog import Run


class WandB:
    """A W&B run of its own beside the training's, which is not touched.

    The x-axis is ``mmhealth/step``, so that a restart of the training may go back; the next export
    resumes the run by its id. Of W&B's environment all counts but WANDB_RUN_ID and WANDB_NAME,
    which are the training's.
    """

    def __init__(self, run: Run, project: str) -> None:
        try:
            self._run = wandb.init(
                project=project or os.environ.get("WANDB_PROJECT") or "mmhealth",
                id=f"mmhealth-{run.id}",
                name=f"{run.name} health",
                job_type="health",
                resume="allow",
                reinit="create_new",
                settings=wandb.Settings(console="off", x_disable_stats=True),
            )
            self._run.define_metric(f"{PREFIX}step")
            self._run.define_metric(f"{PREFIX}*", step_metric=f"{PREFIX}step")
        except ValueError as error:  # of W&B's settings, as the environment has them
            raise TrackerError(f"wandb: {' '.join(str(error).split())}") from error
        except (wandb.Error, OSError) as error:
            raise TrackerError(f"wandb: {error}") from error

    def arrived(self, _doubtful: Sequence[HealthStep]) -> None:
        """It cannot be asked without a network."""
        return

    def send(self, step: HealthStep) -> None:
        """Log the values of one step."""
        try:
            self._run.log({f"{PREFIX}step": step.key.step, **step.values})
        except (wandb.Error, OSError) as error:
            raise TrackerError(f"wandb: {error}") from error

    def flush(self) -> None:
        """Nothing to do: W&B's own process has what was logged."""

    def close(self) -> None:
        """End the W&B run, which waits for what is to be uploaded."""
        try:
            self._run.finish()
        except (wandb.Error, OSError) as error:
            raise TrackerError(f"wandb: {error}") from error


def open_tracker(run: Run, where: str) -> WandB:
    """A W&B run in the project ``where``. Raises TrackerError."""
    return WandB(run, where)
