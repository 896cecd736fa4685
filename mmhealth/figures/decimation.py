"""Decimation that keeps every spike: a curve of many points drawn with few."""

from typing import Any

import numpy as np

Indices = np.ndarray[Any, np.dtype[np.int64]]
Array = np.ndarray[Any, Any]

Window = tuple[float, float]
"""A range of the x axis."""


def decimate(y: Array, points: int = 1000) -> Indices:
    """Ascending indices of at most ``points`` of the values y (n,); all n when they are that few.

    The values are cut into equal stretches, and of each stays its smallest and its largest finite
    value, and one value that is not finite if it has any, so that a gap stays a gap. The first and
    the last value stay. Raises ValueError for fewer than 8 points.
    """
    if points < 8:
        raise ValueError(f"points: {points} are too few, 8 are needed")
    n = len(y)
    if n <= points:
        return np.arange(n, dtype=np.int64)
    values = np.asarray(y, np.float64)
    stretches = (points - 2) // 3
    edges = np.linspace(0, n, stretches + 1).astype(np.int64)
    finite = np.isfinite(values)
    starts = edges[:-1]
    stretch = np.searchsorted(edges, np.arange(n), side="right") - 1
    low = np.minimum.reduceat(np.where(finite, values, np.inf), starts)
    high = np.maximum.reduceat(np.where(finite, values, -np.inf), starts)
    kept = [np.array([0, n - 1])]
    for wanted in (finite & (values == low[stretch]), finite & (values == high[stretch]), ~finite):
        candidates = np.flatnonzero(wanted)
        _, first = np.unique(stretch[candidates], return_index=True)
        kept.append(candidates[first])
    return np.unique(np.concatenate(kept)).astype(np.int64)


def decimate_window(x: Array, y: Array, window: Window | None, points: int = 1000) -> Indices:
    """Indices as `decimate` gives, with full detail where the eye is.

    Inside ``window`` (a range of x, which ascends) up to ``points`` stay, outside up to a quarter
    of that on either side.
    """
    n = len(x)
    if window is None or n <= points:
        return decimate(y, points)
    first = max(int(np.searchsorted(x, min(window), side="left")) - 1, 0)
    last = min(int(np.searchsorted(x, max(window), side="right")) + 1, n)
    coarse = max(points // 4, 8)
    return np.concatenate(
        [
            decimate(y[:first], coarse),
            first + decimate(y[first:last], points),
            last + decimate(y[last:], coarse),
        ]
    )
