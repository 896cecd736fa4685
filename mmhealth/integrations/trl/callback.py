"""Ends steps where TRL's trainer ends them, asks the monitor, and stops training."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from mmhealth.errors import RecordError
from mmhealth.guard.watch import Watch
from mmhealth.health import Alert, Policy
from mmhealth.integrations.trl.session import Session
from mmhealth.runlog import Recorder

logger = logging.getLogger("mmhealth")

OnAlert = Callable[[Alert, Any], None]
"""Called with an alert that fired, resolved or was superseded, and the `TrainerControl`."""


class HealthCallback(TrainerCallback):
    """Added to the trainer by `attach`; of one call of ``train()``."""

    def __init__(self, session: Session, judge: "Judge | None", close: Callable[[], None]) -> None:
        self._session = session
        self._judge = judge
        self._close = close
        self._begun = self._over = False

    def on_train_begin(self, *_args: Any, **_: Any) -> None:
        """Training begins: again, where an earlier call was not attached to."""
        if self._begun:
            self.end()
            logger.warning(
                "mmhealth records nothing of this call of train(): attach(trainer, run_dir) was "
                "for an earlier one. Call it before each, also after an exception"
            )
        self._begun = True

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:  # noqa: ARG002
        """An optimizer step is done."""
        if self._over:
            return control
        done = 0
        with self._session.recorder.guard():
            done = self._session.end_update()
        if self._judge is not None:
            with self._session.recorder.guard():
                if done:
                    self._judge.act(control, self._session.recorder)
            self._judge.share(control, args.device)
        return control

    def on_train_end(self, *_args: Any, **_: Any) -> None:
        """Training is over."""
        self.end()

    def end(self) -> None:
        """Close the run, and give the trainer its methods back."""
        if not self._over:
            self._over = True
            self._close()


class Judge:
    """Asks what the policy says of the run, on rank 0, and tells all ranks what follows.

    What an alert sets in the trainer's control holds on all ranks: stop, save and evaluate are
    shared after each optimizer step (three numbers, where there are several ranks).
    """

    _SHARED = ("should_training_stop", "should_save", "should_evaluate")

    def __init__(
        self, run_dir: Path, policy: Policy, *, first: bool, stop: bool, on_alert: OnAlert | None
    ) -> None:
        """Make it before the recorder: attempts that exist by then are history."""
        self._news: list[Alert] = []
        self._watch: Watch | None = None
        if first:
            self._watch = Watch(run_dir, policy, lambda alert, _run: self._news.append(alert))
        self._stop = stop
        self._on_alert = on_alert
        self._stopped = False

    def act(self, control: Any, recorder: Recorder) -> None:
        """Judge what is new; alerts and stops change the control."""
        if self._watch is None:
            return
        failing = self._watch.look()
        news = list(self._news)
        self._news.clear()
        for alert in news:
            with recorder.guard(kind="callback"):
                self._tell(alert, control)
        if self._stop and failing and not self._stopped:
            self._stopped = control.should_training_stop = True
            why = failing[0].message
            step = self._watch.last_step()
            recorder.log_event(step or 0, "stopped", {"why": why})

    def _tell(self, alert: Alert, control: Any) -> None:
        if self._on_alert is None:
            return
        try:
            self._on_alert(alert, control)
        except Exception as error:
            raise RecordError(f"on_alert raised {type(error).__name__}: {error}") from error

    def share(self, control: Any, device: torch.device) -> None:
        """Let all ranks do what rank 0 has decided."""
        distributed = torch.distributed
        if not (distributed.is_available() and distributed.is_initialized()):
            return
        flags = torch.tensor([int(getattr(control, name)) for name in self._SHARED], device=device)
        distributed.all_reduce(flags, op=distributed.ReduceOp.MAX)
        for name, flag in zip(self._SHARED, flags.tolist(), strict=True):
            setattr(control, name, bool(flag))
