"""The audit as one page of Markdown, for a pull request or a wiki (GitHub's dialect)."""

import re
from collections.abc import Iterable

from mmhealth._version import __version__
from mmhealth.report.audit import Audit
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
from mmhealth.report.data_sections import course_table
from mmhealth.report.sections import closing_sections, run_sections, summary_blocks

_SPECIAL = re.compile(r"[\\*\[\]~`|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""Markup; an underscore inside a word is none."""
_ENTITIES = {char: f"&#{ord(char)};" for char in "&<>@#$"}
"""Markup, mentions, references to issues, and formulas."""
_LIST = re.compile(r"^([-+=]|\d+[.)])")


def render_markdown(audit: Audit) -> str:
    """The page: what the HTML report says, in its order, with courses in place of figures."""
    lines = [f"# mmhealth audit: {audit.verdict}"]
    for run in audit.runs:
        lines += ["", f"## {_text(run.label)}: {run.verdict.name}"]
        lines += _blocks(summary_blocks(run))
    for run in audit.runs:
        lines += ["", f"## {_text(run.label)} in detail"]
        if run.steps:
            lines += ["", "### Courses", *_table(course_table(run))]
        lines += [line for section in run_sections(run) for line in _section(section, "###")]
    lines += [line for section in closing_sections(audit) for line in _section(section, "##")]
    lines += ["", f"mmhealth {__version__}; judged by {_text(audit.policy.source)}"]
    return "\n".join(lines) + "\n"


def _section(section: Section, level: str) -> list[str]:
    return ["", f"{level} {_text(section.title)}", *_blocks(section.blocks)]


def _blocks(blocks: Iterable[Block]) -> list[str]:
    return [line for block in blocks for line in _block(block)]


def _block(block: Block) -> list[str]:
    match block:
        case Paragraph():
            return ["", _begin(_words(block.words))]
        case Bullets():
            return ["", *(f"- {_begin(_words(item))}" for item in block.items)]
        case Terms():
            return [line for term, words in block.pairs for line in _term(term, words)]
        case Table():
            return _table(block)
        case Folded():
            title = _text(block.title)
            head = ["", "<details>", f"<summary>{title}</summary>"]
            return [*head, *_blocks(block.blocks), "", "</details>"]


def _term(term: Words, words: Words) -> list[str]:
    return ["", f"**{_words(term)}.** {_words(words)}"]


def _table(table: Table) -> list[str]:
    rule = "|" + "---|" * len(table.head)
    rows = (tuple(_words(cell) for cell in row) for row in table.rows)
    return ["", _row([_text(name) for name in table.head]), rule, *(_row(row) for row in rows)]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _words(words: Words) -> str:
    return "".join(_inline(part) for part in (words if isinstance(words, tuple) else (words,)))


def _inline(part: Inline) -> str:
    match part:
        case Badge():
            return f"**{_text(part.word)}**"
        case Strong():
            return f"**{_text(part.text)}**"
        case Code():
            return _code(part.text)
        case _:
            return _text(part)


def _code(text: str) -> str:
    """A span of code; as plain text where it has characters that a span in a table cannot hold."""
    plain = " ".join(text.split())
    return _text(plain) if not plain or set("`|\\") & set(plain) else f"`{plain}`"


def _text(text: str) -> str:
    """Text on one line that is no markup; a space at either end stays."""
    entities = "".join(_ENTITIES.get(char, char) for char in text)
    return re.sub(r"\s+", " ", _SPECIAL.sub(r"\\\g<0>", entities))


def _begin(text: str) -> str:
    """Text that begins a line: no list, no heading's underline."""
    return _LIST.sub(lambda found: found[0][:-1] + "\\" + found[0][-1], text.lstrip())
