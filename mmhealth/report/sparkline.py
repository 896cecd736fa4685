"""A course of values as one line of block characters."""

from collections.abc import Sequence
from statistics import median

_BLOCKS = "▁▂▃▄▅▆▇█"
UNKNOWN = "·"


def sparkline(values: Sequence[float | None], width: int = 16) -> str:
    """At most ``width`` characters; ``·`` stands for steps at which nothing is known.

    Where several values share a character it shows the one furthest from the median of all, so a
    spike never disappears.
    """
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, high, middle = min(known), max(known), median(known)
    width = min(width, len(values))
    line = ""
    for slot in range(width):
        part = values[slot * len(values) // width : (slot + 1) * len(values) // width]
        inside = [value for value in part if value is not None]
        if not inside:
            line += UNKNOWN
            continue
        shown = max(inside, key=lambda value: abs(value - middle))
        level = 0 if high == low else round((shown - low) / (high - low) * (len(_BLOCKS) - 1))
        line += _BLOCKS[level]
    return line
