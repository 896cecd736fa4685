"""Serves the health of a run to Prometheus over HTTP."""

import errno
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mmhealth.errors import MmhealthError, PortInUseError
from mmhealth.health import Monitor, Policy
from mmhealth.integrations.trackers.openmetrics import CONTENT_TYPE, render_openmetrics
from mmhealth.place import RunPlace, name_of
from mmhealth.runlog import Run

HOST = "127.0.0.1"


class Scraped:
    """A run directory as scrapes see it: read and judged anew at each, if there is news.

    The directory may come to be later, and may be replaced by a new run.
    """

    def __init__(self, run_dir: RunPlace, policy: Policy) -> None:
        self._run_dir = run_dir
        self._policy = policy
        self._monitor: Monitor | None = None
        self._lock = threading.Lock()

    def render(self) -> str:
        """The exposition now; a run that cannot be read is one without metrics."""
        with self._lock:
            try:
                monitor = self._look()
                name = monitor.run.name
            except (MmhealthError, OSError):
                self._monitor = monitor = None
                name = name_of(self._run_dir)
            return render_openmetrics(monitor, name, time.time())

    def _look(self) -> Monitor:
        run = Run(self._run_dir)
        if self._monitor is None or self._monitor.run.id != run.id:
            self._monitor = Monitor(run, self._policy)
        self._monitor.poll()
        return self._monitor


class Endpoint:
    """A server of ``/metrics``; `serve` it, from any thread `stop` it.

    ``port`` 0 takes a free one. Raises PortInUseError, or OSError where the host is not one that
    this machine can listen on.
    """

    def __init__(self, run_dir: RunPlace, policy: Policy, host: str = HOST, port: int = 0) -> None:
        self.scraped = Scraped(run_dir, policy)
        handler = type("Handler", (_Handler,), {"render": staticmethod(self.scraped.render)})
        try:
            self._server = ThreadingHTTPServer((host, port), handler)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise PortInUseError(
                f"port {port} of {host} is taken by another process: stop it, or choose another "
                "(0 takes a free one)"
            ) from error
        self._server.daemon_threads = True
        self.url = f"http://{host}:{self._server.server_address[1]}/metrics"

    def serve(self) -> None:
        """Answer until `stop` is called; reads the run once before, which may take a while."""
        self.scraped.render()
        try:
            self._server.serve_forever(0.1)
        finally:
            self._server.server_close()

    def stop(self) -> None:
        """End `serve`."""
        self._server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    render: Callable[[], str]
    timeout = 30

    def do_GET(self) -> None:
        found = self.path.partition("?")[0] == "/metrics"
        body = self.render().encode() if found else b"see /metrics\n"
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", CONTENT_TYPE if found else "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each scrape."""
