"""What a report is made of, whatever it is written in: sections of paragraphs, lists and tables."""

import re
from dataclasses import dataclass, field

_IMPORT = re.compile(r"(from [A-Za-z_][\w.]* import \w+(?:, \w+)*)")


@dataclass(frozen=True, slots=True)
class Badge:
    """A verdict or severity: critical, warning, info, healthy, insufficient."""

    word: str


@dataclass(frozen=True, slots=True)
class Code:
    """A name, or a line of code."""

    text: str


@dataclass(frozen=True, slots=True)
class Strong:
    """Words in bold."""

    text: str


Inline = str | Badge | Code | Strong
Words = Inline | tuple[Inline, ...]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Words."""

    words: Words


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list."""

    items: tuple[Words, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """Sentences, each with the word that it explains."""

    pairs: tuple[tuple[Words, Words], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table. Columns named in ``prose`` wrap; the others are short."""

    head: tuple[str, ...]
    rows: tuple[tuple[Words, ...], ...]
    prose: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Folded:
    """Blocks below a line that opens them; printed opened."""

    title: str
    blocks: tuple["Block", ...]


Block = Paragraph | Bullets | Terms | Table | Folded


@dataclass(frozen=True, slots=True)
class Section:
    """Blocks under a heading."""

    title: str
    blocks: tuple[Block, ...] = field(default=())
    alarm: bool = False
    """Something is wrong with the data themselves."""


def with_code(text: str) -> tuple[Inline, ...]:
    """Words of which import lines are code."""
    parts = _IMPORT.split(text)
    return tuple(Code(part) if i % 2 else part for i, part in enumerate(parts) if part)
