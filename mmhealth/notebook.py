"""A run that shows itself in a notebook: what `mmhealth.open_run` gives."""

import os
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mmhealth.place import RunUrl, run_place
from mmhealth.runlog import Run

if TYPE_CHECKING:
    from mmhealth.health import Monitor, Policy


class Printer(Protocol):
    """What IPython hands to ``_repr_pretty_``."""

    def text(self, text: str) -> None:
        """Add text."""


class NotebookRun(Run):
    """A run that displays itself: verdict, reason and the course of its main metrics.

    Each display reads what is new, so the cell of a growing run can be run again. `refresh`, `tail`
    and the frames are those of `Run`, and displaying changes nothing of them.
    """

    def report(self, policy: "Policy | None" = None) -> "Page":
        """The audit of the run as it stands now, as one HTML page.

        ``policy`` is what to judge by; the default policy where none is given. Raises RunError as
        `open_run` does.
        """
        from mmhealth.health import Monitor
        from mmhealth.report import audit_runs
        from mmhealth.report.html import render_html

        audit = audit_runs([Monitor(self.path, policy, readings=True)])
        return Page(render_html(audit), f"{audit.runs[0].label}: {audit.verdict}")

    @cached_property
    def _monitor(self) -> "Monitor":
        """Reads the run by itself: what it takes in is not taken from `tail`."""
        from mmhealth.health import Monitor

        return Monitor(self.path)

    def _repr_html_(self) -> str:
        from mmhealth.report.glance import glance_html

        self._monitor.poll()
        return glance_html(self._monitor)

    def _repr_pretty_(self, printer: Printer, cycle: bool) -> None:
        from mmhealth.report.glance import glance_text

        if cycle:
            printer.text("Run(...)")
            return
        self._monitor.poll()
        printer.text(glance_text(self._monitor))

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"


@dataclass(frozen=True, slots=True)
class Page:
    """An HTML page that displays itself in a notebook and can be saved."""

    html: str = field(repr=False)
    title: str

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file that needs no network; return its path."""
        path = Path(path)
        path.write_text(self.html, encoding="utf-8")
        return path

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{escape(self.html)}" title="{escape(self.title)}" '
            'sandbox="allow-scripts" style="width:100%;height:45rem;border:0"></iframe>'
        )


def open_run(path: str | os.PathLike[str] | RunUrl) -> NotebookRun:
    """Open a run for reading: a run directory, or a prefix of an object store (``s3://...``).

    Raises RunNotFoundError, SchemaVersionError, ObjectStoreError, or RunError when ``run.json``
    cannot be read. Damaged segments do not raise: see `Run.status`.
    """
    run = NotebookRun(run_place(path))
    run.refresh()
    return run
