"""Old steps without their rows: what was measured of them, and sketches of their columns, stay."""

from mmhealth.retention.quantiles import course_of_quantiles, step_sketch, step_sketches
from mmhealth.retention.reduce import Keep, Reduction, reduce_run

__all__ = ["Keep", "Reduction", "course_of_quantiles", "reduce_run", "step_sketch", "step_sketches"]
