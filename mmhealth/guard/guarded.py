"""Runs a job under guard: start it, watch its run, stop it when the policy says so, report."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from mmhealth.guard.process import Job, SignalPost
from mmhealth.guard.report import write_report
from mmhealth.guard.state import GuardState, Phase, beside, claim
from mmhealth.guard.watch import Watch
from mmhealth.guard.watchman import Careful, Say, Watchman
from mmhealth.health import Policy
from mmhealth.integrations.notify import Notifier

STOPPED, REFUSED, NOT_RUNNABLE, NOT_FOUND = 86, 87, 126, 127
"""Exit codes of the guard's own; 126 and 127 are those of shells."""
_NOTIFY_S = 30.0
"""How long the end waits for notifications that are under way."""


def say_on_stderr(line: str) -> None:
    """Say something of the guard's own: on stderr, marked as such, and never in the job's way."""
    with suppress(OSError, ValueError):
        print(f"mmhealth guard: {' '.join(line.split())}", file=sys.stderr, flush=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardConfig:
    """A job, and how it is guarded."""

    command: Sequence[str]
    run_dir: Path
    policy: Policy
    grace: float = 30.0
    """Seconds between SIGTERM and SIGKILL."""
    poll: float = 1.0
    """Seconds between two looks at the run."""
    report: Path | None = None
    """Where the report of a stopped job goes; default: ``RUN.guard.html``, beside the run."""
    notifier: Notifier | None = None
    """Told of every alert of the job; closed at the end."""


def run_guarded(config: GuardConfig, say: Say = say_on_stderr) -> int:
    """Run the job to its end, or to its stop; the exit code of both.

    That is the job's own, 128 + n where signal n ended it, or one of `STOPPED`, `NOT_RUNNABLE`,
    `NOT_FOUND`. A signal that comes after the job's end abandons report and notifications, and
    changes no code. For the main thread, which takes signals. Raises GuardError, before anything is
    started, when somebody else is at work on the run directory.
    """
    notifier = config.notifier
    with ExitStack() as stack:
        if notifier is not None:
            stack.callback(notifier.close, 0.0)
        try:
            state = stack.enter_context(claim(config.run_dir))
        except OSError as error:
            say(f"another guard will not know of this one: {error}")
            state = None
        watch = Watch(config.run_dir, config.policy, None if notifier is None else notifier.send)
        careful = Careful(say)
        post = SignalPost()
        stack.enter_context(post.open())
        try:
            job = Job(config.command)
        except OSError as error:
            say(f"{shlex.quote(config.command[0])} cannot be run: {error.strerror or error}")
            code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUNNABLE
            _note(state, "ended", code)
            return code
        if state is not None:
            state.running(job.identity)
        post.deliver_to(job)
        watchman = Watchman(watch, job, state, careful, say, poll=config.poll, grace=config.grace)
        code = job.wait()
        known = watchman.finish()
        own = STOPPED if watchman.stopped_for else code
        _note(state, "stopped" if watchman.stopped_for else "ended", own)

        def tell() -> None:
            if watchman.stopped_for:
                _tell_of_stop(config, watchman, code, say)
            elif known:
                _tell_of_end(watchman, code, say)
            if notifier is not None:
                _close(notifier, say)

        if not post.do_unless_signalled(tell):
            say(f"a signal: report and notifications are abandoned; exit code {own}")
        return own


def _tell_of_stop(config: GuardConfig, watchman: Watchman, code: int, say: Say) -> None:
    """What the alert means, what to do, and where the report is."""
    alert = watchman.stopped_for[0]
    watchman.look()
    path = config.report or beside(config.run_dir, ".html")
    written = watchman.careful.attempt(
        lambda: write_report(config.run_dir, config.policy, path), "no report is written"
    )
    if why := " ".join((alert.meaning, f"Fix: {alert.fix}" if alert.fix else "")).strip():
        say(why)
    step = watchman.watch.last_step()
    last = "" if step is None else f" after step {step}"
    found = f"report: {path}; " if written else ""
    say(f"the job has ended{last} with code {code}; {found}exit code {STOPPED}")


def _tell_of_end(watchman: Watchman, code: int, say: Say) -> None:
    """The job ended by itself: nothing to say, unless nobody would hear of what is wrong."""
    breaching = watchman.look()
    if breaching:
        say(
            f"the job ended by itself while an alert was firing: {breaching[0].severity}: "
            f"{breaching[0].message} `mmhealth audit {watchman.watch.run_dir}` says more"
        )
    elif breaching is not None and code == 0 and (why := watchman.watch.unjudged()):
        say(f"the job was not really watched: {why}")


def _note(state: GuardState | None, phase: Phase, code: int) -> None:
    if state is not None:
        state.write(phase, exit_code=code)


def _close(notifier: Notifier, say: Say) -> None:
    notifier.close(_NOTIFY_S)
    for target in notifier.counts():
        if target.failed or target.dropped:
            say(f"notify: {target.describe()}")
