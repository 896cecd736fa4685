"""Runs a training job under guard: judged as it runs, stopped when the policy says so."""

from mmhealth.guard.guarded import (
    NOT_FOUND,
    NOT_RUNNABLE,
    REFUSED,
    STOPPED,
    GuardConfig,
    run_guarded,
)

__all__ = ["NOT_FOUND", "NOT_RUNNABLE", "REFUSED", "STOPPED", "GuardConfig", "run_guarded"]
