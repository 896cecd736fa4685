"""What the guard survives, and how often it says so."""

from collections.abc import Callable

import pytest
from polars.exceptions import PanicException

from mmhealth.errors import RunError
from mmhealth.guard.watchman import Careful


def fails_with(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    "error", [RunError("no"), OSError("no"), ValueError("no"), PanicException("no")]
)
def test_no_failure_reaches_the_job(error: BaseException) -> None:
    said: list[str] = []
    assert Careful(said.append).attempt(fails_with(error), "the look") is None
    [line] = said
    assert line.startswith("the look: ")


def test_a_failure_is_said_once_until_it_goes_well_again() -> None:
    said: list[str] = []
    careful = Careful(said.append)
    for _ in range(3):
        careful.attempt(fails_with(OSError("blind")), "the look")
        careful.attempt(fails_with(RunError("junk")), "the look")
    careful.attempt(fails_with(OSError("full")), "the report")
    assert said == ["the look: blind", "the look: junk", "the report: full"]
    assert careful.attempt(lambda: 7, "the look") == 7
    careful.attempt(fails_with(OSError("blind")), "the look")
    careful.attempt(fails_with(OSError("full")), "the report")
    assert said[3:] == ["the look: blind"]
