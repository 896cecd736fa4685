"""How long to wait before trying again."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double from ``first`` to ``longest`` seconds, each shortened by up to a half.

    The random part keeps many senders from coming back all at once.
    """

    first: float = 1.0
    longest: float = 60.0

    def pauses(self) -> Iterator[float]:
        """Seconds to wait after the first failure, the second, and so on; without end."""
        limit = min(self.first, self.longest)
        while True:
            yield limit * random.uniform(0.5, 1.0)
            limit = min(2 * limit, self.longest)


def parse_retry_after(text: str | None) -> float:
    """Seconds that a server asks to wait (RFC 9110, 10.2.3: seconds or a date), or 0."""
    if text is None:
        return 0.0
    if text.strip().isdecimal():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
