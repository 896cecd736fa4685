"""Requests and bytes of reading a run in an object store, beside the bytes of its files.

A run is uploaded to an S3 server on this machine (moto) and audited over S3, before and after
compaction. Counted by the reader itself; the tests hold its counts against the server's. Writes
docs/benchmarks/object_store.md.

    pip install 'moto[server]'
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
from tables import machine, write_table

from mmhealth import Recorder
from mmhealth.health import Monitor
from mmhealth.place import RunUrl
from mmhealth.report import audit_runs
from mmhealth.runlog import compact, upload_run

STEPS, ROWS = 300, 512


def record(run_dir: Path) -> None:
    rng = np.random.default_rng(0)
    with Recorder(run_dir, seal_every=1e-6) as recorder:
        for step in range(STEPS):
            reward = rng.random(ROWS)
            columns = {f"reward_{name}": rng.normal(size=ROWS) for name in "abcdefgh"}
            recorder.log_step(
                step,
                {
                    "group_id": np.repeat(np.arange(ROWS // 8), 8),
                    "reward": reward,
                    "advantage": reward - reward.mean(),
                    "log_weight": 0.05 * rng.normal(size=ROWS),
                    "grad_norm": rng.random(ROWS),
                    **columns,
                },
            )


def measure(name: str, run_dir: Path, url: RunUrl) -> list[list[str]]:
    files = [path for path in run_dir.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    began = time.perf_counter()
    monitor = Monitor(url)
    monitor.poll()
    audit_runs([monitor])
    took = time.perf_counter() - began
    asked = monitor.run.requests
    assert asked is not None
    rows = [row(f"audit, {name}", len(files), size, dict(asked.count), asked.bytes_read, took=took)]
    count, read = dict(asked.count), asked.bytes_read
    monitor.poll()
    new = {kind: asked.count[kind] - count.get(kind, 0) for kind in asked.count}
    rows.append(row(f"poll, nothing new, {name}", len(files), size, new, asked.bytes_read - read))
    return rows


def row(
    what: str, files: int, size: int, count: dict[str, int], read: int, *, took: float | None = None
) -> list[str]:
    kinds = [str(count.get(kind, 0)) for kind in ("list", "head", "get")]
    seconds = "" if took is None else f"{took:.2f}"
    return [what, str(files), f"{size / 1e6:.2f}", *kinds, f"{read / 1e6:.2f}", seconds]


def main() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ENDPOINT_URL": address,
    }  # fmt: skip
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as server:
        try:
            _make_bucket(address)
            with tempfile.TemporaryDirectory() as folder:
                rows = _measure_all(Path(folder) / "run")
        finally:
            server.kill()
    write_table(
        "object_store",
        "What an audit asks of an object store",
        f"{STEPS} steps of {ROWS} trajectories with 13 columns, sealed after each step, as "
        "where a step takes longer than `seal_every`; "
        "S3 server and reader on one machine, so that the seconds say nothing of a network. A HEAD "
        f"comes with each object that is opened: Arrow asks for its size. {machine()}",
        ["what", "files", "MB", "LIST", "HEAD", "GET", "MB read", "seconds"],
        rows,
    )


def _measure_all(run_dir: Path) -> list[list[str]]:
    record(run_dir)
    url = RunUrl("s3", "bucket/run")
    upload_run(run_dir, url)
    rows = measure("as recorded", run_dir, url)
    compact(run_dir)
    upload_run(run_dir, url)
    return rows + measure("compacted", run_dir, url)


def _make_bucket(address: str) -> None:
    for _ in range(600):
        try:
            request = urllib.request.Request(f"{address}/bucket", method="PUT")
            urllib.request.urlopen(request, timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the S3 server does not answer")


if __name__ == "__main__":
    main()
