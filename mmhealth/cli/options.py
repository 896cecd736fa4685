"""Argument types of the commands, and the few things that several commands do."""

import importlib
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmhealth.errors import RunNotFoundError
from mmhealth.place import run_place

if TYPE_CHECKING:
    from mmhealth.place import RunPlace
else:
    RunPlace = Path  # typer knows no unions


class GateFormat(StrEnum):
    """How the gate's decision is printed."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"
    GITHUB = "github"
    SARIF = "sarif"


class AuditFormat(StrEnum):
    """How an audit is printed."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"


class LossRatio(StrEnum):
    """Levels of a loss's importance ratio."""

    TOKEN = "token"
    SEQUENCE = "sequence"
    GEOMETRIC = "geometric"
    NONE = "none"


def run_at(text: str) -> RunPlace:
    """A run as it is named on the command line."""
    try:
        return run_place(text)
    except RunNotFoundError as error:
        raise typer.BadParameter(str(error)) from None


RunPath = Annotated[
    RunPlace,
    typer.Argument(metavar="RUN", help="A run directory, or s3://, gs://, az://.", parser=run_at),
]
RunPaths = Annotated[
    list[RunPlace],
    typer.Argument(metavar="RUN", help="Run directories, or s3://, gs://, az://.", parser=run_at),
]
BaselineRun = Annotated[
    RunPlace | None,
    typer.Option(
        "--baseline",
        metavar="RUN0",
        help="Fail runs that are worse than this one.",
        parser=run_at,
    ),
]
RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
PolicyPath = Annotated[
    Path | None, typer.Option("--policy", metavar="F", help="Policy to judge by (TOML).")
]
LastSteps = Annotated[
    int, typer.Option("--last", metavar="K", min=1, help="Last steps whose means are compared.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")]
Seed = Annotated[int, typer.Option(min=0, help="Draws environment, policy and rollouts.")]
Steps = Annotated[int, typer.Option(min=1, help="Steps to train.")]
Pace = Annotated[float, typer.Option(min=0, help="Least seconds a step takes; no number changes.")]


def usage_error(message: str) -> typer.Exit:
    """Say on one line of stderr what was wrong; raise what this returns."""
    typer.echo(f"mmhealth: {message}", err=True)
    return typer.Exit(2)


def parse_pairs(texts: list[str], option: str) -> dict[str, str]:
    """``COLUMN=VALUE`` texts as a dictionary."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise usage_error(f"{option}: {text!r} is not of the form COLUMN=VALUE")
        if name in pairs:
            raise usage_error(f"{option}: {name!r} is given twice")
        pairs[name] = value
    return pairs


def write(path: Path, text: str, option: str) -> None:
    """Write text to a file; ``-`` is stdout."""
    if path == Path("-"):
        sys.stdout.write(text)
    else:
        save(path, option, lambda: path.write_text(text, encoding="utf-8"))


def save(path: Path, option: str, work: Callable[[], object]) -> None:
    """Do what writes ``path``; where that is not possible the option was wrong."""
    try:
        work()
    except OSError as error:
        why = error.strerror or error
        raise usage_error(f"{option}: {path} cannot be written: {why}") from None


def reference(module: str | None = None) -> Any:
    """The reference trainer, or one module of it; a usage error where torch is missing."""
    name = "mmhealth.reference" + (f".{module}" if module else "")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise usage_error(
            "the reference trainer needs torch: pip install 'mmhealth[torch]'"
        ) from None


def dashboards() -> Any:
    """The dashboard, which lives outside the package's folder."""
    return importlib.import_module("mmhealth.dashboards")
