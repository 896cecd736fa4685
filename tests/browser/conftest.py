"""A real Chromium, a real dashboard process, and a run written by a third one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

SERVE = """
import sys
from pathlib import Path
from mmhealth.dashboards import serve
paths = [Path(path) for path in sys.argv[1:]]
serve(paths, port=0, note="a note", ready=lambda url: print(url, flush=True))
"""

WRITE = """
import sys
import numpy as np
from mmhealth import Recorder
rng = np.random.default_rng(0)
with Recorder(sys.argv[1], strict=True) as recorder:
    for line in sys.stdin:
        step, live = map(int, line.split())
        advantage = np.where(np.arange(64) < live, 1.0, 0.0)
        columns = {"reward": rng.random(64), "advantage": advantage, "entropy": np.ones(64)}
        recorder.log_step(step, columns | {"grad_norm": advantage + 0.01})
        print(step, flush=True)
"""


class Writer:
    """A training process: `log` returns once the step is committed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def log(self, step: int, live: int = 64) -> None:
        """Commit a step in which ``live`` of 64 trajectories have an advantage."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{step} {live}\n")
        self._process.stdin.flush()
        assert int(self._process.stdout.readline()) == step


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        why = "Chromium is not installed: the browser tests need it (Debian package: chromium)"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=[*ARGUMENTS])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a Python program that ends with the tests of the file."""
    with ExitStack() as stack:

        def run(program: str, *arguments: Path) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", program, *map(str, arguments)]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.enter_context(process)
            stack.callback(process.terminate)
            return process

        yield run


@pytest.fixture(scope="module")
def watch(start: Any) -> Callable[..., str]:
    """Serve runs; the address."""

    def serve(*paths: Path) -> str:
        return str(start(SERVE, *paths).stdout.readline().strip())

    return serve


@pytest.fixture(scope="module")
def write(start: Any) -> Callable[[Path], Writer]:
    """Start a training process."""
    return lambda path: Writer(start(WRITE, path))


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page that fails the test on an error in its console or a request to elsewhere."""
    wrong: list[str] = []
    with ExitStack() as stack:

        def open_at(address: str, query: str = "", **context: Any) -> Page:
            opened = browser.new_context(**context)
            stack.callback(opened.close)
            page = opened.new_page()
            page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on(
                "request",
                lambda r: (
                    None
                    if r.url.startswith((address, "data:", "blob:"))
                    else wrong.append(f"external request: {r.url}")
                ),
            )
            page.goto(address + query)
            page.wait_for_selector("#ess .js-plotly-plot .main-svg")
            return page

        yield open_at
    assert wrong == []
