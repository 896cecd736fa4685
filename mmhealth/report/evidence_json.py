"""Blame and what-if of an audit as plain data; docs/audit-json.md describes the keys."""

from dataclasses import asdict
from typing import Any

from mmhealth.health.blame import Blame
from mmhealth.health.whatif import WhatIf
from mmhealth.report.blame import SHOWN
from mmhealth.report.evidence import StepEvidence
from mmhealth.report.whatif import answer_as_dict


def evidence_as_dict(found: StepEvidence) -> dict[str, Any]:
    """What explains one step: the slices most to blame, and every option of what-if."""
    return {
        "step": found.step,
        "occasion": found.occasion,
        "blame": _blame(found.blame),
        "what_if": _what_if(found.what_if),
    }


def _blame(blame: Blame) -> dict[str, Any]:
    return {
        "basis": blame.basis,
        "reason": blame.reason,
        "nonfinite": blame.nonfinite,
        "largest_share": blame.largest_share,
        "whole": None if blame.whole is None else asdict(blame.whole),
        "slices": [asdict(item) for item in blame.slices[:SHOWN]],
    }


def _what_if(result: WhatIf) -> dict[str, Any]:
    logged = {name: effect.logged for name, effect in result.logged.items()}
    return {
        "rows": result.rows,
        "ranked_by": result.ranked_by,
        "logged": logged,
        "reasons": result.reasons,
        "solved_groups": result.solved_groups,
        "failed_groups": result.failed_groups,
        "notes": list(result.notes),
        "options": [answer_as_dict(answer) for answer in result.answers],
    }
