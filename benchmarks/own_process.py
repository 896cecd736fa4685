"""Scripts that measure in a process of their own: nothing else is in its memory."""

import json
import subprocess
import sys
from pathlib import Path

MOST = """
import json, sys, time

def most():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

"""
AUDIT = (
    MOST
    + """
begun = time.perf_counter()
from mmhealth.cli import main

try:
    main(["audit", "--no-cache", "--json", "-", sys.argv[1]])
except SystemExit as end:
    assert not end.code
print(json.dumps([time.perf_counter() - begun, most()]), file=sys.stderr)
"""
)
"""Seconds that `mmhealth audit` takes from its start, and KiB at most."""


def measure(script: str, run: Path) -> list[float]:
    """What a script says of a run: a list in JSON, in its last line on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", script, str(run)], capture_output=True, text=True, check=True
    )
    found: list[float] = json.loads(done.stderr.splitlines()[-1])
    return found
