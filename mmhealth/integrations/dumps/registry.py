"""All formats, and which of them a path holds."""

from dataclasses import dataclass
from pathlib import Path

from mmhealth.errors import ImportDataError
from mmhealth.integrations.dumps.areal import AREAL
from mmhealth.integrations.dumps.format import Format
from mmhealth.integrations.dumps.ms_swift import MS_SWIFT
from mmhealth.integrations.dumps.nemo_rl import NEMO_RL
from mmhealth.integrations.dumps.open_instruct import OPEN_INSTRUCT
from mmhealth.integrations.dumps.places import readable
from mmhealth.integrations.dumps.prime_rl import PRIME_RL
from mmhealth.integrations.dumps.rllm import RLLM
from mmhealth.integrations.dumps.scalars.json_lines import METRICS_JSONL, VERL_FILE
from mmhealth.integrations.dumps.scalars.tensorboard import TENSORBOARD
from mmhealth.integrations.dumps.scalars.wandb import WANDB
from mmhealth.integrations.dumps.skyrl import SKYRL
from mmhealth.integrations.dumps.slime import SLIME
from mmhealth.integrations.dumps.tinker import TINKER
from mmhealth.integrations.dumps.trl import TRL
from mmhealth.integrations.dumps.verl import VERL

FORMATS: tuple[Format, ...] = (
    NEMO_RL,
    PRIME_RL,
    SLIME,
    SKYRL,
    VERL,
    TRL,
    AREAL,
    OPEN_INSTRUCT,
    MS_SWIFT,
    TINKER,
    RLLM,
    TENSORBOARD,
    WANDB,
    VERL_FILE,
    METRICS_JSONL,
)


@dataclass(frozen=True, slots=True)
class Dump:
    """A dump that was found."""

    format: Format
    root: Path


def find_format(name: str) -> Format:
    """The format of this name. Raises ImportDataError that lists all."""
    for known in FORMATS:
        if known.name == name:
            return known
    names = ", ".join(known.name for known in FORMATS)
    raise ImportDataError(f"{name!r} is no format of a dump; known: {names}")


def find_dump(path: Path, name: str | None = None) -> Dump | None:
    """The dump at a path; None where there is none of a format that is known, or of ``name``.

    A log of scalars counts where no dump of trajectories is. Raises ImportDataError where there are
    several: which one is meant is not guessed; and for a folder that this user may not read.
    """
    formats = FORMATS if name is None else (find_format(name),)
    dumps: list[Dump] = []
    with readable(path):
        for scalars in (False, True):
            wanted = [known for known in formats if known.scalars is scalars]
            dumps = dumps or [Dump(known, root) for known in wanted for root in known.find(path)]
    if len(dumps) > 1:
        listed = "; ".join(f"{dump.root} ({dump.format.name})" for dump in dumps[:8])
        raise ImportDataError(
            f"{path}: {len(dumps)} dumps are there: {listed}. Name one of them (and --from)"
        )
    return dumps[0] if dumps else None
