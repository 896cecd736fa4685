"""Workers of a Ray cluster."""

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic

from mmhealth.engines.engine import (
    CLOSED,
    Engine,
    Progress,
    Result,
    Task,
    check_workers,
    do_task,
    in_words,
)
from mmhealth.engines.local import available_cores
from mmhealth.errors import EngineError, LostTaskError

_AHEAD = 2
"""Tasks in flight for each CPU: one that is worked on, one whose arguments are on their way."""
_RETRIES = 2
"""Times that Ray does a task again whose worker died."""
_CONNECT_S = 10.0
"""Within which whatever listens at an address takes a connection."""


class RayEngine(Engine):
    """Tasks of a Ray cluster, one CPU each.

    Uses the session that Ray has in this process, where there is one. Else it joins the cluster at
    ``address`` (``auto`` or ``ray://host:port``) or in ``RAY_ADDRESS``, or starts one here, and
    leaves or ends that when closed. Workers need mmhealth and its dependencies installed, in the
    same version, or brought along by ``runtime_env``, and must see the files that tasks name.

    Args:
        address: where the cluster is; here, without one.
        workers: tasks at once: those that a cluster begun here has CPUs for (all cores by default);
            at most so many in one that is joined (as many as it has CPUs by default).
        runtime_env: handed to `ray.init` as it is.

    Raises EngineError where Ray is not installed, or no cluster answers.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        workers: int | None = None,
        runtime_env: Mapping[str, Any] | None = None,
    ) -> None:
        if workers is not None:
            check_workers(workers)
        self._ray = _import_ray()
        self._closed = 0
        self._joined = not self._ray.is_initialized()
        self._most = workers
        if self._joined:
            address = address or os.environ.get("RAY_ADDRESS") or "local"
            self._join(address, workers, dict(runtime_env or {}))
            self._most = None if address == "local" else workers
        self._do = self._ray.remote(max_retries=_RETRIES)(do_task)

    @property
    def workers(self) -> int:
        """CPUs that the cluster has now, or the most that were asked for; see `Engine`."""
        cpus = max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        return cpus if self._most is None else min(cpus, self._most)

    @workers.setter
    def workers(self, most: int) -> None:
        self._most = most

    def map(
        self,
        function: Callable[[Task], Result],
        tasks: Iterable[Task],
        told: Progress | None = None,
    ) -> Iterator[Result]:
        """See `Engine.map`."""
        source = iter(tasks)
        flight = deque[_Flight[Task]]()
        yielded = done = 0
        most = self.workers
        most = most if self._most is not None else most * _AHEAD
        closed = self._closed
        try:
            while True:
                if closed != self._closed:
                    raise EngineError(CLOSED)
                while len(flight) < most:
                    for task in source:
                        flight.append(_Flight(task, self._do.remote(function, task)))
                        break
                    else:
                        break
                if not flight:
                    return
                running = [item.ref for item in flight]
                ready: list[Any] = []
                while flight[0].ref in running:
                    some, running = self._ray.wait(running, num_returns=1)
                    ready += some
                    if told is not None and yielded + len(ready) > done:
                        done = yielded + len(ready)
                        told(done)
                item = flight.popleft()
                yielded += 1
                yield self._result(item)
        finally:
            if self._ray.is_initialized():
                for item in flight:
                    self._ray.cancel(item.ref)

    def close(self) -> None:
        """Leave the cluster that was joined, or end the one that was started; no other."""
        self._closed += 1
        if self._joined and self._ray.is_initialized():
            self._ray.shutdown()

    def _join(self, address: str, workers: int | None, runtime_env: dict[str, Any]) -> None:
        more: dict[str, Any] = {"runtime_env": runtime_env} if runtime_env else {}
        if address == "local":
            more |= {"num_cpus": workers or available_cores(), "include_dashboard": False}
        _check_answers(address)
        try:
            self._ray.init(
                address=address, logging_level=logging.ERROR, log_to_driver=False, **more
            )
        except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
            raise EngineError(f"no Ray cluster at {address}: {error}") from error

    def _result(self, item: "_Flight[Task]") -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(item.ref)
        except errors.RayTaskError as error:
            if isinstance(error.cause, Exception):
                error.cause.add_note(f"In a Ray worker:\n{error}")
                raise error.cause from None
            raise EngineError(f"the task {in_words(item.task)} failed: {error}") from error
        except errors.RayError as error:
            raise LostTaskError(
                f"{_RETRIES + 1} workers died of the task {in_words(item.task)}, or what it needs "
                f"is gone: {type(error).__name__}: {error}. Where memory ran out, use fewer "
                "workers",
                item.task,
            ) from error


@dataclass(frozen=True, slots=True)
class _Flight(Generic[Task]):
    """A task that Ray has, and the reference to its result."""

    task: Task
    ref: Any


def _check_answers(address: str) -> None:
    """Raises EngineError where nothing listens: Ray itself would look for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise EngineError(f"no Ray cluster at {address}: {error}") from error


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise EngineError("Ray is not installed: pip install 'mmhealth[ray]'") from None
    return ray
