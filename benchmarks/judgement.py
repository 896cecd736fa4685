"""What the default policy is worth on a fleet of labelled runs: harm seen coming, false alarms.

    python benchmarks/fleet.py FOLDER
    python benchmarks/judgement.py FOLDER

Half of the fleet's seeds choose thresholds, the other half judges them. Writes
docs/benchmarks/judgement.md.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fleet import ARMS, CHOOSING, JUDGING, Member, courses, members, reachable
from tables import write_table

from mmhealth.errors import CalibrationError
from mmhealth.health import default_policy
from mmhealth.health.calibration import Course, Score, calibrate, score
from mmhealth.health.rules import Rule

TARGET = 1 / 1000
NAIVE = Rule(name="naive", metric="ess_signal", below=0.2, severity="critical")
"""The article's line, without persistence, excuse or a least number of rows."""


def labels(runs: Sequence[Course]) -> str:
    """How many runs of each figure came to what."""
    parts = []
    for figure in ARMS:
        kinds = Counter(course.harm.kind for course in runs if course.family == figure)
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        parts.append(f"{figure}: {counts}")
    return "; ".join(parts)


def line(name: str, found: Score) -> list[str]:
    detection, false = found.detection, found.false_per_1000
    share = found.runs_with_false_alarms
    return [
        name,
        f"{found.detected} of {found.sick}" if found.sick else "",
        f"{detection[0]:.0%} ({detection[1]:.0%} to {detection[2]:.0%})" if detection else "",
        f"{found.lead:g} ({found.leads[0]} to {found.leads[-1]})" if found.lead is not None else "",
        f"{false:.2g} (at most {found.false_per_1000_upper:.2g})" if false is not None else "",
        f"{found.healthy_steps:,}",
        f"{share[0]:.0%} (at most {share[2]:.0%})" if share else "",
    ]


def rows(runs: Sequence[Course], chosen: Sequence[Course]) -> list[list[str]]:
    """The default policy rule by rule, packs, and what calibration makes of them."""
    policy = default_policy()
    table = [line(rule.name, score([rule], runs)) for rule in policy.rules]
    critical = [rule for rule in policy.rules if rule.severity == "critical"]
    table.append(line("**critical rules together**", score(critical, runs)))
    for figure in ARMS:
        own = [course for course in runs if course.family == figure]
        table.append(line(f"critical rules, world {figure}", score(critical, own)))
    table.append(line("naive: ess_signal < 0.2", score([NAIVE], runs)))
    try:
        moved = calibrate(chosen, policy, TARGET).policy.rules
    except CalibrationError as error:
        print(error)
        return table
    after = [rule for rule in moved if rule.severity == "critical"]
    table.append(line("critical rules, calibrated on the other half", score(after, runs)))
    return table


def existing(folder: Path, seeds: Sequence[int]) -> list[Member]:
    """Runs of the fleet that are there."""
    return [member for member in members(folder, seeds) if (member.path / "done").exists()]


if __name__ == "__main__":
    fleet = Path(sys.argv[1])
    chose, judge = existing(fleet, CHOOSING), existing(fleet, JUDGING)
    levels = reachable(chose)
    judged, choosing = courses(judge, levels), courses(chose, levels)
    write_table(
        "judgement",
        "What the default policy is worth",
        f"{len(judged)} runs of the reference trainer on seeds that chose no threshold, labelled "
        f"by held-out success (docs/calibration.md; {labels(judged)}). *Sees*: an alert stands "
        "when the harm comes. *False*: alarms per 1,000 steps of healthy runs at which one could "
        "fire, with a one-sided 95 % bound; the last column counts healthy runs with any.",
        ["rule", "sees", "share (95 %)", "median lead", "false", "healthy steps", "runs"],
        rows(judged, choosing),
    )
