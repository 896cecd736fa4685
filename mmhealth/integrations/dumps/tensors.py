"""Files of tensors, read without running anything that they say."""

import importlib
import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np

from mmhealth.errors import ImportDataError
from mmhealth.integrations.dumps.fields import FloatArray
from mmhealth.integrations.dumps.problems import BadRecordError


def need_torch() -> Any:
    """The module torch. Raises ImportDataError where it is not installed."""
    try:
        return importlib.import_module("torch")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportDataError(
            "these files hold tensors of torch: pip install 'mmhealth[torch]'"
        ) from None


def load_pt(source: Path | io.BytesIO) -> Any:
    """What `torch.save` wrote: tensors and plain values only. Raises ImportDataError."""
    torch = need_torch()
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = "it holds more" if asked is None else f"it asks for {asked[1]}"
        raise ImportDataError(
            f"refused, nothing of it was run: {what}, where tensors and plain values are expected"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise ImportDataError(f"not a file that torch.save wrote: {why}") from None


def as_array(value: Any, name: str) -> FloatArray:
    """A tensor, a number or a list of numbers as float64. Raises BadRecordError with the name."""
    try:
        if hasattr(value, "detach"):
            value = value.detach().to("cpu").double().numpy()
        return np.asarray(value, np.float64)
    except (TypeError, ValueError, RuntimeError):
        kind = type(value).__name__
        raise BadRecordError(f"field {name!r} holds no numbers, but {kind}") from None


class Inert:
    """Stands for an object of a class that is not needed: nothing of it runs."""

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        """Take any arguments."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        """Take any state."""


class _Restricted(pickle.Unpickler):
    """Knows only the names it was given; every other one is refused before anything is called."""

    def __init__(self, file: io.BufferedReader, names: dict[tuple[str, str], Any]) -> None:
        super().__init__(file)
        self._names = names

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name of the file."""
        if (module, name) not in self._names:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self._names[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """There are no persistent ids in these files."""
        raise pickle.UnpicklingError(f"it asks for {pid!r}, outside the file")


def load_restricted(path: Path, names: dict[tuple[str, str], Any]) -> Any:
    """A pickle in which only ``names`` may be called. Raises ImportDataError for all else."""
    with path.open("rb") as file:
        try:
            return _Restricted(file, names).load()
        except pickle.UnpicklingError as error:
            raise ImportDataError(f"refused, nothing of it was run: {error}") from None
        except (EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise ImportDataError(f"not a pickle that can be read: {error}") from None
        except (OverflowError, MemoryError, ImportError) as error:
            raise ImportDataError(f"not a pickle that can be read: {error}") from None
