"""Where a run lies: a folder of this machine, or a URL of an object store."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias
from urllib.parse import parse_qsl

from mmhealth.errors import RunNotFoundError

SCHEMES = {"s3": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
"""URL schemes, and the kind of store that each one names."""

_URL = re.compile(rf"({'|'.join(SCHEMES)}):/+([^?]*)(?:\?(.*))?")


@dataclass(frozen=True, slots=True, order=True)
class RunUrl:
    """A run, or an object of one, in an object store: what `pathlib.Path` is to a file."""

    scheme: str
    key: str
    """Bucket or container, and what follows it, without a slash at the end."""
    query: str = ""
    """How the store is reached: ``region=...&endpoint_override=...``."""

    @property
    def name(self) -> str:
        """Last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def kind(self) -> str:
        """The kind of store: s3, gs or az."""
        return SCHEMES[self.scheme]

    @property
    def options(self) -> dict[str, str]:
        """What the query says."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def __truediv__(self, part: str) -> "RunUrl":
        return replace(self, key=f"{self.key}/{part}")

    def as_posix(self) -> str:
        """The URL without its query."""
        return f"{self.scheme}://{self.key}"

    def __str__(self) -> str:
        return self.as_posix() + (f"?{self.query}" if self.query else "")


RunPlace: TypeAlias = Path | RunUrl
"""Where a run lies."""

PlaceLike: TypeAlias = str | os.PathLike[str] | RunUrl
"""What names such a place."""


def name_of(place: RunPlace) -> str:
    """Name of the run's folder."""
    return (place.resolve() if isinstance(place, Path) else place).name


def run_place(place: PlaceLike) -> RunPlace:
    """A folder or a URL, whatever named it; a `Path` made of a URL is read as that URL.

    Raises RunNotFoundError where a URL names no bucket, or nothing in it.
    """
    if isinstance(place, RunUrl):
        return place
    text = os.fspath(place)
    match = _URL.fullmatch(text)
    if match is None:
        return place if isinstance(place, Path) else Path(text)
    scheme, key, query = match.groups(default="")
    key = re.sub("/+", "/", key).strip("/")
    bucket, _, rest = key.partition("/")
    if not bucket or not rest:
        raise RunNotFoundError(f"{text} names no run: write {scheme}://BUCKET/PATH/OF/RUN")
    if "@" in bucket and SCHEMES[scheme] != "az":
        raise RunNotFoundError(
            f"{scheme}://...@... has credentials in it, which reports would show: set them in the "
            "environment (docs/object-stores.md)"
        )
    return RunUrl(scheme, key, query)
