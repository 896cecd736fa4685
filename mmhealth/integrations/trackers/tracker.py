"""What a tracker has to be able to do, and how one is named."""

import importlib
import importlib.util
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from mmhealth.errors import TrackerError, TrackerTargetError
from mmhealth.health.timeline import LivedStep
from mmhealth.integrations.notify.redact import HIDDEN
from mmhealth.integrations.trackers.steps import HealthStep
from mmhealth.runlog import Run


class Tracker(Protocol):
    """An open tracker. Each method may raise TrackerError; what was being sent is then in doubt."""

    def arrived(self, doubtful: Sequence[HealthStep], /) -> Collection[LivedStep] | None:
        """Those of the steps, whose sending was cut off, that are not to be sent again.

        None where the tracker cannot tell; then none is: a step may be missing, not doubled.
        """

    def send(self, step: HealthStep) -> None:
        """Hand over one step, later than all before."""

    def flush(self) -> None:
        """Return when what was handed over is out of this process's hands."""

    def close(self) -> None:
        """Flush, and let go."""


@dataclass(frozen=True, slots=True)
class Target:
    """A tracker that was asked for, not opened yet."""

    kind: str
    where: str = field(repr=False)
    """Folder, project or address (it may hold a password); empty for the tracker's own default."""

    @property
    def name(self) -> str:
        """As it may be shown, and written to disk: without user, password and query."""
        return f"{self.kind}={_hidden(self.where, self.where)}" if self.where else self.kind

    @property
    def gone(self) -> bool:
        """Whether nothing that was ever sent can be there: a folder without event files."""
        events = "*tfevents*"
        return self.kind == "tensorboard" and next(Path(self.where).glob(events), None) is None

    @contextmanager
    def without_secrets(self) -> Iterator[None]:
        """A TrackerError inside is told without what this target's address keeps secret."""
        try:
            yield
        except TrackerError as error:
            raise TrackerError(_hidden(str(error), self.where)) from None

    def open(self, run: Run) -> Tracker:
        """Open the tracker for a run. Raises TrackerError."""
        with self.without_secrets():
            opened: Tracker = _opener(self.kind)(run, self.where)
        return opened


_NEEDS = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}
"""Kinds of trackers, each a module beside this one, and the library it needs."""


def parse_target(text: str) -> Target:
    """``KIND`` or ``KIND=WHERE``; nothing is imported.

    Raises TrackerTargetError for a kind that is not known or whose library is not installed.
    """
    kind, _, where = text.partition("=")
    if kind not in _NEEDS:
        raise TrackerTargetError(
            f"{kind}: no tracker {kind!r} is known; known: {', '.join(_NEEDS)}"
        )
    if kind == "tensorboard" and not where:
        raise TrackerTargetError(f"{text}: say where events go to: tensorboard=DIR")
    if importlib.util.find_spec(_NEEDS[kind]) is None:
        raise TrackerTargetError(f"{kind} is not installed: pip install 'mmhealth[{kind}]'")
    return Target(kind, str(Path(where).resolve()) if kind == "tensorboard" else where)


def _hidden(text: str, address: str) -> str:
    """The text without user, password and query of the address, where that is a URL."""
    _, _, rest = address.partition("://")
    user, at, _ = re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")
    query = address.partition("?")[2]
    password = user.partition(":")[2]
    if at:
        text = text.replace(f"{user}@", f"{HIDDEN}@")
    for secret in sorted({query, password, unquote(password)}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN) if secret else text
    return text


def _opener(kind: str) -> Callable[[Run, str], Any]:
    module = f"mmhealth.integrations.trackers.to_{kind}"
    try:
        opener: Callable[[Run, str], Any] = importlib.import_module(module).open_tracker
    except ImportError as error:
        raise TrackerError(f"{kind} is installed and cannot be imported: {error}") from error
    return opener
