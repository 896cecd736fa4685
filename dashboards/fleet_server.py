"""Serves a fleet's page, and under it the dashboard of any of its runs, on this machine only."""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from waitress.server import create_server

from mmhealth.dashboards.app import build_app
from mmhealth.dashboards.fleet_page import build_fleet_app
from mmhealth.dashboards.server import HOST, listen
from mmhealth.dashboards.watcher import RunWatcher, watch_runs
from mmhealth.engines import Engine
from mmhealth.fleet.watch import FleetWatcher
from mmhealth.health import Policy, default_policy

MOST_OPEN = 8
"""Runs whose dashboards are followed at a time; the one that was looked at longest ago goes."""

_RUN = re.compile(r"/run/(\d{1,9})(/.*)?")
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def serve_fleet(
    given: Sequence[str],
    *,
    engine: Engine,
    port: int = 8050,
    policy: Policy | None = None,
    ready: Callable[[str], None] | None = None,
    cache: Path | None = None,
) -> None:
    """Serve the fleet until interrupted; runs are judged on ``engine``.

    ``port`` 0 takes a free one; ``ready`` is called with the address once it answers. Raises
    PortInUseError when the port is taken.
    """
    listening = listen(port)
    policy = policy or default_policy()
    watcher = FleetWatcher(given, policy, engine, cache=cache)
    views = RunViews(watcher, policy)
    try:
        watcher.start()
        server = create_server(views, sockets=[listening], threads=8)
        if ready is not None:
            ready(f"http://{HOST}:{listening.getsockname()[1]}/")
        server.run()
    finally:
        watcher.stop()
        views.close()
        listening.close()


class RunViews:
    """A WSGI application: the fleet at ``/``, the dashboard of its run 7 at ``/run/7/``."""

    def __init__(
        self, watcher: FleetWatcher, policy: Policy, *, most_open: int = MOST_OPEN
    ) -> None:
        self._fleet: Wsgi = build_fleet_app(watcher).server
        self._watcher = watcher
        self._policy = policy
        self._most_open = most_open
        self._open: OrderedDict[int, tuple[RunWatcher, Wsgi]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        match = _RUN.fullmatch(environ.get("PATH_INFO", ""))
        if match is None:
            return self._fleet(environ, start_response)
        number, rest = int(match[1]), match[2]
        if not rest:
            start_response("308 Permanent Redirect", [("Location", f"/run/{number}/")])
            return []
        view = self._view(number)
        if view is None:
            start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"no run {number} in this fleet: it may be gone\n".encode()]
        return view(environ | {"PATH_INFO": rest}, start_response)

    def close(self) -> None:
        """End what follows the runs."""
        with self._lock:
            for watcher, _ in self._open.values():
                watcher.stop()
            self._open.clear()

    def _view(self, number: int) -> Wsgi | None:
        with self._lock:
            path = self._watcher.path(number)
            if path is None:
                if number in self._open:
                    self._open.pop(number)[0].stop()
                return None
            if number not in self._open:
                [watcher] = watch_runs([path], self._policy)
                app = build_app([watcher], self._policy, prefix=f"/run/{number}/", home="/")
                self._open[number] = watcher, app.server
            self._open.move_to_end(number)
            while len(self._open) > self._most_open:
                _, (oldest, _) = self._open.popitem(last=False)
                oldest.stop()
            return self._open[number][1]
