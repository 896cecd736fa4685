"""What verl loads at ``import verl``; importing it switches recording on where it is asked for.

verl says nothing of a plugin that fails (its log has it at DEBUG), so this one speaks for itself.
"""

import os
import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType

VARIABLE = "MMHEALTH_RUN_DIR"

_CURRENT = "verl.trainer.ppo.v1.trainer_base"
_OLDER = "verl.trainer.ppo.ray_trainer"


def switch_on(run_dir: str) -> None:
    """Record the steps of verl's trainers in this process once they are imported."""
    from mmhealth.integrations.live.late import when_imported

    def current(module: ModuleType) -> None:
        from mmhealth.integrations.verl.current import hook_trainer

        _announce(run_dir, module, hook_trainer)

    def older(module: ModuleType) -> None:
        from mmhealth.integrations.verl.older import hook_trainer

        _announce(run_dir, module, hook_trainer)

    when_imported(_CURRENT, current)
    when_imported(_OLDER, older)


def _announce(
    run_dir: str, module: ModuleType, hook_trainer: Callable[[ModuleType, str], None]
) -> None:
    from mmhealth.errors import AttachError

    try:
        hook_trainer(module, run_dir)
    except AttachError as error:
        _say(f"does NOT record verl: {error}")
    else:
        _say(f"will record verl's steps in {run_dir}")


@cache
def _say(what: str) -> None:
    """Once each: both trainers are imported where one is."""
    print(f"mmhealth: {what}", file=sys.stderr, flush=True)


if os.environ.get(VARIABLE):
    switch_on(os.environ[VARIABLE])
