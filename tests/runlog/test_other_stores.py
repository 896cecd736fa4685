"""Runs at gs:// and az://, on servers that speak as Google's and Azure's stores do.

What fails now and then is tried on S3, test_object_store.py: all stores share that code.
"""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import AzureFileSystem
from typer.testing import CliRunner

from mmhealth import Recorder, open_run
from mmhealth.cli import app
from mmhealth.errors import ObjectStoreError, RunNotFoundError
from mmhealth.fleet import find_runs
from mmhealth.health import Monitor
from mmhealth.place import RunUrl, run_place
from mmhealth.runlog import compact, remote, upload_run
from mmhealth.schema import TABLES

AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
"""The one that its documentation names: the server knows no other account."""

Place = Callable[[str], str]
"""The URL of a run of this name."""


@pytest.fixture(scope="module", params=["gs", "az"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = int(one.getsockname()[1])
    with (_google if request.param == "gs" else _azure)(port) as found:
        yield found


@contextmanager
def _google(port: int) -> Iterator[Place]:
    if find_spec("gcp_storage_emulator") is None:
        pytest.skip("gcp-storage-emulator is not installed")
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--in-memory"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--default-bucket", "bucket"]
    options = f"endpoint_override=127.0.0.1:{port}&scheme=http&anonymous=true"
    with _serving(command, port):
        yield lambda name: f"gs://bucket/{name}?{options}"


@contextmanager
def _azure(port: int) -> Iterator[Place]:
    if (server := shutil.which("azurite-blob")) is None:
        pytest.skip("azurite-blob is not there: npm install --global azurite")
    command = [server, "--silent", "--inMemoryPersistence", "--skipApiVersionCheck"]
    command += ["--blobHost", "127.0.0.1", "--blobPort", str(port)]
    here = f"127.0.0.1:{port}"
    options = f"blob_storage_authority={here}&blob_storage_scheme=http"
    store = AzureFileSystem(
        AZURITE_ACCOUNT,
        account_key=AZURITE_KEY,
        blob_storage_authority=here,
        dfs_storage_authority=here,
        blob_storage_scheme="http",
        dfs_storage_scheme="http",
    )
    with pytest.MonkeyPatch.context() as patch, _serving(command, port):
        patch.setenv("AZURE_STORAGE_ACCOUNT_KEY", AZURITE_KEY)
        patch.setenv("AZURE_STORAGE_ACCOUNT_NAME", AZURITE_ACCOUNT)
        store.create_dir("container")
        yield lambda name: f"az://container/{name}?{options}"


@contextmanager
def _serving(command: list[str], port: int) -> Iterator[None]:
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            assert server.poll() is None, command
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield
    finally:
        server.kill()
        server.wait()


def at(url: str) -> RunUrl:
    place = run_place(url)
    assert isinstance(place, RunUrl)
    return place


def same(url: str, run_dir: Path) -> bool:
    there, here = open_run(url), open_run(run_dir)
    tables = all(getattr(there, name).equals(getattr(here, name)) for name in TABLES)
    return tables and there.status() == here.status()


def test_a_run_is_followed_while_it_is_recorded(place: Place, tmp_path: Path, batch: Any) -> None:
    url, monitor = place("team/followed"), None
    with Recorder(tmp_path / "run", upload=url, segment_bytes=4_000) as recorder:
        for step in range(12):
            recorder.log_step(step, batch(step))
            if step == 5:
                while monitor is None or len(monitor.timeline.frame) < 2:
                    try:
                        monitor = monitor or Monitor(url)
                        monitor.poll()
                    except RunNotFoundError:
                        time.sleep(0.05)
    assert recorder.summary()["losses"] == []
    assert monitor is not None
    monitor.poll()
    here = Monitor(tmp_path / "run")
    here.poll()
    assert monitor.timeline.frame.equals(here.timeline.frame)
    assert same(url, tmp_path / "run")


def test_big_segments_merged_segments_and_patterns(
    place: Place, tmp_path: Path, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "WHOLE_BYTES", 2_000)
    url = place("team/merged")
    with Recorder(tmp_path / "run", segment_bytes=4_000) as recorder:
        for step in range(12):
            recorder.log_step(step, batch(step))
    upload_run(tmp_path / "run", at(url))
    assert same(url, tmp_path / "run")
    compact(tmp_path / "run")
    assert upload_run(tmp_path / "run", at(url)).removed > 5
    assert same(url, tmp_path / "run")
    assert [str(found) for found in find_runs([place("te*/m*d")])] == [url]


def test_commands_take_these_urls_and_say_what_is_not_there(
    place: Place, tmp_path: Path, batch: Any
) -> None:
    run = CliRunner()
    with Recorder(tmp_path / "run") as recorder:
        for step in range(12):
            recorder.log_step(step, batch(step))
    url = place("commands")
    sent = run.invoke(app, ["upload", str(tmp_path / "run"), url])
    assert sent.exit_code == 0, sent.output
    for command in ("audit", "gate"):
        here = run.invoke(app, [command, str(tmp_path / "run")])
        there = run.invoke(app, [command, url])
        assert there.exit_code == here.exit_code, there.output
        assert there.output.splitlines()[-1] == here.output.splitlines()[-1]
    with pytest.raises(RunNotFoundError):
        open_run(place("nobody"))
    absent = place("run").replace("://bucket/", "://absent/").replace("://container/", "://absent/")
    with pytest.raises((RunNotFoundError, ObjectStoreError), match="absent"):
        open_run(absent)
