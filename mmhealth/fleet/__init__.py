"""Many runs at a glance: each judged by one policy, one line a run (docs/fleet.md)."""

from mmhealth.fleet.as_json import fleet_summary_as_dict
from mmhealth.fleet.find import find_runs
from mmhealth.fleet.headroom import WorstMetric, worst_metric
from mmhealth.fleet.judge import Fleet, judge_fleet, judge_one, judge_runs
from mmhealth.fleet.page import render_fleet_page
from mmhealth.fleet.pages import write_pages
from mmhealth.fleet.prune import prune_runs
from mmhealth.fleet.select import select_runs
from mmhealth.fleet.summary import RunSummary, summarise_run
from mmhealth.fleet.terminal import fleet_markdown, print_fleet_table

__all__ = [
    "Fleet",
    "RunSummary",
    "WorstMetric",
    "find_runs",
    "fleet_markdown",
    "fleet_summary_as_dict",
    "judge_fleet",
    "judge_one",
    "judge_runs",
    "print_fleet_table",
    "prune_runs",
    "render_fleet_page",
    "select_runs",
    "summarise_run",
    "worst_metric",
    "write_pages",
]
