import io
import json
import os
import pickle
import signal
from pathlib import Path

import pytest
from rich.console import Console

from mmhealth.engines import LocalEngine, SerialEngine
from mmhealth.fleet import (
    Fleet,
    RunSummary,
    fleet_markdown,
    fleet_summary_as_dict,
    judge_fleet,
    print_fleet_table,
    select_runs,
)
from mmhealth.fleet.judge import each_judged
from mmhealth.health import Monitor, judge_run
from mmhealth.place import RunPlace
from mmhealth.report import dump_json


@pytest.fixture(scope="module")
def fleet(fleet_folder: Path) -> Fleet:
    return judge_fleet([fleet_folder])


def test_every_run_is_a_row_with_the_verdict_that_it_has_alone(fleet: Fleet) -> None:
    assert [run.name for run in fleet.runs] == [
        "bare", "broken", "rescued", "collapsing", "healthy",
    ]  # fmt: skip
    for run in fleet.runs:
        if run.name == "broken":
            assert run.verdict == "unreadable"
            assert "run.json cannot be read" in run.why
            continue
        monitor = Monitor(run.path)
        monitor.poll()
        alone = judge_run(monitor)
        assert (run.verdict, run.why, run.step) == (alone.name, alone.why, alone.step)
        assert run.state == "finished"
    assert fleet.verdicts == {
        "critical": 1, "unreadable": 1, "warning": 1, "insufficient": 1, "healthy": 1,
    }  # fmt: skip


def test_the_engine_changes_nothing_and_a_summary_travels(fleet_folder: Path, fleet: Fleet) -> None:
    told: list[int] = []
    with LocalEngine(2) as engine:
        other = judge_fleet([fleet_folder], engine=engine, told=told.append)
    assert other.runs == fleet.runs
    assert told == sorted(set(told))
    assert told[-1] == 5
    assert judge_fleet([fleet_folder], engine=SerialEngine()).runs == fleet.runs
    assert pickle.loads(pickle.dumps(fleet.runs)) == fleet.runs
    assert max(len(pickle.dumps(run)) for run in fleet.runs) < 10_000


def summary_or_death(path: RunPlace) -> RunSummary:
    """A run called giant takes more memory than there is."""
    if path.name == "giant":
        os.kill(os.getpid(), signal.SIGKILL)
    return RunSummary(path=str(path), name=path.name, verdict="healthy", why="")


def test_a_run_that_workers_die_of_is_a_row_and_costs_no_other() -> None:
    paths: list[RunPlace] = [Path(name) for name in ("a", "b", "giant", "c", "d", "e")]
    told: list[int] = []
    with LocalEngine(2) as engine:
        found = list(each_judged(summary_or_death, paths, engine, told.append))
    assert [run.name for run in found] == [path.name for path in paths]
    assert [run.verdict for run in found].count("unreadable") == 1
    assert "3 workers died of the task" in found[2].why
    assert told == sorted(set(told))
    assert told[-1] == len(paths)


def test_the_table_shows_the_gravest_first_on_any_width(fleet: Fleet) -> None:
    shown = select_runs(fleet.runs, (), reverse=False)
    for width in (60, 80, 160):
        file = io.StringIO()
        print_fleet_table(fleet, shown, Console(file=file, width=width))
        head, columns, *lines = file.getvalue().splitlines()
        assert head == "5 runs: 1 critical, 1 unreadable, 1 warning, 1 insufficient, 1 healthy"
        assert columns.startswith("verdict")
        assert max(map(len, lines)) <= width
        verdicts = [line.split()[0] for line in lines]
        assert verdicts == ["critical", "unreadable", "warning", "insufficient", "healthy"]
    assert "15 (" not in lines[4]
    assert lines[0].split()[1] == "collapsing"


def test_every_key_of_the_json_is_documented(fleet: Fleet) -> None:
    text = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text(encoding="utf-8")
    text = text[text.index("## JSON") :]
    for run in fleet_summary_as_dict(fleet, fleet.runs)["runs"]:
        parts = [run, *(run[name] or {} for name in ("worst", "lead")), *run["alerts"]]
        for key in {key for part in parts for key in part}:
            assert f"`{key}`" in text, key


def test_markdown_and_json_hold_the_same_runs(fleet: Fleet) -> None:
    shown = select_runs(fleet.runs, ["verdict=critical"], reverse=False)
    text = fleet_markdown(fleet, shown)
    assert text.startswith("5 runs: ")
    assert "1 shown" in text
    [row] = text.splitlines()[4:]
    assert row.startswith("| critical | collapsing | ")
    content = json.loads(dump_json(fleet_summary_as_dict(fleet, shown)))
    [run] = content["runs"]
    assert (run["verdict"], run["name"], run["config"]["optimizer.lr"]) == (
        "critical", "collapsing", 1e-5,
    )  # fmt: skip
    assert run["worst"]["headroom"] < 1
