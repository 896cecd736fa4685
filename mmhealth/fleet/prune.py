"""Which runs need not be judged, since a filter on what `run.json` says leaves them out."""

from collections.abc import Sequence

from mmhealth.engines import Engine, SerialEngine
from mmhealth.errors import MmhealthError
from mmhealth.fleet.select import FIELDS, Condition, getter, meeting
from mmhealth.fleet.summary import RunSummary, printable, settings_of, unreadable
from mmhealth.place import RunPlace
from mmhealth.runlog import Run

_KNOWN = ("name", "path")
"""Of `FIELDS`, those that no judgement changes."""


def prune_runs(
    paths: Sequence[RunPlace],
    conditions: Sequence[str],
    sort: str = "verdict",
    engine: Engine | None = None,
) -> tuple[list[RunPlace], list[str]]:
    """The runs that meet the conditions on name, path and settings, in order; and the conditions
    that are left, for `select_runs` to hold against what is judged.

    Where one of them or ``sort`` speaks of such, ``run.json`` is read, and nothing else. A run that
    cannot be read has no settings. Raises SelectionError for a condition that makes no sense and
    for a key that no run knows, before anything is judged.
    """
    parsed = {text: Condition.parse(text) for text in conditions}
    early = [condition for condition in parsed.values() if is_told_early(condition.key)]
    late = [text for text in conditions if not is_told_early(parsed[text].key)]
    if not early and sort in FIELDS:
        return list(paths), late
    outlines = list((engine or SerialEngine()).map(outline, paths))
    getter(sort, outlines)
    kept = {id(found) for found in meeting(outlines, early)}
    kept_paths = [path for path, found in zip(paths, outlines, strict=True) if id(found) in kept]
    return kept_paths, late


def outline(path: RunPlace) -> RunSummary:
    """What is known of a run before it is judged: name, path and settings."""
    try:
        run = Run(path)
    except (MmhealthError, OSError, UnicodeError) as error:
        return unreadable(path, error)
    return RunSummary(
        path=str(run.path),
        name=printable(run.name),
        verdict="insufficient",
        why="",
        config=settings_of(run),
    )


def is_told_early(key: str) -> bool:
    """Whether no judgement changes what a key stands for; no key stands for a word."""
    return bool(key) and (key in _KNOWN or key not in FIELDS)
