import json
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.main import get_command

import mmhealth
from mmhealth.cli import app, main
from mmhealth.cli.blame_command import BasisName
from mmhealth.cli.options import LossRatio
from mmhealth.cli.reproduce_command import FigureName
from mmhealth.health.bases import BASES
from mmhealth.schema import LOSS_RATIOS


@dataclass
class Result:
    code: Any
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs the command line in this process."""

    def run(*arguments: object) -> Result:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Result(end.value.code, out, err)

    return run


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mmhealth", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


CACHE = ("--cache", "--no-cache")
COMMANDS = {
    "calibrate": {"RUN", "--target-false-alarms", "--solved-at", "--out", "--policy", "--engine"},
    "audit": {"RUN", "--html", "--json", "--format", "--policy", "--engine", *CACHE},
    "blame": {"RUN", "--step", "--last", "--by", "--basis", "--json"},
    "diagnose": {"RUN", "--json"},
    "demo": {
        "--pace", "--seed", "--steps", "--port", "--dir", "--browser", "--no-browser",
        "--exit-when-done",
    },
    "compact": {"RUN", "--target-mb"},
    "compare": {"RUN", "--fleet", "--last", "--json", "--policy"},
    "export": {"RUN", "--to", "--serve", "--follow", "--poll", "--policy"},
    "fleet": {
        "GLOB|RUN", "--sort", "--reverse", "--filter", "--top", "--html", "--pages", "--json",
        "--format", "--serve", "--port", "--workers", "--policy", "--engine", *CACHE,
    },
    "gate": {"RUN", "--policy", "--format", "--baseline", "--tolerance", "--last"},
    "guard": {
        "COMMAND", "--run-dir", "--policy", "--grace", "--poll", "--report", "--notify",
    },
    "import": {
        "PATH", "--out", "--from", "--follow", "--map", "--const", "--loss-ratio",
        "--nominal-batch", "--replace", "--engine",
    },
    "notify test": {"CONFIG"},
    "policy check": {"FILE"},
    "policy show": set(),
    "quantiles": {"RUN", "COLUMN", "--q", "--last", "--json"},
    "reproduce": {"--figure", "--seeds", "--first-seed", "--out", "--jobs"},
    "retain": {
        "RUN", "--keep-steps", "--keep-days", "--policy", "--dry-run", "--every", "--json",
    },
    "seal": {"RUN"},
    "timeline": {"RUN", "--out"},
    "train": {"--run-dir", "--env", "--preset", "--seed", "--steps", "--pace", "--resume"},
    "upload": {"RUN", "URL"},
    "watch": {"RUN", "--port", "--policy"},
    "whatif": {"RUN", "--step", "--last", "--json"},
}  # fmt: skip
"""The command line as it is promised: change it here only with a line in the changelog."""


def test_commands_and_options_are_frozen() -> None:
    found: dict[str, set[str]] = {}

    def walk(command: Any, name: str) -> None:
        for child, content in getattr(command, "commands", {}).items():
            walk(content, f"{name} {child}".strip())
        if not hasattr(command, "commands"):
            names = {
                text
                for parameter in command.params
                for text in (*parameter.opts, *parameter.secondary_opts)
            }
            metavars = {p.metavar for p in command.params if p.param_type_name == "argument"}
            options = {text for text in names if text.startswith("--")}
            found[name] = (options | metavars) - {"--help"}

    walk(get_command(app), "")
    assert found == COMMANDS


def test_public_exports_are_frozen() -> None:
    assert mmhealth.__all__ == [
        "Recorder", "RecorderHandle", "Run", "__version__", "new_attempt", "open_run",
    ]  # fmt: skip
    assert all(getattr(mmhealth, name) for name in mmhealth.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mmhealth.nothing


def test_choices_are_those_of_the_library() -> None:
    assert tuple(LossRatio) == LOSS_RATIOS
    assert set(BasisName) == set(BASES)
    pytest.importorskip("torch")
    from mmhealth.reference.experiments import FIGURES

    assert tuple(FigureName) == FIGURES


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom mmhealth.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit as end: assert not end.code\n"
        "heavy = {'dash', 'pyarrow', 'polars', 'torch', 'plotly', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for word in ("Quick start", "mmhealth audit RUN", "Judge runs", "See it happen"):
        assert word in done.stdout


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_help(cli: Cli, command: str) -> None:
    result = cli(*command.split(), "--help")
    assert result.code == 0
    assert "Usage: mmhealth" in result.out


def test_gate_exit_codes_of_a_real_process(
    tmp_path: Path, healthy_run: Path, collapsing_run: Path
) -> None:
    passed, breached = process("gate", healthy_run), process("gate", collapsing_run)
    assert (passed.returncode, breached.returncode) == (0, 1)
    assert passed.stdout.startswith("pass: healthy: no alert fires at step 11")
    assert breached.stdout.startswith("breach: collapsing: firing at critical or above: ess_")
    assert passed.stderr == breached.stderr == "", "no progress bar without a terminal"
    unreadable = process("gate", tmp_path / "none")
    assert unreadable.returncode == 3
    assert "Traceback" not in unreadable.stderr + unreadable.stdout
    usage = process("gate", healthy_run, "--format", "yaml")
    assert usage.returncode == 2
    assert "--format" in usage.stderr


def test_gate_formats(cli: Cli, tmp_path: Path, collapsing_run: Path, record: Any) -> None:
    empty = record(tmp_path / "empty", [])
    result = cli("gate", collapsing_run, "--format", "json")
    assert result.code == json.loads(result.out)["exit_code"] == 1
    result = cli("gate", empty, "--format", "junit")
    assert (result.code, ET.fromstring(result.out).get("errors")) == (3, "1")
    assert cli("gate", empty).code == 3


def test_gate_against_a_baseline(cli: Cli, healthy_run: Path, collapsing_run: Path) -> None:
    result = cli("gate", collapsing_run, "--baseline", healthy_run, "--format", "sarif")
    assert result.code == 1
    levels = {r["ruleId"]: r["level"] for r in json.loads(result.out)["runs"][0]["results"]}
    assert levels["mmhealth/baseline"] == levels["ess_collapse"] == "error"
    held = cli("gate", healthy_run, "--baseline", collapsing_run, "--tolerance", "0.2")
    assert held.code == 0
    assert f"baseline {collapsing_run}, tolerance 0.2" in held.out
    missing = cli("gate", healthy_run, "--baseline", healthy_run / "none", "--format", "junit")
    assert (missing.code, ET.fromstring(missing.out).get("errors")) == (3, "1")
    for wrong in ("-1", "nan"):
        assert cli("gate", healthy_run, "--baseline", healthy_run, "--tolerance", wrong).code == 2


def test_compare_prints_and_writes(
    cli: Cli, tmp_path: Path, healthy_run: Path, collapsing_run: Path
) -> None:
    both = cli("compare", healthy_run, collapsing_run, "--json", tmp_path / "c.json")
    assert both.code == 0
    assert "B  CRITICAL  collapsing" in both.out
    assert json.loads((tmp_path / "c.json").read_text())["steps"] == list(range(2, 12))
    only = cli("compare", healthy_run, collapsing_run, "--last", 3, "--json", "-")
    assert json.loads(only.out)["steps"] == [9, 10, 11]
    for arguments in ((healthy_run,), (healthy_run, collapsing_run, "--fleet", "x")):
        result = cli("compare", *arguments)
        assert (result.code, result.err.count("\n")) == (2, 1)
    assert cli("compare", healthy_run, tmp_path).code == 3


def test_compare_with_a_fleet(cli: Cli, tmp_path: Path, record: Any) -> None:
    runs = [record(tmp_path / f"run-{number}", [1.0] * 12) for number in range(3)]
    (tmp_path / "run-3").mkdir()
    result = cli("compare", runs[0], "--fleet", tmp_path / "run-*", "--json", "-")
    assert result.code == 0
    content = json.loads(result.out)
    assert [run["label"] for run in content["fleet"]] == ["run-1", "run-2"], "not the run itself"
    assert len(content["left_out"]) == 1
    assert "Fleet of 2: 2 healthy" in cli("compare", runs[0], "--fleet", tmp_path / "*").out
    none = cli("compare", runs[0], "--fleet", tmp_path / "nothing-*")
    assert (none.code, none.err.count("\n")) == (2, 1)


def test_gate_writes_githubs_summary(
    cli: Cli, tmp_path: Path, collapsing_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    result = cli("gate", collapsing_run, "--format", "github")
    assert result.out.startswith("::error title=collapsing%3A estimator collapse::")
    assert "breach" in (tmp_path / "summary.md").read_text()


def test_audit_prints_writes_and_keeps_stdout_clean(
    cli: Cli, tmp_path: Path, healthy_run: Path, collapsing_run: Path
) -> None:
    page, report = tmp_path / "a.html", tmp_path / "a.json"
    result = cli("audit", healthy_run, collapsing_run, "--html", page, "--json", report)
    assert result.code == 0
    assert "CRITICAL  collapsing" in result.out
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads(report.read_text())["verdict"] == "critical"
    assert json.loads(cli("audit", healthy_run, "--json", "-").out)["verdict"] == "healthy"


def test_audit_formats(cli: Cli, tmp_path: Path, healthy_run: Path) -> None:
    markdown = cli("audit", healthy_run, "--format", "markdown", "--json", tmp_path / "a.json")
    assert markdown.out.startswith("# mmhealth audit: healthy\n")
    printed = cli("audit", healthy_run, "--format", "json").out
    assert printed == (tmp_path / "a.json").read_text()
    assert cli("audit", healthy_run, "--format", "html").out.startswith("<!doctype html>")
    assert cli("audit", healthy_run, "--format", "text").out == cli("audit", healthy_run).out
    both = cli("audit", healthy_run, "--format", "markdown", "--json", "-")
    assert (both.code, both.err.count("\n"), both.out) == (2, 1, "")
    assert "--json and --format both print" in both.err


def test_errors_are_one_line_with_the_right_code(
    cli: Cli, tmp_path: Path, healthy_run: Path
) -> None:
    result = cli("audit", tmp_path)
    assert result.code == 3
    assert result.err.startswith(f"mmhealth: {tmp_path} is not a run directory")
    assert result.err.count("\n") == 1
    policy = tmp_path / "p.toml"
    policy.write_text("version = 1\n[gate]\nfail = 'critical'\n")
    for command in (("audit", healthy_run, "--policy", policy), ("policy", "check", policy)):
        result = cli(*command)
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert "p.toml, line 3: unknown key 'fail'" in result.err
    result = cli("audit", healthy_run, "--html", tmp_path / "no" / "a.html")
    assert result.code == 2
    assert "--html" in result.err


def test_timeline_as_csv_and_parquet(cli: Cli, tmp_path: Path, healthy_run: Path) -> None:
    printed = cli("timeline", healthy_run)
    assert printed.out.startswith("step,attempt,n,")
    assert printed.out.count("\n") == 13
    assert cli("timeline", healthy_run, "--out", tmp_path / "t.parquet").code == 0
    assert pl.read_parquet(tmp_path / "t.parquet")["ess_signal"].null_count() == 0
    assert cli("timeline", healthy_run, "--out", tmp_path / "t.xlsx").code == 2
    assert cli("timeline", healthy_run, "--out", tmp_path / "no" / "t.parquet").code == 2


def test_blame_as_text_and_json(cli: Cli, tmp_path: Path, batch: Any) -> None:
    with mmhealth.Recorder(tmp_path / "run") as recorder:
        for step in range(3):
            source = ["judge"] * 8 + ["verifier"] * 56
            heavy = {"grad_norm": [9.0 + step] * 8 + [1.0] * 56, "source": source}
            recorder.log_step(step, batch(step) | heavy)
    result = cli("blame", tmp_path / "run", "--by", "source")
    assert result.code == 0
    assert "run, step 2" in result.out
    found = json.loads(cli("blame", tmp_path / "run", "--step", 1, "--json").out)
    assert found["steps"] == [1]
    assert {"source", "group_id"} <= set(found["columns"])
    window = cli("blame", tmp_path / "run", "--last", 2, "--basis", "signal", "--json")
    assert (json.loads(window.out)["steps"], json.loads(window.out)["basis"]) == ([1, 2], "signal")
    both = cli("blame", tmp_path / "run", "--step", 1, "--last", 2)
    assert (both.code, both.err.count("\n")) == (2, 1)
    typo = cli("blame", tmp_path / "run", "--by", "sauce")
    assert (typo.code, typo.err.count("\n")) == (2, 1)
    assert "--by: no column 'sauce': there are attempt," in typo.err
    assert cli("blame", tmp_path / "run", "--step", 7).code == 3


def test_blame_without_data_says_why_and_ends_with_3(cli: Cli, tmp_path: Path) -> None:
    with mmhealth.Recorder(tmp_path / "run") as recorder:
        recorder.log_step(0, {"reward": [1.0, 0.0]})
    result = cli("blame", tmp_path / "run")
    assert result.code == 3
    assert "insufficient data: no sampled rows" in result.out
    shown = cli("blame", tmp_path / "run", "--json")
    assert (shown.code, json.loads(shown.out)["reason"]) == (3, "no sampled rows")


def test_import_then_gate(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("it,r,prompt\n" + "0,1,a\n0,0,b\n" * 20)
    arguments = ["import", tmp_path / "t.csv", "--map", "step=it", "--map", "reward=r"]
    result = cli(*arguments, "--const", "source=judge", "--out", tmp_path / "run")
    assert result.code == 0
    assert "40 rows in 1 steps" in result.out
    assert "left out: prompt" in result.out
    again = cli(*arguments, "--out", tmp_path / "run")
    assert again.code == 3
    assert "--replace" in again.err
    assert cli(*arguments, "--out", tmp_path / "run", "--replace").code == 0
    assert cli(*arguments, "--map", "step", "--out", tmp_path / "x").code == 2
    assert cli(*arguments, "--map", "step=r", "--out", tmp_path / "x").code == 2
    assert cli("gate", tmp_path / "run").code == 3, "a reward alone is no data for the rules"


def test_policy_show_gives_a_policy_that_checks(cli: Cli, tmp_path: Path) -> None:
    shown = cli("policy", "show")
    (tmp_path / "p.toml").write_text(shown.out)
    checked = cli("policy", "check", tmp_path / "p.toml")
    assert checked.code == 0
    assert "rules: nonfinite, ess_weight" in checked.out


def test_watch_says_when_the_port_is_taken(cli: Cli, healthy_run: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = cli("watch", healthy_run, "--port", port)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert f"port {port}" in result.err


def test_a_summary_that_cannot_be_written_does_not_change_the_decision(
    cli: Cli, tmp_path: Path, healthy_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no" / "summary.md"))
    result = cli("gate", healthy_run, "--format", "github")
    assert result.code == 0
    assert "summary is not written" in result.err


def test_seal_seals_what_a_killed_trainer_left(cli: Cli, tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom mmhealth import Recorder\n"
        "Recorder(sys.argv[1]).log_step(0, {'reward': [1.0, 0.0]})\nos._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=False)
    assert list((tmp_path / "run").glob("*/*.arrows"))
    result = cli("seal", tmp_path / "run")
    assert "sealed 2 open segments" in result.out
    assert not list((tmp_path / "run").glob("*/*.arrows"))
    assert cli("seal", tmp_path).code == 3


def test_train_then_resume(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    run = tmp_path / "run"
    assert cli("train", "--run-dir", run, "--steps", 2).code == 0
    again = cli("train", "--run-dir", run, "--steps", 3)
    assert again.code == 2
    assert "pass --resume" in " ".join(again.err.split())
    assert cli("train", "--run-dir", run, "--steps", 3, "--resume").code == 0
    assert mmhealth.open_run(run).steps["step"].to_list() == [0, 1, 2]


def test_train_refuses_what_the_environment_does_not_have(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    unknown = cli("train", "--run-dir", tmp_path / "run", "--env", "F9")
    assert (unknown.code, unknown.err.count("\n")) == (2, 1)
    assert "environment 'F9' is not one of F1, F2" in unknown.err.replace("of F2", "of F1, F2")
    wrong = cli("train", "--run-dir", tmp_path / "run", "--preset", "soft")
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
    assert "preset 'soft' is not one of those of F2: baseline, ess" in wrong.err
    assert not (tmp_path / "run").exists()


def test_without_torch_the_trainer_says_what_to_install(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("mmhealth.reference")]:
        monkeypatch.delitem(sys.modules, name)
    result = cli("train", "--run-dir", tmp_path / "run")
    assert result.code == 2
    assert "pip install 'mmhealth[torch]'" in " ".join(result.err.split())


SAMPLE = Path(__file__).parent.parent / "sample_logs"


def test_calibrate_says_how_many_healthy_steps_are_missing(cli: Cli, tmp_path: Path) -> None:
    result = cli("calibrate", SAMPLE / "fixed", SAMPLE / "collapsing", "--out", tmp_path / "p.toml")
    assert result.code == 3
    assert "3,000 healthy steps" in result.err
    assert not (tmp_path / "p.toml").exists()


def test_calibrate_writes_a_policy_that_can_be_used(cli: Cli, tmp_path: Path) -> None:
    runs = (SAMPLE / "fixed", SAMPLE / "collapsing")
    target = ("--target-false-alarms", "1/20", "--solved-at", "0.7")
    result = cli("calibrate", *runs, *target, "--out", tmp_path / "p.toml")
    assert result.code == 0, result.err
    assert "all critical" in result.out
    assert cli("policy", "check", tmp_path / "p.toml").code == 0


@pytest.mark.parametrize("target", ["0", "2", "one", "1/0"])
def test_calibrate_refuses_a_target_that_is_no_rate(cli: Cli, target: str) -> None:
    result = cli("calibrate", SAMPLE / "fixed", "--target-false-alarms", target)
    assert (result.code, "--target-false-alarms" in result.err) == (2, True)


def test_an_option_in_the_place_of_a_file_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["audit", "run", "--json"], ["timeline", "run", "--out"]):
        with pytest.raises(SystemExit, match="2"):
            main([*command, "--no-cache"])
        assert "--no-cache is an option" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
