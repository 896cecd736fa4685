"""The diagnosis as a section of a report, and in a few words."""

from mmhealth.health.diagnosis import Diagnosis, Finding
from mmhealth.report.audit import RunAudit
from mmhealth.report.blocks import Block, Bullets, Code, Folded, Paragraph, Section, Strong, Words
from mmhealth.report.words import capital


def diagnosis_section(run: RunAudit) -> Section:
    """Named failure modes with their evidence, the rivals, and what could not be judged."""
    found = run.diagnosis
    blocks: list[Block] = [Paragraph(describe_outcome(found))]
    for item in found.findings:
        blocks += [_headline(item), Bullets(_details(item))]
    if found.insufficient:
        unknown = tuple((Strong(name), f": {why}") for name, why in found.insufficient.items())
        title = f"{len(unknown)} failure modes could not be judged"
        blocks.append(Folded(title, (Bullets(unknown),)))
    if found.ruled_out:
        blocks.append(Paragraph(f"No sign of {', '.join(found.ruled_out)}."))
    return Section("Diagnosis", tuple(blocks))


def describe_outcome(found: Diagnosis) -> str:
    """What the diagnosis comes to, in a sentence."""
    if found.first is not None:
        return f"{name_finding(found.first)}."
    if found.outcome == "healthy":
        return f"{capital(found.why)}."
    return f"{capital(found.outcome)}: {found.why}."


def name_finding(item: Finding) -> str:
    """A failure mode with its confidence: ``Staleness (confidence 92 %, since step 4)``."""
    since = "" if item.since is None else f", since step {item.since}"
    tried = ", experimental" if item.experimental else ""
    return f"{capital(item.mode)} (confidence {item.confidence:.0%}{since}{tried})".replace(
        "%", " %"
    )


def _headline(item: Finding) -> Paragraph:
    cause = "" if item.follows_from is None else f" It may follow from {item.follows_from}."
    return Paragraph((Strong(name_finding(item)), f". {item.about}{cause}"))


def _details(item: Finding) -> tuple[Words, ...]:
    rivals = ((f"Not {rival}? ", verdict) for rival, verdict in item.rivals.items())
    todo: Words = (Strong("What to do:"), f" {item.todo} ", Code(item.import_line))
    return (*item.evidence, *rivals, todo)
