"""docs/diagnosis.md: its commands are run, and it lists the modes that there are."""

import json
import re
from pathlib import Path

import pytest

from mmhealth.cli import main
from mmhealth.health.diagnosis import MODES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "diagnosis.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    mmhealth (diagnose .+)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_page(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as end:
        main(command.split())
    out = capsys.readouterr().out
    assert end.value.code in (0, None)
    if "--json" in command:
        first = json.loads(out)["findings"][0]
        assert first["mode"] == "estimator collapse"
        assert {"confidence", "evidence", "rivals", "todo", "import"} <= set(first)
    else:
        assert "estimator collapse" in out


def test_the_page_lists_every_mode_in_order():
    table = PAGE.split("## The modes")[1].split("## ")[0]
    assert re.findall(r"^\| ([^|]+?) \|", table, re.MULTILINE)[1:] == list(MODES)
