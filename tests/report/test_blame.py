"""What is printed, and docs/blame.md: its commands are run, and it shows what they print."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mmhealth import Recorder, open_run
from mmhealth.cli import main
from mmhealth.health.blame import blame
from mmhealth.report.blame import blame_as_dict, print_blame
from mmhealth.report.json_report import dump_json

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "blame.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    mmhealth (blame .+)$", PAGE, re.MULTILINE)


def run_command(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        main(command.split())
    return end.value.code, capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_page(command, monkeypatch, capsys):
    code, out = run_command(command, monkeypatch, capsys)
    assert code in (0, None)
    assert "collapsing" in out


def test_the_page_shows_what_the_command_prints(monkeypatch, capsys):
    [shown] = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    _, out = run_command(COMMANDS[0], monkeypatch, capsys)
    assert [line.rstrip() for line in out.splitlines()] == shown.splitlines()


def test_the_page_names_every_key_of_a_slice():
    run = open_run(ROOT / "sample_logs" / "collapsing")
    keys = set(blame_as_dict(blame(run, [100]), run)["slices"][0])
    named = set(re.findall(r"^\| [^|]*\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert named == keys - {"column", "slice", "rows"}


def printed(run, steps, **options):
    out = io.StringIO()
    print_blame(blame(run, steps, **options), run.name, Console(file=out, width=200))
    return out.getvalue()


def test_what_is_missing_is_said_and_labels_are_no_markup(tmp_path):
    with Recorder(tmp_path / "r", strict=True) as rec:
        rec.log_step(0, {"advantage": [1.0, 1.0]})
        norms = [1.0, 1.0, np.nan, 5.0]
        rec.log_step(1, {"source": ["[red]a", "b", "b", "b"], "grad_norm": norms})
        rec.log_step(2, {"grad_norm": [1.0, 2.0]})
    run = open_run(tmp_path / "r")
    unknown = printed(run, [0], basis="contribution")
    assert "insufficient data on the basis contribution: grad_norm is not logged" in unknown
    window = printed(run, [0, 1, 2])
    assert "2 steps, 1 to 2" in window
    assert "step 0 is left out: grad_norm is not logged" in window
    assert "1 row is left out: the value is not finite" in window
    assert "source = [red]a" in window
    assert "no column cuts these rows into slices" in printed(run, [2])


def test_nobody_is_to_blame_for_equal_rows(tmp_path):
    with Recorder(tmp_path / "r", strict=True) as rec:
        rec.log_step(0, {"source": list("aabb"), "grad_norm": [1.0] * 4})
    assert "No slice is to blame" in printed(open_run(tmp_path / "r"), [0])


def test_json_holds_everything_and_no_nan(tmp_path):
    with Recorder(tmp_path / "r", strict=True) as rec:
        rec.log_step(0, {"source": list("aab"), "grad_norm": [0.0, 0.0, 2.0]})
    run = open_run(tmp_path / "r")
    content = json.loads(dump_json(blame_as_dict(blame(run, [0]), run)))
    assert content["run"]["name"] == "r"
    assert (content["basis"], content["steps"], content["left_out"]) == ("contribution", [0], [])
    first, _ = content["slices"]
    assert (first["column"], first["slice"], first["share_of_sum_sq"]) == ("source", "b", 1.0)
    assert first["without"]["gini"] is None
    assert first["without"]["reasons"]["gini"]
