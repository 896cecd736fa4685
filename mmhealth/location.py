"""Where a run lies: in a folder, or under a prefix of an object store."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from urllib.parse import urlsplit

from mmhealth.errors import RunError

SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "abfss")
"""Of object stores; ``gcs`` is ``gs``, and ``az`` is ``abfs``."""


@dataclass(frozen=True, slots=True)
class ObjectUrl:
    """A prefix of an object store, such as ``s3://bucket/runs/one``; options follow a ``?``."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part."""
        return self.key.name

    @property
    def scheme(self) -> str:
        """One of `SCHEMES`."""
        return urlsplit(self.url).scheme

    @property
    def options(self) -> str:
        """What follows the ``?``."""
        return urlsplit(self.url).query

    @property
    def key(self) -> PurePosixPath:
        """Bucket and prefix."""
        parts = urlsplit(self.url)
        return PurePosixPath(parts.netloc + parts.path.rstrip("/"))

    def as_posix(self) -> str:
        """As `Path.as_posix`."""
        return self.url


Location: TypeAlias = Path | ObjectUrl


def locate(place: "str | os.PathLike[str] | ObjectUrl") -> Location:
    """A path, or a URL with one of `SCHEMES`. Raises RunError for a URL with another."""
    if isinstance(place, ObjectUrl):
        return place
    text = os.fspath(place)
    scheme, colon, _ = text.partition("://")
    if not colon:
        return Path(text)
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise RunError(f"{text}: {scheme}:// is no object store that is known ({known})")
    url = ObjectUrl(text)
    if len(url.key.parts) < 2:
        raise RunError(f"{text} names no run: the URL ends with the bucket")
    return url
