"""Hooks beneath a subclass: around TRL's own methods, from wherever the subclass calls them.

A subclass may reorder, repeat or drop the rows that TRL's method returns, and may go on after it
has failed. What is seen at the trainer alone is then not what TRL did. So the trainer is given a
class of its own, with all that its class has and one more class between that and TRL's.
"""

from collections.abc import Callable, Mapping
from functools import partial, wraps
from types import new_class
from typing import Any

Around = Callable[..., Any]
"""Called with the method that it goes around, bound, and the method's arguments."""


def slip_in(trainer: Any, known: type, hooks: Mapping[str, Around]) -> type:
    """Hook methods of TRL's class ``known``, of this one trainer; returns the class it had.

    To take the hooks out again: ``trainer.__class__ = ...`` that class.
    """
    own = type(trainer)
    methods = {name: _method(known, name, around) for name, around in hooks.items()}
    beneath = new_class(known.__name__, (known,), exec_body=lambda body: body.update(methods))
    bases = (beneath,) if own is known else (own, beneath)
    names = {name: getattr(own, name) for name in ("__module__", "__qualname__", "__doc__")}
    trainer.__class__ = new_class(own.__name__, bases, exec_body=lambda body: body.update(names))
    return own


def _method(known: type, name: str, around: Around) -> Callable[..., Any]:
    original = getattr(known, name)

    @wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return around(partial(original, self), *args, **kwargs)

    return method
