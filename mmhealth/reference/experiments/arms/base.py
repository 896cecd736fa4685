"""An arm: one configuration that several seeds are trained with."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from mmhealth.reference.config import Fixes, TrainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One line of a figure: a configuration, in words and in numbers."""

    figure: str
    """Figure it belongs to, and folder of its results."""
    name: str
    """What tables and legends call it."""
    about: str
    """What it changes."""
    config: TrainConfig
    """What is trained."""
    against: str | None = "baseline"
    """Arm of the same figure that it is compared with, seed by seed; None: with none."""
    audit: bool = False
    """Record its runs and judge them with the default policy."""
    final_episodes: int = 10_000
    """Held-out episodes per horizon that the trained policy is judged by."""
    before_final: Callable[[Any], None] | None = None
    """What to do with the environment before the trained policy is evaluated (a function that can
    be pickled); only for runs that are not recorded."""

    def __post_init__(self) -> None:
        if self.before_final is not None:
            if self.audit or self.config.fixes.ess is not None:
                raise ValueError(f"{self.name!r}: before_final is only for runs not recorded")
            if not hasattr(self.before_final, "__qualname__"):
                raise ValueError(f"{self.name!r}: before_final must be a function with a name")

    @property
    def slug(self) -> str:
        """The name as a folder."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower().replace("%", " percent")).strip("-")


def with_loop(config: TrainConfig, **changes: Any) -> TrainConfig:
    """The same run with other knobs of the loop."""
    return replace(config, loop=replace(config.loop, **changes))


def with_world(config: TrainConfig, **changes: Any) -> TrainConfig:
    """The same run in another variation of its environment."""
    environment: Any = config.environment
    return replace(config, environment=replace(environment, **changes))


def with_fixes(config: TrainConfig, fixes: Fixes | None = None, **changes: Any) -> TrainConfig:
    """The same run with ``fixes`` (none), some of them changed."""
    return replace(config, fixes=replace(fixes or Fixes(), **changes))


def checked(arms: Iterable[Arm]) -> tuple[Arm, ...]:
    """The arms of a figure, after a look for slips. Raises ValueError."""
    listed = tuple(arms)
    names = [arm.name for arm in listed]
    if len({arm.slug for arm in listed}) < len(listed):
        raise ValueError(f"two arms share a name: {names}")
    for arm in listed:
        if arm.against is not None and arm.against not in names:
            raise ValueError(f"{arm.name!r} is compared with {arm.against!r}, which is no arm")
    return listed
