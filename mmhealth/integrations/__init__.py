"""Other trainers' data as run directories."""

from mmhealth.integrations.tables import Imported, import_table

__all__ = ["Imported", "import_table"]
