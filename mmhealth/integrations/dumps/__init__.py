"""Dumps that trainers write, imported as run directories where they lie (docs/import.md)."""

from mmhealth.integrations.dumps.importing import (
    SETTLE_S,
    ImportedDump,
    cache_dir,
    follow_dump,
    import_dump,
    locate,
)
from mmhealth.integrations.dumps.problems import Problem, Problems
from mmhealth.integrations.dumps.registry import FORMATS, Dump, find_dump

__all__ = [
    "FORMATS",
    "SETTLE_S",
    "Dump",
    "ImportedDump",
    "Problem",
    "Problems",
    "cache_dir",
    "find_dump",
    "follow_dump",
    "import_dump",
    "locate",
]
