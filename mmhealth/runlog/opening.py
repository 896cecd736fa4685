"""Opens the store of a location."""

from pathlib import Path

from mmhealth.location import Location
from mmhealth.runlog.store import FolderStore, Store


def open_store(location: Location) -> Store:
    """The folder, or the object store. Raises RunError for a URL whose options do not fit."""
    if isinstance(location, Path):
        return FolderStore(location)
    from mmhealth.runlog.objects import ObjectStore

    return ObjectStore(location)
