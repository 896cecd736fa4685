"""Serves the dashboard on this machine only."""

import errno
import os
import socket
from collections.abc import Callable, Sequence

from waitress.server import create_server

from mmhealth.dashboards.app import build_app
from mmhealth.dashboards.watcher import watch_runs
from mmhealth.errors import PortInUseError
from mmhealth.health import Policy, default_policy
from mmhealth.place import RunPlace

HOST = "127.0.0.1"


def serve(
    paths: Sequence[RunPlace],
    *,
    port: int = 8050,
    policy: Policy | None = None,
    note: str | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the dashboard of the runs until interrupted.

    Run directories that do not exist yet are waited for. ``port`` 0 takes a free one; ``note`` is
    shown at the head of the page; ``ready`` is called with the address once it answers. Raises
    PortInUseError when the port is taken.
    """
    listening = listen(port)
    policy = policy or default_policy()
    watchers = watch_runs(paths, policy)
    try:
        app = build_app(watchers, policy, note)
        server = create_server(app.server, sockets=[listening], threads=8)
        if ready is not None:
            ready(f"http://{HOST}:{listening.getsockname()[1]}/")
        server.run()
    finally:
        for watcher in watchers:
            watcher.stop()
        listening.close()


def listen(port: int) -> socket.socket:
    """A socket on this port of `HOST`. Raises PortInUseError."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        if error.errno != errno.EADDRINUSE:
            raise
        raise PortInUseError(
            f"port {port} of {HOST} is taken by another process: stop it, or choose another port "
            "with --port (0 takes a free one)"
        ) from error
    return listening
