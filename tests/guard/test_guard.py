"""`mmhealth guard` as a process, over jobs that are processes, ended for real."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmhealth import open_run
from mmhealth.cli import main
from mmhealth.guard import GuardConfig, run_guarded
from mmhealth.guard.proctable import family, identify, is_alive
from mmhealth.health import load_policy

POLICY = """
version = 1
[rules.ess]
metric = "ess_signal"
below = 0.2
severity = "critical"
meaning = "A few trajectories make the update."
fix = "Restore outcome contrast."
"""

JOB = """
import sys, time
from mmhealth import Recorder
run, sick_from, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with Recorder(run, nominal_batch=64) as rec:
    for step in range(steps):
        sick = step >= sick_from
        rec.log_step(step, {"advantage": [1.0] + [0.0] * 63 if sick else [1.0, -1.0] * 32})
        print("step", step, flush=True)
        print("loss \\u00e9", step, file=sys.stderr, flush=True)
        time.sleep(5.0 if sick else 0.05)
print(sys.stdin.read(), end="")
"""
"""A step every 50 ms; once it is sick, every five seconds."""

Popen = subprocess.Popen[bytes]
Guard = Callable[..., Popen]


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def in_this_process(run: Path, *arguments: object) -> int:
    """The exit code of `mmhealth guard`, which need not be a process where nobody signals it."""
    own = ["guard", "--run-dir", str(run), "--poll", "0.05"]
    with pytest.raises(SystemExit) as end:
        main([*own, *map(str, arguments)])
    assert isinstance(end.value.code, int)
    return end.value.code


def state_of(pid: int) -> str:
    return subprocess.check_output(["ps", "-o", "state=", "-p", str(pid)], text=True)[0]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy that fires at the first step with a low ESS."""
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Where the run will be."""
    return tmp_path / "run"


@pytest.fixture
def guard(run: Path) -> Iterator[Guard]:
    """Starts `mmhealth guard`; what is left of one at the end of the test is killed."""
    started = []

    def start(command: list[str], *options: object, **popen: Any) -> Popen:
        own = [sys.executable, "-m", "mmhealth", "guard", "--run-dir", str(run), "--poll", "0.05"]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = subprocess.Popen([*own, *map(str, options), "--", *command], **(pipes | popen))
        started.append(process)
        return process

    yield start
    for process in started:
        for identity in family(-1, {identify(process.pid)}) if process.poll() is None else ():
            os.kill(identity.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture(autouse=True)
def _no_signal_ignored() -> Iterator[None]:
    """Who runs the tests may ignore some, as ``nohup`` does; a guard would leave them so."""
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
    ignored = [number for number in numbers if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


def recording(run: Path, *, sick_from: int, steps: int) -> list[str]:
    """The command of a job that records a run."""
    return [sys.executable, "-c", JOB, str(run), str(sick_from), str(steps)]


def test_a_sick_job_is_stopped_within_two_steps_of_its_alert(
    guard: Guard, run: Path, policy: Path, tmp_path: Path
) -> None:
    config = tmp_path / "notify.toml"
    config.write_text(f"version = 1\n[targets.f]\nkind = 'file'\npath = '{tmp_path / 'told'}'\n")
    job = guard(recording(run, sick_from=6, steps=40), "--policy", policy, "--notify", config)
    out, err = job.communicate()
    assert job.returncode == 86, err
    read = open_run(run)
    assert read.steps["step"].to_list()[-1] <= 6 + 2
    assert read.status().steps_complete >= 7
    assert not read.status().data_lost
    page = tmp_path / "run.guard.html"
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    own = [line for line in err.decode().splitlines() if line.startswith("mmhealth guard: ")]
    assert len(own) == 3
    assert "critical: ess: ess_signal = 0.0156 against 0.2 at step 6" in own[0]
    assert own[1].endswith("A few trajectories make the update. Fix: Restore outcome contrast.")
    assert str(page) in own[2]
    assert out.decode().startswith("step 0\nstep 1\n")
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert [(m["run"], m["alert"]["state"], m["alert"]["step"]) for m in told] == [
        (str(run), "firing", 6)
    ]
    state = json.loads((tmp_path / "run.guard.json").read_text())
    assert (state["phase"], state["exit_code"]) == ("stopped", 86)


def test_a_healthy_job_does_not_notice_it(guard: Guard, run: Path, tmp_path: Path) -> None:
    guarded = guard(recording(run, sick_from=99, steps=12))
    bare = subprocess.run(
        recording(tmp_path / "bare", sick_from=99, steps=12),
        input=b"to the job",
        capture_output=True,
        check=False,
    )
    assert guarded.communicate(b"to the job") == (bare.stdout, bare.stderr)
    assert guarded.returncode == bare.returncode == 0
    assert bare.stdout.endswith(b"to the job")
    assert open_run(run).status().steps_complete == 12


def test_signals_reach_the_job_and_the_job_decides(guard: Guard, tmp_path: Path) -> None:
    names = ("HUP", "INT", "TERM", "USR1", "USR2", "WINCH")
    traps = " ".join(f"trap 'echo {name}' {name};" for name in names)
    last = tmp_path / "last"
    job = guard(
        ["sh", "-c", f"{traps} echo $$; while [ ! -e {last} ]; do sleep 0.05; done; exit 9"]
    )
    assert job.stdout is not None
    pid = int(job.stdout.readline())
    for name in names:
        job.send_signal(getattr(signal, f"SIG{name}"))
        assert job.stdout.readline() == f"{name}\n".encode()
    job.send_signal(signal.SIGTSTP)
    # A shell whose child was stopped between vfork and exec waits for it, in state D.
    wait_until(lambda: state_of(job.pid) == "T" and state_of(pid) in "TD", "both to stop")
    last.touch()
    job.send_signal(signal.SIGCONT)
    assert job.communicate()[0] == b""
    assert job.returncode == 9


def test_a_job_outlives_a_guard_that_is_killed_and_the_next_guard_says_so(
    guard: Guard, run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pids, last, started = tmp_path / "pid", tmp_path / "last", tmp_path / "started"
    loop = f"while [ ! -e {last} ]; do sleep 0.05; done"
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    first = guard(["sh", "-c", f"echo $$ > {pids}.new; mv {pids}.new {pids}; {loop}"], **streams)
    wait_until(pids.exists, "the job")
    job = identify(int(pids.read_text()))
    assert job is not None
    state = tmp_path / "run.guard.json"
    wait_until(lambda: json.loads(state.read_text())["phase"] == "running", "the state file")
    try:
        assert in_this_process(run, "touch", started) == 87
        assert f"another guard (pid {first.pid} on " in capfd.readouterr().err
        first.kill()
        first.wait()
        assert in_this_process(run, "touch", started) == 87
        said = capfd.readouterr().err
        assert said.startswith("mmhealth guard: the job is not started: an earlier guard ")
        assert f"(pid {first.pid}) died, and its job (pid {job.pid}) still runs" in said
        assert is_alive(job)
        assert not started.exists()
    finally:
        last.touch()
    wait_until(lambda: not is_alive(job), "the job to end")
    assert in_this_process(run, "touch", started) == 0
    assert started.exists()


@pytest.mark.parametrize(
    ("script", "code"), [("exit 5", 5), ("kill -KILL $$", 137), ("kill -SEGV $$", 139)]
)
def test_the_exit_code_is_that_of_the_job(
    run: Path, capfd: pytest.CaptureFixture[str], script: str, code: int
) -> None:
    assert in_this_process(run, "sh", "-c", f"echo out; echo err >&2; {script}") == code
    assert capfd.readouterr() == ("out\n", "err\n")


def test_commands_that_cannot_be_run_have_the_codes_of_shells(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert in_this_process(run, "no-such-command") == 127
    assert in_this_process(run, tmp_path) == 126
    said = capfd.readouterr().err.splitlines()
    assert said[0] == "mmhealth guard: no-such-command cannot be run: No such file or directory"
    assert said[1].endswith("cannot be run: Permission denied")


def test_words_after_the_command_are_the_commands(
    run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = ["sh", "-c", 'echo "$@"; exit 3', "sh", "--grace", "--", "--help"]
    assert in_this_process(run, *script) == in_this_process(run, "--", *script) == 3
    assert capfd.readouterr().out == 2 * "--grace -- --help\n"


def test_signals_that_were_ignored_stay_so(run: Path) -> None:
    numbers = (signal.SIGHUP, signal.SIGCHLD)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        assert in_this_process(run, "sh", "-c", "kill -HUP $PPID; kill -HUP $$; exit 8") == 8
        assert {signal.getsignal(number) for number in numbers} == {signal.SIG_IGN}
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def test_a_job_that_does_not_end_is_killed_with_all_that_it_started(
    run: Path, policy: Path, tmp_path: Path, collapsing_run: Path
) -> None:
    """The worker leads a session of its own, as those of torchrun do; it would live a minute."""
    worker = "trap '' TERM; echo $$ > worker; for i in $(seq 600); do sleep 0.1; done"
    script = (
        f"trap '' TERM; setsid sh -c \"{worker.replace('$', chr(92) + '$')}\" & "
        f"while [ ! -s worker ]; do sleep 0.1; done; cp -r {collapsing_run} new; mv new {run}; wait"
    )
    code = in_this_process(
        run, "--policy", policy, "--grace", "0.3", "sh", "-c", f"cd {tmp_path}; {script}"
    )
    assert code == 86
    assert identify(int((tmp_path / "worker").read_text())) is None


def test_a_run_that_cannot_be_read_is_said_once_and_the_job_goes_on(
    run: Path, policy: Path, tmp_path: Path
) -> None:
    last, said = tmp_path / "last", []

    def say(line: str) -> None:
        said.append(line)
        last.touch()

    junk = f"mkdir {run}; echo junk > {run}/run.json"
    script = f"{junk}; while [ ! -e {last} ]; do sleep 0.05; done; exit 6"
    config = GuardConfig(
        command=["sh", "-c", script], run_dir=run, policy=load_policy(policy), poll=0.05
    )
    assert run_guarded(config, say) == 6
    [line] = said
    assert line.startswith(f"the run cannot be judged, the job goes on: {run}/run.json cannot be")


def test_a_success_that_recorded_nothing_is_not_passed_over(
    run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert in_this_process(run, "true") == 0
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("mmhealth guard: the job was not really watched")


@pytest.mark.parametrize("sick", [True, False])
def test_a_signal_after_the_end_changes_no_exit_code(
    guard: Guard, run: Path, policy: Path, tmp_path: Path, sick: bool
) -> None:
    """A report that goes into a pipe that nobody reads, and a receiver that hangs."""
    os.mkfifo(tmp_path / "page")
    if not sick:
        mild = POLICY.replace("below = 0.2", "above = 0.5").replace("critical", "warning")
        policy.write_text(mild)
    config = tmp_path / "notify.toml"
    hangs = "kind = 'command'\ncommand = ['sleep', '30']\ntimeout = 60\n"
    config.write_text(f"version = 1\n[targets.c]\n{hangs}")
    options = ("--policy", policy, "--notify", config, "--report", tmp_path / "page")
    job = guard(recording(run, sick_from=0 if sick else 99, steps=2), *options)
    assert job.stdin is not None
    job.stdin.close()
    job.stdin = None
    state = tmp_path / "run.guard.json"
    phase, code = ("stopped", 86) if sick else ("ended", 0)
    wait_until(lambda: state.exists() and f'"{phase}"' in state.read_text(), "the end of the job")
    job.send_signal(signal.SIGTERM)
    _, err = job.communicate()
    assert job.returncode == code
    assert f"report and notifications are abandoned; exit code {code}" in err.decode()


def test_a_reference_that_cannot_be_read_shows_before_the_job_starts(
    run: Path, policy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    policy.write_text(POLICY.replace("version = 1", "version = 1\nreference = 'nowhere'"))
    started = tmp_path / "started"
    assert in_this_process(run, "--policy", policy, "touch", started) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert f"{policy}: reference: {tmp_path / 'nowhere'} is not a run" in line
    assert not started.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--report", "run/page.html"), "which is the recorder's"),
        (("--report", "."), "is a directory"),
        (("--report", "no/page.html"), "no is not a directory"),
        (("--policy", "none.toml"), "none.toml: cannot be read"),
        (("--notify", "none.toml"), "none.toml: cannot be read"),
    ],
)
def test_wrong_usage_shows_before_the_job_starts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    options: tuple[str, str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert in_this_process(Path("run"), *options, "touch", "started") == 2
    assert says in capfd.readouterr().err
    assert not Path("started").exists()
