"""Writes the tables that the docs quote."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

DOCS = Path(__file__).parent.parent / "docs" / "benchmarks"


def machine() -> str:
    """What the figures were measured on, in a sentence."""
    today = datetime.now(UTC).date()
    return f"Measured on {today} with {os.cpu_count()} cores, Python {platform.python_version()}."


def write_table(
    name: str,
    title: str,
    about: str,
    header: list[str],
    rows: list[list[str]],
    *,
    command: str | None = None,
) -> None:
    """Print a Markdown table and write it to docs/benchmarks/; ``command`` is what wrote it, where
    that is more than the script of the same name."""
    table = markdown_table(header, rows)
    written = f"Written by `benchmarks/{command or f'bench_{name}.py'}`."
    text = f"# {title}\n\n{about}\n{written}\n\n{table}\n"
    DOCS.mkdir(parents=True, exist_ok=True)
    (DOCS / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bootstrap_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the median, by resampling."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (10_000, len(values))), axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(medians, [tail, 1 - tail])
    return float(low), float(high)
