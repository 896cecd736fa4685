"""One layer for ESS and variance, which the article says it would build today."""

from mmhealth.reference.experiments.arms.orchestrator import WORLD
from mmhealth.reference.experiments.claims.base import Claim, Criterion
from mmhealth.reference.experiments.claims.criteria import better, not_worse
from mmhealth.reference.experiments.results import Results


def _alone(results: Results) -> list[Criterion]:
    return [
        not_worse(
            "F2: unified minus ESS loop, held-out success",
            results.final("2", "unified"),
            results.final("2", "ESS loop"),
        ),
        not_worse(
            "F3: unified minus variance correction, held-out success",
            results.final("3", "unified"),
            results.final("3", "variance correction"),
        ),
    ]


def _orchestrator(results: Results) -> list[Criterion]:
    unified = results.final(WORLD, "unified")
    return [
        better(
            f"orchestrator: unified minus {name}, held-out success",
            unified,
            results.final(WORLD, name),
        )
        for name in ("ess", "variance")
    ] + [
        not_worse(
            "orchestrator: all fixes, unified in place of two, minus all",
            results.final(WORLD, "all, unified"),
            results.final(WORLD, "all"),
        )
    ]


CLAIMS = (
    Claim(
        name="unified layer",
        figure="unified",
        text="One layer does what the ESS loop does on F2 and what the correction does on F3.",
        criteria=_alone,
    ),
    Claim(
        name="unified layer, all failures",
        figure="unified",
        text="Where all failures meet, one layer is better than either of the two alone.",
        criteria=_orchestrator,
    ),
)
