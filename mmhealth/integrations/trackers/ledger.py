"""Which steps a target has been sent: a small file beside the run directory."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mmhealth.errors import TrackerError
from mmhealth.health.timeline import LivedStep
from mmhealth.runlog.sidefile import SideFile, open_side_file


class Ledger:
    """What was sent to one target, and what was being sent when a process died.

    Held under a lock that ends with the process, so that two exports do not send a step twice.
    """

    def __init__(self, file: SideFile, run_id: str, target: str) -> None:
        self._file = file
        self._about = {"version": 1, "run_id": run_id, "target": target}
        earlier = next(iter(file.read()), {})
        same = earlier.get("run_id") == run_id
        self.sent = _step(earlier.get("sent")) if same else None
        """Last step that is there; None for none."""
        self.sending = _step(earlier.get("sending")) if same else None
        """Last step of those whose arrival is in doubt; None where there is no doubt."""

    def forget(self) -> None:
        """Nothing that was sent is there any more."""
        self.sent = self.sending = None
        self._write()

    def begin(self, last: LivedStep) -> None:
        """The steps up to this one are about to be sent."""
        self.sending = last
        self._write()

    def done(self, last: LivedStep) -> None:
        """They have been sent."""
        self.sent, self.sending = last, None
        self._write()

    def _write(self) -> None:
        self._file.replace(self._about | {"sent": self.sent, "sending": self.sending})


@contextmanager
def open_ledger(run_dir: Path, run_id: str, target: str) -> Iterator[Ledger]:
    """The ledger of a target; it is called ``RUN.export-KIND-HASH.json``.

    ``target`` is what `Target.name` says, and holds no secrets; the file is its owner's alone.
    Raises TrackerError when another export holds it or when it cannot be written.
    """
    run_dir = Path(os.path.abspath(run_dir))  # noqa: PTH100 - normalises "..", keeps links
    digest = hashlib.sha256(target.encode()).hexdigest()[:8]
    kind = target.partition("=")[0]
    path = run_dir.with_name(f"{run_dir.name}.export-{kind}-{digest}.json")
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_side_file(path, mode=0o600))
        except OSError as error:
            raise TrackerError(f"{path} cannot be written: {error.strerror or error}") from None
        if file is None:
            raise TrackerError(f"{run_dir} is already being sent to {target} by another export")
        yield Ledger(file, run_id, target)


def _step(found: object) -> LivedStep | None:
    match found:
        case [int(attempt), int(step)]:
            return LivedStep(attempt, step)
    return None
