"""Evidence of estimator collapse: the batch stops saying anything, by its weights or its groups."""

from mmhealth.health.diagnosis import contrast, ratios
from mmhealth.health.diagnosis.record import Record
from mmhealth.health.diagnosis.sign import Sign
from mmhealth.health.rows import Missing


def collapse(record: Record) -> Sign:
    """The stronger of two: weights degenerate on a fresh batch, or contrast that fades away."""
    found: list[Sign] = []
    reasons: list[str] = []
    for read in (ratios.degenerate, contrast.lost_contrast):
        try:
            found.append(read(record))
        except Missing as reason:
            reasons.append(str(reason))
    if not found:
        raise Missing(", ".join(reasons))
    return max(found, key=lambda sign: sign.strength)
