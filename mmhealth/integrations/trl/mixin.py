"""`HealthMixin`: for those who subclass a trainer of TRL anyway."""

import os
from collections.abc import Mapping
from typing import Any

from mmhealth.integrations.trl.attach import attach


class HealthMixin:
    """``class Mine(HealthMixin, GRPOTrainer)``: the trainer with two more arguments."""

    def __init__(
        self,
        *args: Any,
        run_dir: str | os.PathLike[str],
        health: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """``run_dir`` and ``health`` are the arguments of `attach`; all others the trainer's."""
        super().__init__(*args, **kwargs)
        self.health = attach(self, run_dir, **(health or {}))
        """The `Attachment` of the first call of ``train()``."""
