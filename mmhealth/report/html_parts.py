"""Blocks of a report as HTML; every text is escaped."""

import re
from collections.abc import Iterable
from html import escape

from mmhealth.report.audit import RunAudit
from mmhealth.report.blocks import (
    Badge,
    Block,
    Bullets,
    Code,
    Folded,
    Inline,
    Paragraph,
    Section,
    Strong,
    Table,
    Terms,
    Words,
)
from mmhealth.report.sections import run_sections, summary_blocks

_PERCENT = re.compile(r"(?<=\d) %")
"""Whose number must not stand on another line."""


def run_summary(run: RunAudit, number: int) -> str:
    """Verdict and three sentences of one run."""
    verdict = run.verdict.name
    return (
        f'<section class="run" aria-labelledby="run-{number}">'
        f'<h2 id="run-{number}">{_badge(verdict)} {escape(run.label)}</h2>'
        f"{_blocks(summary_blocks(run))}</section>"
    )


def run_details(run: RunAudit) -> str:
    """All else about one run but its figures."""
    parts = "\n".join(section_html(section, "h3") for section in run_sections(run))
    return f'<section class="details"><h2>{escape(run.label)} in detail</h2>\n{parts}\n</section>'


def section_html(section: Section, level: str) -> str:
    """A section under a heading of this level."""
    kind = ' class="loss"' if section.alarm else ""
    title = f"<{level}>{escape(section.title)}</{level}>"
    return f"<div{kind}>{title}{_blocks(section.blocks)}</div>"


def _blocks(blocks: Iterable[Block]) -> str:
    return "".join(_block(block) for block in blocks)


def _block(block: Block) -> str:
    match block:
        case Paragraph():
            return f"<p>{_words(block.words)}</p>"
        case Bullets():
            items = "".join(f"<li>{_words(item)}</li>" for item in block.items)
            return f"<ul>{items}</ul>" if items else ""
        case Terms():
            pairs = (f"<dt>{_words(a)}</dt><dd>{_words(b)}</dd>" for a, b in block.pairs)
            return f'<dl class="sentences">{"".join(pairs)}</dl>'
        case Table():
            return _table(block)
        case Folded():
            inside = _blocks(block.blocks)
            return f"<details><summary>{escape(block.title)}</summary>{inside}</details>"


def _table(table: Table) -> str:
    prose = [' class="prose"' if name in table.prose else "" for name in table.head]
    head = "".join(
        f'<th scope="col"{kind}>{escape(name)}</th>'
        for name, kind in zip(table.head, prose, strict=True)
    )
    rows = "".join(
        f"<tr>{''.join(f'<td{k}>{_words(cell)}</td>' for cell, k in zip(row, prose, strict=True))}"
        "</tr>"
        for row in table.rows
    )
    label = escape(", ".join(name for name in table.head if name))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Table: {label}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _words(words: Words) -> str:
    return "".join(_inline(part) for part in (words if isinstance(words, tuple) else (words,)))


def _inline(part: Inline) -> str:
    match part:
        case Badge():
            return _badge(part.word)
        case Strong():
            return f"<b>{escape(part.text)}</b>"
        case Code():
            return f"<code>{escape(part.text)}</code>"
        case _:
            return _PERCENT.sub("\u00a0%", escape(part))


def _badge(word: str) -> str:
    return f'<span class="verdict {escape(word)}">{escape(word)}</span>'
