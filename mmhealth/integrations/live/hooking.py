"""Wraps a method of somebody's trainer: it runs as it is, and we are told afterwards."""

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from typing import Any

from mmhealth.errors import AttachError

Told = Callable[[Mapping[str, Any], Any], None]
"""Called with the arguments by name (``self`` is one where a class is hooked) and the result."""

_MARK = "__mmhealth__"


def check(owner: Any, name: str, parameters: Collection[str], known: str) -> None:
    """Raise `AttachError` where ``owner`` has no such method, or one with other parameters.

    ``known`` is the release that was checked, as "verl 0.9.1".
    """
    method = getattr(owner, name, None)
    of = owner.__name__ if isinstance(owner, type) else type(owner).__name__
    if method is None:
        raise AttachError(_differs(of, known, f"it has no {name}()"))
    given = inspect.signature(method).parameters
    if missing := [parameter for parameter in parameters if parameter not in given]:
        raise AttachError(_differs(of, known, f"{name}() takes no {', '.join(missing)}"))


def hook(owner: Any, name: str, told: Told, *, before: bool = False) -> None:
    """Wrap ``owner.name``, of a class or of one object; once, however often it is asked for.

    ``told`` comes after the method, or ``before`` it with None as result. It has to keep its errors
    to itself (`Recorder.guard`): what it raises is raised into training.
    """
    method = getattr(owner, name)
    if hasattr(method, _MARK):
        return
    signature = inspect.signature(method)

    @wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before:
            told(signature.bind(*args, **kwargs).arguments, None)
            return method(*args, **kwargs)
        result = method(*args, **kwargs)
        told(signature.bind(*args, **kwargs).arguments, result)
        return result

    setattr(wrapped, _MARK, True)
    setattr(owner, name, wrapped)


def setting(config: Any, path: str) -> Any:
    """A value deep in a trainer's configuration, as "algorithm.gamma"; None if it cannot be had."""
    for name in path.split("."):
        if config is None:
            return None
        get = getattr(config, "get", None)
        try:
            config = get(name) if callable(get) else getattr(config, name, None)
        except (AttributeError, LookupError, TypeError, ValueError):  # OmegaConf's are such
            return None
    return config


def _differs(of: str, known: str, how: str) -> str:
    return (
        f"{of} differs from that of {known}, which mmhealth knows: {how}. Install {known}, or log "
        "with mmhealth.Recorder (docs/recording.md)"
    )
