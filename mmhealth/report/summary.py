"""A run in three sentences: what was found, why, and what to do. Made from the audit alone.

Nothing is said that the data do not hold: blame is quoted where a slice stands out beyond chance,
what-if where it predicts that the alert's threshold would not have been crossed.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from mmhealth.health import Alert, Rule
from mmhealth.health.alerts import describe_interval
from mmhealth.health.blame import Blame, Slice
from mmhealth.health.forecast import Forecast
from mmhealth.health.whatif import Answer, WhatIf
from mmhealth.report.audit import RunAudit
from mmhealth.report.dataloss import describe_data
from mmhealth.report.diagnosis_section import name_finding
from mmhealth.report.evidence import StepEvidence, basis_of, leading_alert
from mmhealth.report.words import capital, listed, name_metric, percent, show_value

NO_FIX = "The policy names no fix for this rule; docs/interventions.md lists what there is."
_OUTCOMES = ("reward", "success", "score", "near_miss")
"""Columns that follow from the outcome; another one beside them says more."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Three sentences about one run."""

    finding: str
    """The verdict, its failure mode, since when, and its number against the threshold."""
    why: str
    """What is behind it as far as the log tells: the diagnosis, then blame."""
    action: str
    """What to do."""

    @property
    def labelled(self) -> tuple[tuple[str, str], ...]:
        """The sentences, each with the words that stand before it."""
        return (("Finding", self.finding), ("Why", self.why), ("What to do", self.action))


def summarise(run: RunAudit) -> Summary:
    """The three sentences of a run."""
    alert = leading_alert(run.alerts)
    if run.verdict.name == "insufficient":
        return _insufficient(run, alert)
    if run.verdict.name == "healthy" or alert is None:
        return _healthy(run)
    return _sick(run, alert)


def _sick(run: RunAudit, alert: Alert) -> Summary:
    rule = run.monitor.policy.rule(alert.rule)
    at_alert = next((item for item in run.evidence if item.step == alert.step), None)
    cure = "" if at_alert is None else _cure(rule, alert, at_alert.what_if)
    action = " ".join(filter(None, (alert.fix or NO_FIX, cure)))
    if alert.state != "firing":
        action = f"Nothing fires now; should it come back: {action}"
    why = " ".join((*_diagnosis(run), _why(alert, at_alert)))
    return Summary(_sentences(_finding(run, alert, rule), _others(run, alert)), why, action)


def _finding(run: RunAudit, alert: Alert, rule: Rule) -> str:
    mode = alert.failure_mode or f"rule {alert.rule} is breached"
    since = f"since step {alert.pending_step}"
    within = "" if alert.interval is None else f" ({describe_interval(alert.interval)})"
    partial = " (an incomplete step)" if alert.partial else ""
    value, threshold = (show_value(alert.metric, v) for v in (alert.value, alert.threshold))
    smoothed = rule.mean_of > 1 or rule.falls_by is not None or rule.drift_fraction is not None
    mean = ", as a mean of several steps," if smoothed else ""
    words = (
        f"{name_metric(alert.metric)}{mean} was {value}{within} against a threshold of {threshold} "
        f"when the {alert.severity} rule {alert.rule} fired at step {alert.step}{partial}"
    )
    if alert.state != "firing":
        return f"{capital(mode)} {since}, over since step {alert.resolved_step}: {words}."
    return f"{capital(mode)} {since}: {words}{_now(run, alert, rule)}."


def _now(run: RunAudit, alert: Alert, rule: Rule) -> str:
    """Where the metric stands, for a rule that looks at single steps."""
    frame = run.monitor.timeline.frame
    last = int(frame["step"][-1])
    if rule.mean_of > 1 or rule.falls_by or rule.drift_fraction or last == alert.step:
        return ""
    value = frame[rule.metric][-1]
    stands = "is not known" if value is None else f"is {show_value(rule.metric, value)}"
    return f", and {stands} at step {last}, the last judged"


def _others(run: RunAudit, alert: Alert) -> list[str]:
    mode = next((m for m in run.verdict.failure_modes if m.name == alert.failure_mode), None)
    found = []
    if mode is not None and mode.first_step < alert.step:
        found.append(f"The first alert of this kind fired at step {mode.first_step}.")
    firing = [other for other in run.standing if other.state == "firing" and other is not alert]
    names = list(dict.fromkeys(other.rule for other in firing if other.rule != alert.rule))
    if names:
        others = "1 other rule fires" if len(names) == 1 else f"{len(names)} other rules fire"
        found.append(f"{others} too: {listed(names)}.")
    return found + _losses(run)


def _diagnosis(run: RunAudit) -> Iterable[str]:
    """The first guess with its strongest evidence; nothing where there is none."""
    first = run.diagnosis.first
    return () if first is None else (f"{name_finding(first)}: {first.evidence[0]}.",)


def _why(alert: Alert, evidence: StepEvidence | None) -> str:
    meaning = capital(alert.meaning) or "The policy does not say what this rule means."
    if basis_of(alert.metric) is None or evidence is None:
        return meaning
    if evidence.blame.whole is None:
        return f"{meaning} Which rows are behind it is not known: {evidence.blame.reason}."
    if not evidence.culprits:
        return f"{meaning} No slice of step {evidence.step} stands out beyond chance."
    return capital(_blames(evidence))


def _blames(evidence: StepEvidence) -> str:
    first, *rest = evidence.culprits
    found = [f"at step {evidence.step} {_holds(first, evidence.blame)}."]
    if first.column.startswith(_OUTCOMES):
        others = (item for item in rest if not item.column.startswith(_OUTCOMES))
        if (other := next(others, None)) is not None:
            found.append(f"Of what is no outcome, {_holds(other, evidence.blame)}.")
    return " ".join(found)


def _holds(item: Slice, blame: Blame) -> str:
    words = (
        f"the {percent(item.share_of_rows)} of rows with {item.column} = {item.slice} hold "
        f"{percent(item.share_of_sum_sq)} of the sum of squares that keeps the effective sample "
        f"size down ({blame.basis} basis)"
    )
    now = None if blame.whole is None else blame.whole.ess_fraction
    if now is None or item.without.ess_fraction is None:
        return words
    without = percent(item.without.ess_fraction)
    return f"{words}; without them it would be {without} of the other rows, not {percent(now)}"


def _cure(rule: Rule, alert: Alert, found: WhatIf) -> str:
    """What what-if says of the alert's metric at its step; empty where it says nothing of it."""
    logged = found.logged.get(rule.metric)
    if logged is None or not rule.is_worse(logged.logged, alert.threshold):
        return ""
    if not any(rule.metric in answer.effects for answer in found.answers):
        return f"What-if has too little data to say what would have helped at step {alert.step}."
    ranked = [answer for answer in found.answers if answer.rank is not None]
    cures = [answer for answer in ranked if _cures(answer, rule, alert)]
    threshold = show_value(rule.metric, alert.threshold)
    if not cures:
        return f"No option that what-if looks at would have reached {threshold} at that step."
    best = cures[0]
    effect = best.effects[rule.metric]
    then, now = show_value(rule.metric, effect.then), show_value(rule.metric, effect.logged)
    return (
        f"What-if: {best.title} would have moved {name_metric(rule.metric)}, over the rows of the "
        f"update at step {alert.step}, from {now} to {then} ({best.kind}), on the good side of the "
        f"threshold of {threshold}."
    )


def _cures(answer: Answer, rule: Rule, alert: Alert) -> bool:
    effect = answer.effects.get(rule.metric)
    return effect is not None and not rule.is_worse(effect.then, alert.threshold)


def _healthy(run: RunAudit) -> Summary:
    judged = run.monitor.rule_engine.judged_steps()
    known = sum(steps > 0 for steps in judged.values())
    finding = [
        f"No warning or critical alert fires at step {run.verdict.step}: {known} of {len(judged)} "
        f"rules could be judged, on up to {_count(max(judged.values(), default=0), 'step')}."
    ]
    over = [f"{a.rule} at step {a.step}" for a in run.standing if a.state == "resolved"]
    if over:
        finding.append(f"Fired and resolved: {listed(over, 4)}.")
    never = run.monitor.rule_engine.never_judged()
    if never:
        finding.append(f"Never judged for want of data: {listed(never)}.")
    if doubts := [doubt.rule for doubt in run.monitor.rule_engine.undecided()]:
        finding.append(f"Not decided by their intervals: {listed(doubts)}.")
    coming = sorted(run.forecasts, key=lambda item: item.steps)
    if coming:
        return Summary(_sentences(*finding, _losses(run)), _on_the_way(coming), _watch(run, coming))
    why = [
        *_diagnosis(run),
        "No trend of a rule's metric leads across its threshold within the steps forecast.",
    ]
    action = "Nothing, by the rules that could be judged."
    if (first := run.diagnosis.first) is not None:
        action = (
            f"No rule asks for anything; the diagnosis does: {first.todo} ({first.import_line})."
        )
    elif never:
        action = (
            f"Nothing, by the rules that could be judged; log what the other {len(never)} need "
            "(data quality says what is missing) to have those judged too."
        )
    return Summary(_sentences(*finding, _losses(run)), _sentences(*why, _at_rest(run)), action)


def _at_rest(run: RunAudit) -> list[str]:
    last = run.evidence[-1] if run.evidence else None
    if last is None or last.blame.whole is None:
        return []
    if not last.culprits:
        return [f"No slice of step {last.step} stands out beyond chance."]
    return [f"No rule minds it, but {_blames(last)}"]


def _on_the_way(coming: list[Forecast]) -> str:
    first = coming[0]
    more = f" {_count(len(coming) - 1, 'other forecast')} beside it." if len(coming) > 1 else ""
    return f"On the way, if the trend goes on: {first.message}{more}"


def _watch(run: RunAudit, coming: list[Forecast]) -> str:
    fix = run.monitor.policy.rule(coming[0].rule).fix or NO_FIX
    return f"Nothing yet by the rules; if the trend goes on: {fix}"


def _insufficient(run: RunAudit, alert: Alert | None) -> Summary:
    finding = [f"Nothing can be said of the training: {run.verdict.why}."]
    if alert is not None and alert.state == "firing":
        finding.append(alert.message)
    if not run.steps:
        return Summary(
            _sentences(*finding, _losses(run)),
            "There is no step to look at.",
            "Audit again once a step is complete on all ranks (mmhealth watch shows it live).",
        )
    rules = {rule.metric for rule in run.monitor.policy.rules}
    reasons = [m.reason for m in run.metrics if m.name in rules and not m.known and m.reason]
    why = "The rules lack rows or steps, not columns."
    if reasons:
        why = f"What is missing: {listed(list(dict.fromkeys(reasons)), 4, '; ')}."
    why = " ".join((*_diagnosis(run), why))
    action = (
        "Log what is missing (docs/recording.md: advantage, reward, group_id and log_weight tell "
        "most), or wait for more steps, and audit again."
    )
    return Summary(_sentences(*finding, _losses(run)), why, action)


def _losses(run: RunAudit) -> list[str]:
    lost = describe_data(run.status) if run.status.data_lost else []
    more = f" (and {len(lost) - 1:,} more: data quality)" if len(lost) > 1 else ""
    return [f"Data are missing, numbers are of what is left: {lost[0]}{more}."] if lost else []


def _sentences(*parts: str | Iterable[str]) -> str:
    flat = [text for part in parts for text in ([part] if isinstance(part, str) else part)]
    return " ".join(flat)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
