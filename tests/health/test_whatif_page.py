"""The command, and every command, number and name of docs/whatif.md."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmhealth import Recorder, open_run
from mmhealth.cli import main
from mmhealth.health.whatif import standard_options, what_if
from mmhealth.health.whatif.near_misses import injections

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "whatif.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (mmhealth .+)$", PAGE, re.MULTILINE)
COLLAPSING = ROOT / "sample_logs" / "collapsing"


def run(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mmhealth", *map(str, arguments)],
        cwd=cwd,
        env={"PATH": "", "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )


def cli(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[Any, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["whatif", *map(str, arguments)])
    return (end.value.code, *capsys.readouterr())


def test_the_commands_of_the_page_print_what_it_shows(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    shutil.copytree(ROOT / "sample_logs" / "collapsing", tmp_path / "sample_logs" / "collapsing")
    printed = []
    for command in COMMANDS:
        done = run(*command.split()[1:], cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), command
        printed += [line.rstrip() for line in done.stdout.splitlines()]
    [block] = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)
    assert set(block.splitlines()) <= set(printed)
    [first_row] = re.findall(r"^\| 0 \| (.*) \|$", PAGE, re.MULTILINE)
    baseline, predicted, *_ = first_row.split(" | ")
    assert any(re.search(rf"as logged .* {baseline} ", line) for line in printed)
    assert any(re.search(rf"\d variance correction .* {predicted} ", line) for line in printed)


def test_the_page_names_every_option_and_quotes_the_injection_rightly() -> None:
    for option in standard_options():
        title = re.sub(r"\b[\d.]+( near misses)", r"\1", option.title).strip().lower()
        stem = re.sub(r" at \d+$", " at", title).replace(
            "rollouts 0.5 times as", "rollouts half as"
        )
        stem = stem.replace("rollouts on-policy", "or on-policy")
        stem = stem.replace("near misses into dead groups", "*into dead groups*")
        assert stem in PAGE.lower(), option.title
    [answer] = [
        one
        for one in what_if(open_run(COLLAPSING), [71], injections((6,))).answers
        if one.name == "near_misses_6_failed"
    ]
    contribution, signal = answer.effects["ess_contribution"], answer.effects["ess_signal"]
    words = " ".join(PAGE.split())
    assert f"contribution ESS of {contribution.then:.1%}".replace("%", " %") in words
    assert f"({contribution.logged:.1%} as logged)".replace("%", " %") in words
    assert f"signal ESS {signal.then:.1%}".replace("%", " %") in words


def test_json_says_kind_assumption_and_reason(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = cli(capsys, COLLAPSING, "--last", 2, "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said["steps"] == [158, 159]
    assert {option["name"] for option in said["options"]} == {o.name for o in standard_options()}
    for option in said["options"]:
        assert option["kind"] in ("exact", "estimate", "bound", "insufficient data")
        assert option["assumption"]
        assert option["price"]
        assert bool(option["missing"]) == (option["kind"] == "insufficient data")
        assert bool(option["metrics"]) == (option["kind"] in ("exact", "estimate"))
    ranks = [option["rank"] for option in said["options"] if option["rank"]]
    assert ranks == list(range(1, len(ranks) + 1))


def test_the_last_ten_complete_steps_are_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = cli(capsys, COLLAPSING)
    assert code == 0
    assert out.startswith("collapsing  mean of 10 steps, 150-159, 512 rows in an update")


def test_wrong_usage_and_runs_without_steps(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = cli(capsys, COLLAPSING, "--step", 3, "--last", 2)
    assert code == 2
    assert "--step and --last exclude each other" in err
    code, _, err = cli(capsys, COLLAPSING, "--step", 160)
    assert code == 2
    assert "has no step 160; its last complete step is 159" in err
    Recorder(tmp_path / "empty").close()
    code, _, err = cli(capsys, tmp_path / "empty")
    assert code == 3
    assert "no complete step" in err
    assert cli(capsys, tmp_path / "none")[0] == 3


def test_a_log_of_rewards_alone_is_answered_in_words(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with Recorder(tmp_path / "r", strict=True) as recorder:
        recorder.log_step(0, {"reward": [0.0, 1.0, 1.0, 2.0]})
    code, out, _ = cli(capsys, tmp_path / "r")
    assert code == 0
    assert "insufficient data (contribution: insufficient data: " in " ".join(out.split())
    assert "variance correction: insufficient data: advantage is not logged" in out
