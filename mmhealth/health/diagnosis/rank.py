"""From signs to a diagnosis: what is a cause, what follows from it, and how sure that is."""

import math
from collections.abc import Callable, Mapping

from mmhealth.health.diagnosis import agents, choices, contrast, faults, horizons, ratios, rewards
from mmhealth.health.diagnosis.answer import Diagnosis, Finding
from mmhealth.health.diagnosis.collapse import collapse
from mmhealth.health.diagnosis.modes import MODES
from mmhealth.health.diagnosis.record import FEWEST_STEPS, Record, open_record
from mmhealth.health.diagnosis.sign import Sign
from mmhealth.health.monitor import Monitor
from mmhealth.health.rows import Missing
from mmhealth.runlog import Run

SIGNS: dict[str, Callable[[Record], Sign]] = {
    "non-finite values": faults.nonfinite,
    "resume fault": faults.resume_fault,
    "tool-context variance growth": ratios.tool_context,
    "train-inference mismatch": ratios.mismatch,
    "staleness": ratios.staleness,
    "estimator collapse": collapse,
    "dead groups": contrast.dead_groups,
    "gradient domination": contrast.domination,
    "reward-component divergence": rewards.divergence,
    "serial collapse": agents.serial_collapse,
    "needless sub-agents": agents.needless,
    "horizon overfitting": horizons.overfitting,
    "premature specialisation": choices.premature,
}
"""What reads the sign of each mode."""

ON_ANY_STEP = ("non-finite values",)
"""Modes that one step is enough for."""
ON_ANY_RUN = (*ON_ANY_STEP, "resume fault")
"""Modes that can be judged of any log; alone they do not tell how training goes."""
PRESENT = 1.0
"""Strength from which on a mode is found."""
THIN = 0.75
"""Strength from which on its evidence is too much to call the run healthy."""
AS_STRONG = 2.0
"""Strengths beyond this count as equal: the order of the modes decides."""
TIE = 0.1
"""Difference of confidence within which two rivals that are not ruled out are tied."""
SLOPE, SHIFT = 4.0, 0.3
"""Of confidence = 1 / (1 + exp(-(SLOPE ln strength + SHIFT))), chosen on the runs that chose
thresholds. Signs and causes part there without overlap, so a fit would have no bound: these are
more cautious."""
SUREST = 0.98
"""Largest confidence: no more than a hundred runs can tell."""


def diagnose(source: Run | Monitor) -> Diagnosis:
    """The failure modes of a run as its log shows them (docs/diagnosis.md).

    Reads logged data alone: neither the configuration nor names, and no mode is found or ruled out
    by which columns there are. A `Monitor` saves computing the timeline anew, and with ``readings``
    it has read all that this takes.
    """
    record = open_record(source)
    unread = record.unread
    signs: dict[str, Sign] = {}
    missing: dict[str, str] = {}
    for name, read in SIGNS.items():
        if len(record) < FEWEST_STEPS and name not in ON_ANY_STEP:
            missing[name] = f"{len(record)} steps are complete, it takes {FEWEST_STEPS}"
            continue
        if unread and name not in ON_ANY_RUN:
            missing[name] = f"it is read from rows, and those of {unread} steps were reduced"
            continue
        try:
            sign = read(record)
        except Missing as reason:
            missing[name] = str(reason)
            continue
        if math.isnan(sign.strength):
            missing[name] = "too few values are known"
        else:
            signs[name] = sign
    return rank(signs, missing)


def rank(signs: Mapping[str, Sign], missing: Mapping[str, str]) -> Diagnosis:
    """The diagnosis that signs add up to; modes without one are ``missing``, with the reason."""
    found = {name: sign for name, sign in signs.items() if sign.strength >= PRESENT}
    findings = sorted((_finding(name, sign, found) for name, sign in found.items()), key=_order)
    thin = {name: s for name, s in signs.items() if THIN <= s.strength < PRESENT}
    borderline = sorted((_finding(name, sign, found) for name, sign in thin.items()), key=_order)
    clear = tuple(name for name in MODES if name in signs and signs[name].strength < THIN)

    def diagnosis(outcome: str, why: str) -> Diagnosis:
        return Diagnosis(
            outcome,  # type: ignore[arg-type]
            why,
            tuple(findings),
            tuple(borderline),
            clear,
            dict(missing),
        )

    if findings:
        tied = _tied(findings)
        if tied is not None:
            return diagnosis("undetermined", f"{tied[0]} and {tied[1]} explain the log as well")
        return diagnosis("diagnosed", f"{findings[0].mode}: {findings[0].evidence[0]}")
    if all(name in missing for name in SIGNS if name not in ON_ANY_RUN):
        return diagnosis("insufficient data", "; ".join(sorted(set(missing.values()))))
    if borderline:
        why = f"evidence is thin: {', '.join(item.mode for item in borderline)}"
        return diagnosis("undetermined", why)
    left = f"; {len(missing)} of {len(SIGNS)} modes could not be judged" if missing else ""
    return diagnosis("healthy", f"no failure mode shows{left}")


def confidence(strength: float) -> float:
    """How likely a mode with a sign of this strength is a cause of what a run suffers from."""
    if strength <= 0:
        return 0.0
    odds = SLOPE * math.log(min(strength, 10.0)) + SHIFT
    return min(1.0 / (1.0 + math.exp(-odds)), SUREST)


def _finding(name: str, sign: Sign, found: Mapping[str, Sign]) -> Finding:
    mode = MODES[name]
    causes = [
        other
        for other, cause in found.items()
        if other != name and name in MODES[other].explains and _comes_before(cause, sign)
    ]
    sure = confidence(sign.strength)
    return Finding(
        mode=name,
        about=mode.about,
        confidence=sure / 2 if causes else sure,
        strength=sign.strength,
        since=sign.since,
        evidence=sign.evidence,
        rivals=dict(sign.rivals),
        follows_from=causes[0] if causes else None,
        todo=mode.todo,
        import_line=mode.import_line,
        experimental=mode.experimental,
    )


def _comes_before(cause: Sign, consequence: Sign) -> bool:
    """Whether one could have brought about the other: it shows first, or nobody knows."""
    if cause.since is None or consequence.since is None:
        return True
    return cause.since < consequence.since or cause.strength >= AS_STRONG


def _order(finding: Finding) -> tuple[bool, float, int]:
    place = list(MODES).index(finding.mode)
    return finding.follows_from is not None, -min(finding.strength, AS_STRONG), place


def _tied(findings: list[Finding]) -> tuple[str, str] | None:
    """Two causes of about the same confidence that name each other and rule neither out."""
    if len(findings) < 2:
        return None
    one, two = findings[:2]
    if two.follows_from is not None or abs(one.confidence - two.confidence) > TIE:
        return None
    open_to = [one.rivals.get(two.mode, ""), two.rivals.get(one.mode, "")]
    if any(text.startswith("not ruled out") for text in open_to):
        return one.mode, two.mode
    return None
