import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmhealth.cli import main

Run = Callable[..., SimpleNamespace]


@pytest.fixture
def fleet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``mmhealth fleet`` in this process, where nothing says how wide the terminal is."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments: object) -> Any:
        with pytest.raises(SystemExit) as end:
            main(["fleet", *map(str, arguments), "--workers", "1"])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=end.value.code, out=out, err=err)

    return run


def test_a_quoted_pattern_is_expanded_and_broken_runs_are_lines(
    fleet: Run, fleet_folder: Path
) -> None:
    done = fleet(fleet_folder / "**")
    assert (done.code, done.err) == (0, "")
    head, _, *lines = done.out.splitlines()
    assert head.startswith("5 runs: 1 critical, 1 unreadable")
    assert [line.split()[1] for line in lines[:2]] == ["collapsing", "broken"]
    assert "run.json cannot be read" in lines[1]


def test_a_path_that_is_no_run_is_a_line_too(fleet: Run, fleet_folder: Path) -> None:
    done = fleet(fleet_folder / "math" / "healthy", fleet_folder / "code" / "notes")
    assert done.code == 0
    assert "is not a run directory" in done.out
    alone = fleet(fleet_folder / "code" / "notes")
    assert alone.code == 3
    assert "unreadable" in alone.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("math/nothing*",), 3, "no run directory matches"),
        (("math", "--filter", "flavour=1"), 2, "no run has 'flavour'"),
        (("math", "--sort", "flavour"), 2, "no run has 'flavour'"),
        (("math", "--json", "-", "--format", "text"), 2, "both print to stdout"),
        (("math", "--serve", "--top", "3"), 2, "--serve goes with"),
        (("math", "--html", "no/such/folder/f.html"), 2, "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_an_exit_code(
    fleet: Run,
    fleet_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(fleet_folder)
    done = fleet(*arguments)
    assert done.code == code
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_what_a_filter_leaves_out_is_not_judged(
    fleet: Run, tmp_path: Path, record: Callable[..., Path]
) -> None:
    for number in range(4):
        record(tmp_path / "runs" / f"seed{number}", [1.0] * 3, config={"seed": number})
    done = fleet(tmp_path / "runs", "--filter", "seed>=1", "--filter", "name!=seed3")
    assert done.out.splitlines()[0] == "2 runs: 2 healthy"
    done = fleet(tmp_path / "runs", "--filter", "seed=9", "--sort", "seed")
    assert (done.code, done.out) == (0, "0 runs\n")
    done = fleet(tmp_path / "runs", "--filter", "seed=1", "--filter", "verdict=critical")
    assert done.out == "1 run: 1 healthy; 0 shown\n"


def test_names_that_a_terminal_or_markdown_would_obey_are_text(
    fleet: Run, tmp_path: Path, record: Callable[..., Path]
) -> None:
    record(tmp_path / "runs" / "new\nline", [1.0] * 3)
    record(tmp_path / "runs" / "esc\x1b[31m", [1.0] * 3)
    record(tmp_path / "runs" / "<b>|[red]", [1.0] * 3)
    lines = fleet(tmp_path / "runs").out.splitlines()
    assert len(lines) == 5
    assert {re.split("  +", line)[1] for line in lines[2:]} == {
        "new line", "esc\ufffd[31m", "<b>|[red]",
    }  # fmt: skip
    text = fleet(tmp_path / "runs", "--format", "markdown").out
    assert "| &lt;b>\\|[red] |" in text
    assert "\x1b" not in text


def test_a_name_that_is_no_text_is_a_line_as_well(
    fleet: Run, tmp_path: Path, record: Callable[..., Path]
) -> None:
    run = record(tmp_path / "runs" / "fine", [1.0] * 3)
    try:
        shutil.copytree(run, os.fsdecode(os.fsencode(tmp_path / "runs") + b"/bad\xff"))
    except OSError:
        pytest.skip("this file system takes names that are text alone")
    record(tmp_path / "runs" / "odd", [1.0] * 3, config={"note": "\udcff", "more": ["\udcfe"]})
    for format in ("text", "json", "markdown", "html"):
        done = fleet(tmp_path / "runs", "--format", format)
        assert (done.code, done.err) == (0, "")
        assert "bad\\udcff" in done.out.replace("\\\\", "\\")


def test_files_are_written_for_the_runs_that_are_shown(
    fleet: Run, fleet_folder: Path, tmp_path: Path
) -> None:
    html, pages, out = tmp_path / "fleet.html", tmp_path / "deep" / "pages", tmp_path / "f.json"
    done = fleet(
        fleet_folder, "--filter", "lr=1e-5", "--sort", "name", "--reverse", "--top", "1",
        "--html", html, "--pages", pages, "--json", out,
    )  # fmt: skip
    assert done.code == 0
    assert done.out.splitlines()[0].endswith("; 1 shown")
    [run] = json.loads(out.read_text(encoding="utf-8"))["runs"]
    assert run["name"] == "rescued"
    [page] = pages.glob("*.html")
    assert f'href="deep/pages/{page.name}"' in html.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("format", "beginning"), [("json", "{"), ("markdown", "2 runs: "), ("html", "<!doctype html>")]
)
def test_formats_print_nothing_else(
    fleet: Run, fleet_folder: Path, format: str, beginning: str
) -> None:
    done = fleet(fleet_folder / "math", "--format", format)
    assert done.out.startswith(beginning)
    assert "verdict  " not in done.out.splitlines()[0]
