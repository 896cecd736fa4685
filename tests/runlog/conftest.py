"""A real S3 server, and a proxy before it that counts requests and makes them fail."""

import http.client
import os
import re
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest

from mmhealth.runlog.storage import Retries

Fault = Literal["slow", "503", "403", "404", "drop", "stall"]


@dataclass
class Store:
    """A bucket behind the proxy; ``fault`` decides what happens to each request."""

    url: str
    """Of a place that no other test uses."""
    log: list[tuple[str, str]] = field(default_factory=list)
    """Method and key of each request that came."""
    fault: Callable[[str, str], Fault | None] = lambda *_: None
    hidden: Callable[[str], bool] = lambda _: False
    """Keys that the listing does not know yet."""

    def asked(self, method: str = "", key: str = "") -> int:
        """How many requests there were of a method, for keys with this in them."""
        return sum(method in m and key in k for m, k in self.log)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="session")
def moto_port() -> Iterator[int]:
    """The port of an S3 server in a process of its own."""
    pytest.importorskip("moto.server")
    port = _free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, stdout=quiet, stderr=quiet)
    try:
        for _ in range(600):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("PUT", "/bucket")
                assert connection.getresponse().status == 200
                connection.close()
                break
            except OSError:
                time.sleep(0.05)
        yield port
    finally:
        server.kill()
        server.wait()


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    port: int
    store: Store

    def handle_any(self) -> None:
        key = self.path.partition("?")[0]
        kind = "LIST" if "list-type=2" in self.path else self.command
        body = self._body()
        self.store.log.append((kind, key))
        fault = self.store.fault(kind, key)
        if fault == "slow":
            time.sleep(0.05)
        elif fault == "stall":
            time.sleep(3)
            self.close_connection = True
            return
        elif fault in ("503", "403", "404"):
            codes = {"503": "SlowDown", "403": "AccessDenied", "404": "NoSuchKey"}
            text = f"<Error><Code>{codes[fault]}</Code><Message>no</Message></Error>".encode()
            self._answer(int(fault), {"Content-Type": "application/xml"}, text)
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        kept = {k: v for k, v in self.headers.items() if k.lower() not in _OF_THE_HOP}
        connection.request(self.command, self.path, body, kept)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        if self.command == "HEAD" and (size := response.getheader("Content-Length")):
            content = bytes(int(size))
        headers = {k: v for k, v in response.getheaders() if k.lower() in _KEPT}
        if kind == "LIST":
            content = re.sub(
                rb"<Contents>.*?</Contents>",
                lambda m: b"" if self._is_hidden(m[0]) else m[0],
                content,
                flags=re.S,
            )
        self._answer(response.status, headers, content, cut=fault == "drop")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def _is_hidden(self, entry: bytes) -> bool:
        match = re.search(rb"<Key>(.*?)</Key>", entry)
        return match is not None and self.store.hidden(match[1].decode())

    def _answer(
        self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.command != "HEAD" or content:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


_OF_THE_HOP = {"transfer-encoding", "expect", "content-length", "connection"}
_KEPT = {
    "content-type", "etag", "last-modified", "content-range", "accept-ranges", "location",
    "x-amz-bucket-region",
}  # fmt: skip


@pytest.fixture(scope="session")
def _proxy(moto_port: int) -> Iterator[tuple[type[_Proxy], int]]:
    methods = {f"do_{name}": _Proxy.handle_any for name in ("GET", "HEAD", "PUT", "POST", "DELETE")}
    handler = type("Handler", (_Proxy,), methods | {"port": moto_port})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield handler, server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def store(_proxy: tuple[type[_Proxy], int], monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty place in a bucket of an S3 server, with credentials in the environment."""
    handler, port = _proxy
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    quick = partial(Retries, first_pause=0.01, longest_pause=0.05)
    monkeypatch.setattr("mmhealth.runlog.storage.objects.Retries", quick)
    handler.store = Store(f"s3://bucket/{uuid.uuid4().hex}/run?request_timeout=1")
    return handler.store


def put_files(run_dir: Path, store: Store, moto_port: int) -> None:
    """Copy a run's files into the place, past the proxy."""
    prefix = store.url.removeprefix("s3://").partition("?")[0]
    for path in sorted(path for path in run_dir.rglob("*") if path.is_file()):
        put(moto_port, f"/{prefix}/{path.relative_to(run_dir)}", path.read_bytes())


def put(port: int, key: str, content: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("PUT", key, content)
    assert connection.getresponse().status == 200
    connection.close()


@pytest.fixture
def copy_to(store: Store, moto_port: int) -> Any:
    """A function that copies a run's files into the place, past the proxy."""
    return lambda run_dir: put_files(run_dir, store, moto_port)


@pytest.fixture
def child_environment(store: Store) -> dict[str, str]:
    """The environment of a process that imports this package and reaches the store."""
    root = str(Path(__file__).parents[2])
    return os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
