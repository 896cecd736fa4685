"""Blame and what-if as sections of a report."""

from mmhealth.health.blame import Blame, Slice
from mmhealth.health.pairs import RULED_OUT
from mmhealth.health.whatif import METRICS, WhatIf
from mmhealth.report.audit import RunAudit
from mmhealth.report.blame import SEEN, describe_blame
from mmhealth.report.blocks import Block, Bullets, Folded, Paragraph, Section, Strong, Table, Words
from mmhealth.report.evidence import StepEvidence
from mmhealth.report.whatif import describe_best, describe_grounds, describe_silence

SHOWN = 6
"""Slices and options shown of each step."""


def blame_section(run: RunAudit) -> Section | None:
    """Which slices hold the effective sample size down, step by step."""
    blocks = [block for found in run.evidence for block in _blame(found)]
    if not blocks:
        return None
    about = (
        "Blame is the share of sum x² that a slice holds beyond its share of the rows, as far as "
        "chance does not explain it. It says who holds the update, not why. mmhealth blame lists "
        "more slices, and two columns together."
    )
    return Section("Who is to blame", (Paragraph(about), *blocks))


def what_if_section(run: RunAudit) -> Section | None:
    """What each fix would have made of the same steps."""
    blocks = [block for found in run.evidence for block in _what_if(found)]
    if not blocks:
        return None
    about = (
        "From the log alone, with its rollouts and parameters: what the numbers of the step would "
        "have been, not where the run would have gone."
    )
    return Section("What would have helped", (Paragraph(about), *blocks))


def _step(found: StepEvidence) -> Paragraph:
    return Paragraph((Strong(f"Step {found.step}"), f" ({found.occasion})"))


def _blame(found: StepEvidence) -> list[Block]:
    blame = found.blame
    blocks: list[Block] = [_step(found), Bullets(tuple(describe_blame(blame)))]
    seen = [item for item in blame.slices if item.blame >= SEEN][:SHOWN]
    if blame.whole is not None and not seen:
        none = "No slice is to blame: none holds more than chance gives some slice."
        blocks.append(Paragraph(none))
    if seen:
        blocks.append(_blame_table(blame, seen))
    if blame.skipped:
        skipped = tuple(f"{name}: {why}" for name, why in blame.skipped.items())
        blocks.append(Folded("Columns not sliced by", (Bullets(skipped),)))
    return blocks


def _blame_table(blame: Blame, slices: list[Slice]) -> Table:
    head = (
        "slice", "blame", "rows", "sum x²", "ESS without", "Gini without", "top 5 % without",
    )  # fmt: skip
    rows: list[tuple[Words, ...]] = []
    if (whole := blame.whole) is not None:
        now = (whole.ess_fraction, whole.gini, whole.top5_share)
        rows.append(("all rows", "", "", "", *_metrics(*now)))
    for item in slices:
        left = item.without
        rows.append(
            (
                f"{item.column} = {item.slice}",
                f"{item.blame:.2f}" + (" (may be chance)" if item.chance > RULED_OUT else ""),
                f"{item.share_of_rows:.1%}",
                f"{item.share_of_sum_sq:.1%}",
                *_metrics(left.ess_fraction, left.gini, left.top5_share),
            )
        )
    return Table(head, tuple(rows), prose=("slice",))


def _metrics(ess: float | None, gini: float | None, top: float | None) -> tuple[str, str, str]:
    return (
        "" if ess is None else f"{ess:.1%}",
        "" if gini is None else f"{gini:.2f}",
        "" if top is None else f"{top:.1%}",
    )


def _what_if(found: StepEvidence) -> list[Block]:
    result = found.what_if
    blocks: list[Block] = [_step(found), Paragraph(describe_best(result))]
    ranked = [answer for answer in result.answers if answer.rank is not None][:SHOWN]
    if ranked:
        head = (
            "", "would be", "contribution ESS", "signal ESS", "weight ESS", "Gini", "top 5 %",
            "kind",
        )  # fmt: skip
        logged = {name: effect.logged for name, effect in result.logged.items()}
        rows: list[tuple[Words, ...]] = [("", "as logged", *_cells(logged), "")]
        for answer in ranked:
            then = {name: effect.then for name, effect in answer.effects.items()}
            rows.append((str(answer.rank), answer.title, *_cells(then), str(answer.kind)))
        blocks.append(Table(head, tuple(rows), prose=("would be",)))
    blocks.append(Folded("Options without a gain, and grounds", (Bullets(_rest(result)),)))
    return blocks


def _rest(result: WhatIf) -> tuple[str, ...]:
    others = [answer for answer in result.answers if answer.rank is None]
    none = [answer.title for answer in others if answer.effects and not answer.against]
    silent = tuple(f"{a.title}: {describe_silence(a)}" for a in others if not a.effects)
    gain = (f"no gain: {', '.join(none)}",) if none else ()
    return (*gain, *silent, *describe_grounds(result))


def _cells(values: dict[str, float]) -> tuple[str, ...]:
    formats = {name: ".3f" if name == "gini_grad_norm" else ".1%" for name in METRICS}
    return tuple(format(values[n], how) if n in values else "" for n, how in formats.items())
