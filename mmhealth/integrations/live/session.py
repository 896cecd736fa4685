"""The run that a live hook writes to."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mmhealth.integrations.dumps.format import LossRatio
from mmhealth.integrations.dumps.problems import Problems
from mmhealth.integrations.dumps.tokens import Row
from mmhealth.integrations.dumps.writing import record_rows
from mmhealth.integrations.live.rows import drop_trivial
from mmhealth.runlog import Recorder

logger = logging.getLogger("mmhealth")

Collect = Callable[[Problems], Iterable[Row]]

LACKS = {
    "log_weight (update part)": "log probabilities after the step's updates never come to the "
    "driver: log_weight is the train-inference part, old - sampler",
    "grad_norm": "gradients never come to the driver",
}


class Session:
    """One attempt of a run, written by the driver alone.

    Raises `RecordError` where the recorder cannot be set up; nothing after that.
    """

    def __init__(
        self,
        run_dir: str | os.PathLike[str],
        *,
        trainer: str,
        settings: Mapping[str, Any],
        loss_ratio: LossRatio = "token",
        prompts: Any = None,
        samples: Any = None,
    ) -> None:
        """``prompts`` a step times ``samples`` of each is the nominal batch, if both are known."""
        known = {name: value for name, value in settings.items() if value is not None}
        sized = isinstance(prompts, int) and isinstance(samples, int)
        self.recorder = Recorder(
            run_dir,
            config={"trainer": trainer, "settings": known, "lacks": LACKS},
            loss_ratio=loss_ratio,
            nominal_batch=prompts * samples if sized else None,
        )
        self._told: set[str] = set()

    def log(self, step: int, collect: Collect, scalars: Mapping[str, Any] | None = None) -> None:
        """Commit a step of the rows that ``collect`` gives. Errors in it are losses of the run."""
        with self.recorder.guard(step):
            problems = Problems()
            rows = list(collect(problems))
            drop_trivial(rows, problems)
            with self.recorder.step(step) as record:
                record.scalars(scalars or {})
                if rows:
                    record_rows(record, iter(rows))
            self._tell(step, problems)

    def close(self) -> None:
        """Seal what was written."""
        self.recorder.close()

    def _tell(self, step: int, problems: Problems) -> None:
        """What is not recorded and why, once each: in the log and in the run."""
        news = {what: rows for what, rows in problems.notices.items() if what not in self._told}
        for what in news:
            logger.warning("mmhealth: not recorded: %s", what)
        if news:
            self._told.update(news)
            self.recorder.log_event(step, "degraded", {"what": list(news)})
