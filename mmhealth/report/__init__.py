"""What was found, for people and machines: audit and gate, and one renderer a file."""

from mmhealth.report.audit import Audit, RunAudit, audit_runs
from mmhealth.report.baseline import Against, Check
from mmhealth.report.compare import Comparison, compare_runs
from mmhealth.report.compare_json import comparison_as_dict, fleet_as_dict
from mmhealth.report.compare_text import print_comparison, print_fleet
from mmhealth.report.fleet_comparison import FleetComparison, compare_with_fleet
from mmhealth.report.gate import Gate, RunDecision, gate_runs
from mmhealth.report.gate_text import render_text
from mmhealth.report.github import append_summary, render_github
from mmhealth.report.json_report import audit_as_dict, dump_json, gate_as_dict
from mmhealth.report.junit import render_junit
from mmhealth.report.markdown import render_markdown
from mmhealth.report.sarif import render_sarif
from mmhealth.report.summary import Summary, summarise
from mmhealth.report.terminal import print_audit

__all__ = [
    "Against",
    "Audit",
    "Check",
    "Comparison",
    "FleetComparison",
    "Gate",
    "RunAudit",
    "RunDecision",
    "Summary",
    "append_summary",
    "audit_as_dict",
    "audit_runs",
    "compare_runs",
    "compare_with_fleet",
    "comparison_as_dict",
    "dump_json",
    "fleet_as_dict",
    "gate_as_dict",
    "gate_runs",
    "print_audit",
    "print_comparison",
    "print_fleet",
    "render_github",
    "render_junit",
    "render_markdown",
    "render_sarif",
    "render_text",
    "summarise",
]
