"""An audit page for each run of a fleet, written side by side into one folder."""

import re
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

from plotly.offline import get_plotlyjs

from mmhealth.engines import Engine, Progress, SerialEngine, map_surviving
from mmhealth.errors import MmhealthError
from mmhealth.fleet.summary import RunSummary
from mmhealth.health import Monitor, Policy
from mmhealth.report.audit import audit_runs
from mmhealth.report.html import render_html

PLOTLY = "plotly.js"
"""The figures' library, which all pages of a folder share."""


def page_name(path: str) -> str:
    """File name of a run's page: readable, and another one for each path."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(path).name)[:80].strip("-.") or "run"
    return f"{readable}-{sha256(path.encode()).hexdigest()[:8]}.html"


def write_pages(
    runs: Sequence[RunSummary],
    folder: Path,
    policy: Policy,
    *,
    engine: Engine | None = None,
    told: Progress | None = None,
) -> dict[str, str]:
    """Write a page for each run that can be read, and that no worker dies of; by path of the run,
    the name of its page.

    Raises OSError where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLOTLY).write_text(get_plotlyjs(), encoding="utf-8")
    paths = [run.path for run in runs if run.verdict != "unreadable"]
    write = partial(_write, folder=folder, policy=policy)
    written = map_surviving(write, paths, engine or SerialEngine(), lambda *_: False, told)
    return {path: page_name(path) for path, done in zip(paths, written, strict=True) if done}


def _write(path: str, folder: Path, policy: Policy) -> bool:
    """Whether the run could still be read."""
    try:
        audit = audit_runs([Monitor(path, policy, readings=True)])
    except MmhealthError:
        return False
    (folder / page_name(path)).write_text(render_html(audit, PLOTLY), encoding="utf-8")
    return True
