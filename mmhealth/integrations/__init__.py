"""Other trainers' data as run directories."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmhealth.integrations.tables import Imported, import_table

__all__ = ["Imported", "import_table"]


def __getattr__(name: str) -> Any:
    """Import what needs Polars when it is first asked for: verl loads a plugin in every process."""
    if name in __all__:
        from mmhealth.integrations import tables

        return getattr(tables, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
