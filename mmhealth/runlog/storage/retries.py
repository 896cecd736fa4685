"""Tries again what an object store could not do just now, a little later each time."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa

from mmhealth.errors import ObjectStoreError, ObjectStoreRefusedError

T = TypeVar("T")

_FOR_GOOD = (
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH",
    "NO_SUCH_BUCKET",
    "AuthenticationException",
    "OAuth2 access token",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "HTTP status 400",
    "HTTP status 401",
    "HTTP status 403",
)
"""Marks of answers that no later try changes."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often, and after what pauses: doubled each time, drawn from the upper half."""

    tries: int = 6
    first_pause: float = 0.1
    longest_pause: float = 5.0
    most_seconds: float = 20.0
    """After which there is no further try."""

    def call(self, what: str, work: Callable[[], T]) -> T:
        """Do the work. Raises FileNotFoundError at once, else ObjectStoreError in the end."""
        began = time.monotonic()
        for number in range(1, self.tries + 1):
            try:
                return work()
            except FileNotFoundError:
                raise
            except (OSError, pa.ArrowException) as error:
                text = " ".join(str(error).split())
                if any(mark in text for mark in _FOR_GOOD):
                    raise ObjectStoreRefusedError(f"{what}: {text}{_way_out(text)}") from error
                if number == self.tries or time.monotonic() - began > self.most_seconds:
                    times = "1 try" if number == 1 else f"{number} tries"
                    raise ObjectStoreError(f"{what} in {times}: {text}{_way_out('')}") from error
            time.sleep(self.pause(number))
        raise AssertionError("unreachable")

    def pause(self, number: int) -> float:
        """Seconds to wait after failure ``number``, counted from 1."""
        pause = min(self.first_pause * 2.0 ** min(number - 1, 30), self.longest_pause)
        return pause * random.uniform(0.5, 1.0)


def _way_out(text: str) -> str:
    if "NO_SUCH_BUCKET" in text or "bucket does not exist" in text:
        return ". Way out: check the bucket's name, and the endpoint"
    if text:
        return ". Way out: check the credentials in the environment (docs/object-stores.md)"
    return ". Way out: check that the store can be reached, and try again"
