"""Figure 3, gradient inequality: the correction, its two terms, and what else might do."""

from dataclasses import replace

from mmhealth.reference.config import Fixes
from mmhealth.reference.experiments.arms.base import (
    Arm,
    checked,
    with_fixes,
    with_world,
)
from mmhealth.reference.presets import mixed_sources, preset


def arms() -> tuple[Arm, ...]:
    """One mixture of sources, and one that changes half way."""
    baseline = preset("F3", "baseline")
    fix = preset("F3", "variance").fixes
    correction = fix.variance
    assert correction is not None
    variations = {
        "variance correction": (fix, "contributions over source spread and sqrt(length)"),
        "source spread alone": (
            Fixes(variance=replace(correction, by_length=False)),
            "the correction without its length term",
        ),
        "sqrt(length) alone": (
            Fixes(variance=replace(correction, by_source=False)),
            "the correction without its source term",
        ),
        "per-task normalisation": (
            Fixes(bucket="capability"),
            "contributions of equal spread in every capability, whatever the source",
        ),
        "by capability": (
            replace(fix, bucket="capability"),
            "the correction, then equal spread in every capability",
        ),
        "by modality": (
            replace(fix, bucket="modality"),
            "the correction, then equal spread in every modality",
        ),
        "minimum-variance baseline": (
            Fixes(minimum_variance=True),
            "group means weighted by squared score norms, nothing else",
        ),
        "unified": (preset("F3", "unified").fixes, "one layer for ESS and variance"),
    }
    ordinary = [
        Arm(figure="3", name=name, about=about, config=with_fixes(baseline, fixes))
        for name, (fixes, about) in variations.items()
    ]
    plain = Arm(figure="3", name="baseline", about="group mean only", config=baseline, against=None)
    return checked([plain, *ordinary, *_changing(fix)])


def _changing(fix: Fixes) -> list[Arm]:
    """The loud source comes in half way, or not at all."""
    changing = mixed_sources.changing()
    steady = with_world(changing, later_mixture=None)
    plain = Arm(
        figure="3",
        name="steady mixture",
        about="no prompts for the loudest source, ever",
        config=steady,
        against=None,
    )
    corrected = "steady mixture, corrected"
    return [
        plain,
        Arm(
            figure="3",
            name="changing mixture",
            about="a quarter of the prompts goes to the loudest source half way",
            config=changing,
            against=plain.name,
        ),
        Arm(
            figure="3",
            name=corrected,
            about="the correction where the mixture stays",
            config=with_fixes(steady, fix),
            against=plain.name,
        ),
        Arm(
            figure="3",
            name="changing mixture, corrected",
            about="the correction under the same change",
            config=with_fixes(changing, fix),
            against=corrected,
        ),
    ]
