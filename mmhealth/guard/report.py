"""The report that the guard leaves where it has stopped a job."""

from pathlib import Path

from mmhealth.health import Monitor, Policy
from mmhealth.report.audit import audit_runs
from mmhealth.report.html import render_html


def write_report(run_dir: Path, policy: Policy, path: Path) -> Path:
    """Audit the run as it stands, as `mmhealth audit` does, and write the page; where it is.

    Raises RunError and OSError.
    """
    path.write_text(
        render_html(audit_runs([Monitor(run_dir, policy, readings=True)])), encoding="utf-8"
    )
    return path
