"""The numbers of the report: arms with their differences, claims with their verdicts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mmhealth.reference.experiments.arms import Arm
from mmhealth.reference.experiments.claims import Verdict
from mmhealth.reference.experiments.results import Results
from mmhealth.reference.experiments.statistics import Difference, Summary, paired, summarise


@dataclass(frozen=True, slots=True)
class ArmRow:
    """Held-out success of an arm's trained policies."""

    arm: Arm
    success: Summary | None
    difference: Difference | None
    """To the arm it is compared with; None: to none, or there are no common seeds."""
    decisions: float | None
    """Decisions sampled in a run, mean over seeds."""
    seconds: float | None
    """A run took on one core, mean over seeds."""
    code: frozenset[str]
    """Versions of the code that its runs were made by."""


def arm_rows(arms: Sequence[Arm], results: Results) -> list[ArmRow]:
    """A row for each arm."""
    rows = []
    for arm in arms:
        runs = results.of(arm.figure, arm.name)
        success = results.final(arm.figure, arm.name)
        against = results.final(arm.figure, arm.against) if arm.against else {}
        seconds = summarise(run.content["seconds"] for run in runs.values())
        decisions = summarise(float(run.series("decisions").sum()) for run in runs.values())
        rows.append(
            ArmRow(
                arm,
                summarise(success.values()),
                paired(success, against) if arm.against else None,
                decisions.mean if decisions else None,
                seconds.mean if seconds else None,
                frozenset(run.content.get("code", "unknown") for run in runs.values()),
            )
        )
    return rows


def as_json(
    rows: Sequence[ArmRow], verdicts: Sequence[Verdict], seeds: Sequence[int]
) -> dict[str, Any]:
    """All of it in plain containers; what is not known is null."""
    return {
        "schema": 1,
        "seeds": list(seeds),
        "code": sorted({one for row in rows for one in row.code}),
        "arms": [
            {
                "figure": row.arm.figure,
                "arm": row.arm.name,
                "about": row.arm.about,
                "against": row.arm.against,
                "success": asdict(row.success) if row.success else None,
                "difference": asdict(row.difference) if row.difference else None,
                "decisions": row.decisions,
                "seconds": row.seconds,
            }
            for row in rows
        ],
        "claims": [
            {
                "claim": verdict.claim.name,
                "figure": verdict.claim.figure,
                "text": verdict.claim.text,
                "verdict": verdict.name,
                "because": verdict.because,
                "criteria": [asdict(one) for one in verdict.criteria],
            }
            for verdict in verdicts
        ],
    }
