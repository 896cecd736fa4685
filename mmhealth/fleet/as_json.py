"""A fleet as JSON; docs/fleet.md describes every key."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mmhealth._version import __version__
from mmhealth.fleet.judge import Fleet
from mmhealth.fleet.summary import RunSummary

SCHEMA = 1
"""Raised when a key is removed or changes its meaning; new keys may come at any time."""


def fleet_summary_as_dict(fleet: Fleet, shown: Sequence[RunSummary]) -> dict[str, Any]:
    """A fleet as plain data, for `mmhealth.report.dump_json`."""
    return {
        "schema": SCHEMA,
        "mmhealth": __version__,
        "policy": {"source": fleet.policy.source},
        "verdicts": fleet.verdicts,
        "runs": [run_as_dict(run) for run in shown],
    }


def run_as_dict(run: RunSummary) -> dict[str, Any]:
    """One run as plain data."""
    lead = None if run.lead is None else asdict(run.lead) | {"steps": run.lead.steps}
    forecast = None if run.forecast is None else run.forecast.as_dict()
    return asdict(run) | {"lead": lead, "forecast": forecast}
