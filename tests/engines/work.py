"""What the engines of the tests are given to do."""

import os
import signal
import sys
import time
from pathlib import Path

from mmhealth.engines import LocalEngine
from mmhealth.errors import RunError


def await_end(process: int) -> None:
    """Returns when a process does nothing any more."""
    while _is_alive(process):
        time.sleep(0.01)


def _is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class UnwillingError(Exception):
    """Goes through pickle, but not back."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


def square(number: int) -> int:
    return number * number


def stretched(number: int) -> int:
    """The later the task, the sooner it is done."""
    time.sleep(0.02 * (4 - number % 5))
    return number


def picky(number: int) -> int:
    if number == 3:
        raise RunError(f"no run {number}")
    return number


def unwilling(number: int) -> int:
    raise UnwillingError("no ", "way")


def unpicklable(number: int) -> object:
    return lambda: number


def mortal(task: tuple[Path, int]) -> int:
    """Task 2 kills its worker, the first time."""
    folder, number = task
    died = folder / "died"
    if number == 2 and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def lethal(number: int) -> int:
    """Task 2 kills every worker."""
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def leaving(number: int) -> int:
    """Task 2 wants to end the program."""
    if number == 2:
        sys.exit("enough")
    return number


def worker_id(number: int) -> int:
    return os.getpid()


def identity_or_size(size: int) -> object:
    """Who works, or as many bytes as are asked for."""
    return bytes(size) if size > 1 else os.getpid()


def nested(number: int) -> list[int]:
    """Asks for workers of its own."""
    with LocalEngine(2) as engine:
        return list(engine.map(square, range(number)))


def marking(folder: Path) -> None:
    """Says who works, and goes on for long."""
    (folder / str(os.getpid())).touch()
    time.sleep(60)
