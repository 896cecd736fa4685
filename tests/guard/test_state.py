"""Who may guard a run, by what an earlier guard has left."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmhealth import Recorder
from mmhealth.errors import GuardError
from mmhealth.guard.proctable import Identity, _from_ps, family, identify, processes
from mmhealth.guard.state import beside, claim


def left_by_a_guard(run: Path, job: Identity | None, phase: str = "running") -> None:
    about = None if job is None else {"pid": job.pid, "start": job.start}
    content: dict[str, Any] = {"version": 1, "guard": {"pid": 1, "start": "gone"}, "job": about}
    beside(run, ".json").write_text(json.dumps(content | {"phase": phase}))


@pytest.fixture
def living() -> Identity:
    """A process that lives as long as the test: this one."""
    identity = identify(os.getpid())
    assert identity is not None
    return identity


def test_files_of_the_guard_lie_beside_the_run(tmp_path: Path) -> None:
    assert beside(tmp_path / "run", ".json") == tmp_path / "run.guard.json"
    assert beside(tmp_path / "a" / ".." / "run", ".html") == tmp_path / "run.guard.html"
    with claim(tmp_path / "not" / "yet"):
        assert not (tmp_path / "not" / "yet").exists()


def test_a_job_that_lives_without_its_guard_keeps_others_away(
    tmp_path: Path, living: Identity
) -> None:
    for phase in ("running", "stopping"):
        left_by_a_guard(tmp_path / "run", living, phase)
        with (
            pytest.raises(GuardError, match=rf"job \(pid {living.pid}\) still runs"),
            claim(tmp_path / "run"),
        ):
            pass


def test_another_process_with_its_id_is_not_mistaken_for_it(
    tmp_path: Path, living: Identity
) -> None:
    left_by_a_guard(tmp_path / "run", Identity(living.pid, living.start + "0"))
    with claim(tmp_path / "run"):
        pass


@pytest.mark.parametrize("phase", ["ended", "stopped"])
def test_what_has_ended_keeps_nobody_away(tmp_path: Path, living: Identity, phase: str) -> None:
    left_by_a_guard(tmp_path / "run", living, phase)
    with claim(tmp_path / "run"):
        pass


def test_a_group_that_outlived_its_leader_keeps_others_away(tmp_path: Path) -> None:
    leader = subprocess.Popen(
        ["sh", "-c", "sleep 600 <&- >&- 2>&- & echo $!; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert leader.stdout is not None
    identity = identify(leader.pid)
    left = identify(int(leader.stdout.readline()))
    assert identity is not None
    assert left is not None
    leader.communicate("line\n")
    try:
        assert family(leader.pid) == {left}
        left_by_a_guard(tmp_path / "run", identity)
        with pytest.raises(GuardError, match="still runs"), claim(tmp_path / "run"):
            pass
    finally:
        os.kill(left.pid, 9)


def test_a_run_has_one_guard(tmp_path: Path) -> None:
    with (
        claim(tmp_path / "run"),
        pytest.raises(GuardError, match=rf"another guard \(pid {os.getpid()} on "),
        claim(tmp_path / "run"),
    ):
        pass
    with claim(tmp_path / "run"):
        pass


def test_a_run_that_somebody_records_is_not_given_to_a_job(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run") as rec:
        rec.log_step(0, {"reward": [1.0]})
        with (
            pytest.raises(GuardError, match=r"is being recorded \(attempt 0\)"),
            claim(tmp_path / "run"),
        ):
            pass
    with claim(tmp_path / "run"):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", '{"job": 1, "phase": "running"}'])
def test_a_state_file_that_says_nothing_keeps_nobody_away(tmp_path: Path, content: str) -> None:
    beside(tmp_path / "run", ".json").write_text(content)
    with claim(tmp_path / "run") as state:
        state.write("ended", exit_code=0)
    assert json.loads(beside(tmp_path / "run", ".json").read_text())["phase"] == "ended"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="compares /proc with ps")
def test_ps_tells_the_same_as_proc(living: Identity) -> None:
    [by_ps] = [process for process in _from_ps() if process.identity.pid == living.pid]
    by_proc = processes()[living.pid]
    assert (by_ps.parent, by_ps.group) == (by_proc.parent, by_proc.group)
