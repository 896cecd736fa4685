"""`PassedStep`: a step that is not measured, at no cost."""

from types import TracebackType
from typing import NoReturn, Self

from mmhealth.errors import GradNormError
from mmhealth.gradnorm.step import StepNorms


class PassedStep(StepNorms):
    """Nothing is intercepted; reading a norm raises `GradNormError`."""

    measured = False

    def __init__(self, every: int) -> None:
        self._every = every

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing was open."""

    def part(self, index: int) -> None:
        """Nothing begins."""

    def verify(self, *_: object, **__: object) -> list[int]:
        """Nothing is verified: no trajectory is chosen."""
        return []

    def _read(self) -> NoReturn:
        raise GradNormError(
            f"this step was not measured: Sampled(every={self._every}). Ask norms.measured first"
        )
