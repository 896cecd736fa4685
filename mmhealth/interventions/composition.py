"""One reward out of several components, some of which may still be pending.

Bias: a row with a pending component is judged by the others alone, so its reward is on another
scale than its neighbours' until the component arrives. Cost: one pass over the components.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mmhealth.interventions.arrays import FloatArray, vector


def compose(weights: Mapping[str, float], components: Mapping[str, npt.ArrayLike]) -> FloatArray:
    """Weighted mean of the components of each row: (rows,) float64.

    NaN in a component means that it is pending: the row is composed of its other components, with
    their weights renormalised, and is NaN where nothing that has a weight is present. A component
    of weight 0 may be left out. Raises ValueError for one that is unknown, infinite, of another
    length, or missing though it has a weight.
    """
    unknown = sorted(components.keys() - weights.keys())
    missing = sorted(name for name, w in weights.items() if w > 0 and name not in components)
    if unknown:
        raise ValueError(f"components: {unknown} unknown; known: {sorted(weights)}")
    if missing:
        raise ValueError(f"components: {missing} missing; give NaN for rows that are pending")
    if not components:
        raise ValueError("components: none given; without one the number of rows is not known")
    columns: dict[str, FloatArray] = {}
    for name, values in components.items():
        rows = len(next(iter(columns.values()))) if columns else None
        columns[name] = vector(values, f"components[{name!r}]", rows, pending=True)
    known = np.stack(list(columns.values()))
    present = ~np.isnan(known)
    weight: FloatArray = (
        np.array([weights[name] for name in columns], dtype=np.float64)[:, None] * present
    )
    total: FloatArray = weight.sum(0)
    summed: FloatArray = (weight * np.where(present, known, 0.0)).sum(0)
    return np.divide(summed, total, out=np.full_like(total, np.nan), where=total > 0)
