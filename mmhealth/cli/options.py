"""Argument types of the commands, and the few things that several commands do."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmhealth.errors import RunNotFoundError
from mmhealth.place import RunPlace, run_place

if TYPE_CHECKING:
    from mmhealth.engines import Engine


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
    """A path, or the URL of a run in an object store."""
    try:
        return run_place(text)
    except RunNotFoundError as error:
        raise typer.BadParameter(str(error)) from error


def file_at(text: str | Path) -> Path:
    """A file to be written; an option in its place is a value that was forgotten."""
    if str(text).startswith("--"):
        raise typer.BadParameter(f"{text} is an option, and no file: ./{text} would be one")
    return Path(text)


RunPath = Annotated[
    Any,
    typer.Argument(parser=run_at, metavar="RUN", help="A run directory, or s3://, gs://, az://."),
]
RunPaths = Annotated[
    list[Any],
    typer.Argument(parser=run_at, metavar="RUN", help="Run directories, or s3://, gs://, az://."),
]
"""Each a `RunPlace`; typer knows no unions in a list."""
BaselineRun = Annotated[
    Any,
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
_ENGINE = typer.Option(
    "--engine",
    metavar="E",
    help="Where to work: serial, local (all cores), local:N, ray, ray:N, ray:auto or "
    "ray://HOST:PORT (docs/ray.md). The results are the same.",
    show_default=False,
)
EngineName = Annotated[str, _ENGINE]
FleetEngineName = Annotated[str | None, _ENGINE]
LastSteps = Annotated[
    int, typer.Option("--last", metavar="K", min=1, help="Last steps whose means are compared.")
]
JsonPath = Annotated[
    Path | None,
    typer.Option(
        "--json",
        parser=file_at,
        metavar="F|-",
        help="Write JSON; - prints it instead of the text.",
    ),
]
PrintedFormat = Annotated[
    AuditFormat | None,
    typer.Option("--format", help="What to print. Default: text.", show_default=False),
]
UseCache = Annotated[
    bool,
    typer.Option("--cache/--no-cache", help="Measure only steps that were not measured before."),
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")]
Seed = Annotated[int, typer.Option(min=0, help="Draws environment, policy and rollouts.")]
Steps = Annotated[int, typer.Option(min=1, help="Steps to train.")]
Pace = Annotated[float, typer.Option(min=0, help="Least seconds a step takes; no number changes.")]


def usage_error(message: str) -> typer.Exit:
    """Say on one line of stderr what was wrong; raise what this returns."""
    typer.echo(f"mmhealth: {message}", err=True)
    return typer.Exit(2)


@contextmanager
def chosen_engine(name: str) -> Iterator["Engine | None"]:
    """The engine of ``--engine``; None for work that is done here."""
    from mmhealth.engines import SerialEngine, parse_engine
    from mmhealth.errors import EngineError

    if name != "serial":
        os.environ.setdefault("POLARS_MAX_THREADS", "1")  # of workers, of which each core has one
    try:
        engine = parse_engine(name)
    except EngineError as error:
        raise usage_error(f"--engine: {error}") from None
    with engine:
        yield None if isinstance(engine, SerialEngine) else engine


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
