"""What a format of dumps is."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mmhealth.integrations.dumps.parts import Found, Part

LossRatio = Literal["token", "sequence", "geometric", "none"]


@dataclass(frozen=True, slots=True)
class Format:
    """A trainer's dump: how it is told, read, and what it cannot give."""

    name: str
    """As ``--from`` takes it."""
    trainer: str
    find: Callable[[Path], list[Path]]
    """Dumps of this format at a path: the folders (or the file) that hold them."""
    parts: Callable[[Found], Iterator[Part]]
    """The parts that are new. Raises ImportDataError for a dump that cannot be read at all."""
    loss_ratio: LossRatio
    """Level of the importance ratio in the trainer's default loss."""
    lacks: Mapping[str, str] = field(default_factory=dict)
    """Columns that the dump cannot give, and why."""
    scalars: bool = False
    """It holds means of steps and no trajectory: a dump of trajectories beside it goes first."""
