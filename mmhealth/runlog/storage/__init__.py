"""Object stores: reaching them, reading and writing objects."""

from mmhealth.runlog.storage.objects import ObjectStore, Requests
from mmhealth.runlog.storage.retries import Retries

__all__ = ["ObjectStore", "Requests", "Retries"]
