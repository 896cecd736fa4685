"""Where what can be made again is kept: the user's cache."""

import os
import sys
from pathlib import Path


def user_cache() -> Path:
    """``mmhealth`` in ``XDG_CACHE_HOME``, or where the system keeps caches."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "mmhealth"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mmhealth"
    return Path.home() / ".cache" / "mmhealth"
