"""What was found, for people and machines: audit and gate, and one renderer a file."""

from mmhealth.report.audit import Audit, RunAudit, audit_runs
from mmhealth.report.gate import Gate, RunDecision, gate_runs
from mmhealth.report.gate_text import render_text
from mmhealth.report.github import append_summary, render_github
from mmhealth.report.json_report import audit_as_dict, dump_json, gate_as_dict
from mmhealth.report.junit import render_junit
from mmhealth.report.terminal import print_audit

__all__ = [
    "Audit",
    "Gate",
    "RunAudit",
    "RunDecision",
    "append_summary",
    "audit_as_dict",
    "audit_runs",
    "dump_json",
    "gate_as_dict",
    "gate_runs",
    "print_audit",
    "render_github",
    "render_junit",
    "render_text",
]
