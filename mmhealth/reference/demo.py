"""The demo: a run that collapses and one that is cured, trained side by side under a live page."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from mmhealth.errors import RunError, RunNotFoundError
from mmhealth.health import Alert, Monitor, default_policy
from mmhealth.report.audit import RunAudit, audit_runs
from mmhealth.report.gate import decide
from mmhealth.report.terminal import describe_held_out

_LOOK_EVERY_S = 0.5
_PATIENCE_S = 5.0
_PRESETS = {"baseline": "baseline", "fix": "ess"}
"""Name of each run and its preset."""
_CHILD = """
from mmhealth.cli import main
from mmhealth.reference.lifeline import end_with_parent
end_with_parent()
main()
"""

Say = Callable[[str], None]


class Serve(Protocol):
    """What the demo needs of `mmhealth.dashboards.serve`."""

    def __call__(
        self, paths: list[Path], *, port: int, note: str, ready: Callable[[str], None]
    ) -> None:
        """Serve the page of these runs until interrupted."""


@dataclass(kw_only=True, slots=True)
class DemoConfig:
    """What can be chosen."""

    folder: Path
    """The runs go to a fresh directory under it."""
    pace: float = 0.2
    """Least seconds a step takes."""
    seed: int = 53
    steps: int = 160
    port: int = 8050
    browser: bool = True
    """Open the page in a browser, where there is one."""
    exit_when_done: bool = False
    """End with the training instead of keeping the page up."""


def run_demo(config: DemoConfig, serve: Serve, say: Say = print) -> bool:
    """Page up, train, tell what happens; say whether both runs were trained to the end.

    The trainings are child processes that end with the demo, however it ends. Raises
    PortInUseError, and RunError when a training fails.
    """
    folder = _fresh(config.folder)
    runs = {name: folder / name for name in _PRESETS}
    done = False
    with ExitStack() as stack:
        stack.enter_context(_signals_as_exit())
        try:
            page = _Page(serve, list(runs.values()), config)
            _introduce(page.url, runs, config, say)
            if config.browser and _has_display():
                webbrowser.open(page.url)
            trainings = {
                name: stack.enter_context(_training(_PRESETS[name], path, config))
                for name, path in runs.items()
            }
            _follow(trainings, runs, say)
            done = True
            _conclude(runs, say)
            if not config.exit_when_done:
                say(f"\nThe page stays at {page.url} until Ctrl-C.")
                page.wait()
        except KeyboardInterrupt:
            say("\nended")
    return done


class _Page:
    """The dashboard, served from a thread of its own."""

    def __init__(self, serve: Serve, paths: list[Path], config: DemoConfig) -> None:
        self.url = ""
        self._error: BaseException | None = None
        self._up = threading.Event()
        note = f"Demo, paced: at least {config.pace:g} s a step. The training itself is unchanged."

        def ready(url: str) -> None:
            self.url = url
            self._up.set()

        def work() -> None:
            try:
                serve(paths, port=config.port, note=note, ready=ready)
            except BaseException as error:  # noqa: BLE001 - handed to the main thread
                self._error = error
            self._up.set()

        self._thread = threading.Thread(target=work, name="mmhealth-page", daemon=True)
        self._thread.start()
        self._up.wait()
        self._raise()

    def wait(self) -> None:
        """Until the page ends, which it does not by itself."""
        while self._thread.is_alive():
            self._thread.join(_LOOK_EVERY_S)
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


def _introduce(url: str, runs: dict[str, Path], config: DemoConfig, say: Say) -> None:
    say(
        f"""mmhealth demo: one task, one seed, two trainings side by side
  page  {url}
  runs  {", ".join(str(path) for path in runs.values())}
  pace  at least {config.pace:g} s a step, so that you can follow; no number changes by it

Watch for: in both, reward rises while the effective sample size (ESS) falls. Below its line the
alert fires. The baseline goes on and stops learning; the fix acts on the same alert.
"""
    )


def _follow(
    trainings: dict[str, "subprocess.Popen[bytes]"], runs: dict[str, Path], say: Say
) -> None:
    """Tell of alerts until both trainings have ended. Raises RunError when one fails."""
    monitors: dict[str, Monitor] = {}
    while True:
        ended = {preset: child.poll() for preset, child in trainings.items()}
        for preset, path in runs.items():
            if preset not in monitors:
                try:
                    monitors[preset] = Monitor(path)
                except RunNotFoundError:
                    continue
            for alert in monitors[preset].poll():
                _tell(preset, alert, say)
        for preset, code in ended.items():
            if code:
                log = runs[preset].with_suffix(".log")
                last = log.read_text(errors="replace").strip().splitlines()[-1:]
                raise RunError(f"training {preset} failed ({code}): {' '.join(last)}; see {log}")
        if all(code is not None for code in ended.values()):
            return
        time.sleep(_LOOK_EVERY_S)


def _tell(preset: str, alert: Alert, say: Say) -> None:
    if alert.severity != "critical" and alert.metric != "ess_signal":
        return
    if alert.state == "firing":
        say(f"{preset:>8}, step {alert.step:>3}: {alert.severity.upper()} {alert.message}")
    elif alert.resolved_step is not None:
        say(f"{preset:>8}, step {alert.resolved_step:>3}: resolved: {alert.rule}")


def _conclude(runs: dict[str, Path], say: Say) -> None:
    audit = audit_runs([Monitor(path, default_policy(), readings=True) for path in runs.values()])
    say("\nBoth are trained. What happened:")
    for preset, run in zip(runs, audit.runs, strict=True):
        say(f"{preset:>8}: {'; '.join(describe_held_out(run.held_out))}")
    quoted = {preset: shlex.quote(str(path)) for preset, path in runs.items()}
    say("\nType next:")
    command = _command()
    say(f"  {command} audit {' '.join(quoted.values())} --html audit.html")
    for preset, run in zip(runs, audit.runs, strict=True):
        say(f"  {command} gate {quoted[preset]}  # {_gate_says(run)}")


def _command() -> str:
    """How to call mmhealth from here: in a fresh clone it is not on the PATH."""
    if shutil.which("mmhealth"):
        return "mmhealth"
    script = Path(sys.executable).with_name("mmhealth")
    here = Path.cwd()
    return shlex.quote(str(script.relative_to(here) if script.is_relative_to(here) else script))


def _gate_says(run: RunAudit) -> str:
    decision = decide(run, run.monitor.policy)
    return f"{decision.outcome}: {decision.why}"


@contextmanager
def _training(
    preset: str, run_dir: Path, config: DemoConfig
) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-c", _CHILD, "train", "--env", "F2", "--preset", preset]
    options = {"run-dir": run_dir, "seed": config.seed, "steps": config.steps, "pace": config.pace}
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    child = None
    try:
        with run_dir.with_suffix(".log").open("wb") as log, _signals_deferred():
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        yield child
    finally:
        if child is not None:
            _end(child)


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.terminate()
    try:
        child.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdin is not None:
        child.stdin.close()


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Signals that end the demo wait until the block is left: no child is lost while it starts."""
    waiting: list[int] = []

    def defer(number: int, _frame: object) -> None:
        waiting.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, defer) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if waiting:
            signal.raise_signal(waiting[0])


@contextmanager
def _signals_as_exit() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demo as an exception does, so that nothing is left running."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fresh(folder: Path) -> Path:
    """A new directory named by the time."""
    name = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        path = folder / f"{name}{suffix}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise RunError(
                f"{path} cannot be made: {error.strerror}: choose another --dir"
            ) from error
        return path
    raise RunError(f"{folder / name} exists already: choose another --dir")


def _has_display() -> bool:
    """Whether a browser opens in a window, and not in this terminal."""
    return sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
