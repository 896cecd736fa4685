"""The server as a process of its own, over real HTTP."""

import json
import socket
import subprocess
import sys
import urllib.request

import pytest

from mmhealth import Recorder
from mmhealth.dashboards import create_app, serve
from mmhealth.errors import PortInUseError

SERVE = """
import sys
from pathlib import Path
from mmhealth.dashboards import serve
serve([Path(sys.argv[1])], port=0, note="a note", ready=lambda url: print(url, flush=True))
"""


@pytest.fixture
def address(tmp_path):
    with Recorder(tmp_path / "run") as recorder:
        recorder.log_step(0, {"reward": [1.0] * 4})
    command = [sys.executable, "-c", SERVE, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()
        process.terminate()


def get(url):
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


def test_page_layout_and_scripts_come_from_here(address):
    assert address.startswith("http://127.0.0.1:")
    page = get(address)
    assert '<html lang="en">' in page
    for attribute in ('src="', 'href="'):
        for part in page.split(attribute)[1:]:
            assert part.startswith("/"), part[:80]
    assert get(f"{address}health") == "OK"
    layout = get(f"{address}_dash-layout")
    assert "a note" in layout
    assert "Effective sample size" in layout
    json.loads(layout)


def test_an_app_for_any_server(tmp_path):
    client = create_app([tmp_path / "run"]).server.test_client()
    assert client.get("/health").text == "OK"


def test_a_taken_port_is_said(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"port {port} .*--port"):
            serve([tmp_path / "run"], port=port)
