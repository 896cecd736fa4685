"""What docs/guard.md says is so."""

import re
from pathlib import Path

import pytest

from mmhealth import Recorder
from mmhealth.guard import NOT_FOUND, NOT_RUNNABLE, REFUSED, STOPPED
from mmhealth.health.policy import default_policy_text
from mmhealth.integrations.notify import load_targets

DOC = (Path(__file__).parents[2] / "docs" / "guard.md").read_text(encoding="utf-8")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration of the page."""
    monkeypatch.setenv("SLACK_WEBHOOK", "https://hooks.example.org/services/T0/B0/token")
    monkeypatch.setenv("ALERT_TOKEN", "token")
    [block] = [b for b in re.findall(r"(?:^    .*\n|^\n)+", DOC, re.MULTILINE) if "[targets." in b]
    path = tmp_path / "notify.toml"
    path.write_text("\n".join(line[4:] for line in block.splitlines()))
    return path


def test_exit_codes_are_those_of_the_code() -> None:
    assert f"| {STOPPED} | the guard stopped the job" in DOC
    assert f"| {REFUSED} | nothing was started" in DOC
    assert f"| {NOT_RUNNABLE}, {NOT_FOUND} | the command cannot be run" in DOC


def test_the_configuration_is_valid(config: Path) -> None:
    names = [target.options.name for target in load_targets(config)]
    assert names == ["team", "oncall", "log", "pager"]


def test_the_program_runs(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(config.parent)
    config.write_text("version = 1\n[targets.f]\nkind = 'file'\npath = 'told'\n")
    Path("policy.toml").write_text(default_policy_text())
    [program] = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)

    def train_one_step(rec: Recorder, step: int) -> None:
        rec.log_step(step, {"advantage": [1.0] + [0.0] * 63})

    exec(program, {"steps": 5, "train_one_step": train_one_step})
    assert "ess_collapse: ess_signal = 0.0156" in capsys.readouterr().out
    assert len(Path("told").read_text().splitlines()) == 2
