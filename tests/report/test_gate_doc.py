"""What docs/gate.md gives to copy: YAML that parses, commands that exist, a valid policy."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from mmhealth.cli import app
from mmhealth.cli.options import GateFormat
from mmhealth.health.policy import default_policy_text, parse_policy
from mmhealth.health.scope import GateScope

DOC = (Path(__file__).parents[2] / "docs" / "gate.md").read_text(encoding="utf-8")
WORKFLOW, HOOKS = (
    yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", DOC, re.DOTALL)
)


def commands(content: Any) -> list[str]:
    """Every ``mmhealth`` command in the values of a YAML document."""
    if isinstance(content, dict):
        return [text for value in content.values() for text in commands(value)]
    if isinstance(content, list):
        return [text for value in content for text in commands(value)]
    return [content] if isinstance(content, str) and content.startswith("mmhealth ") else []


def check_parses(command: str) -> None:
    """Raises what the command line raises for a command, an option or a value it does not know."""
    words = shlex.split(re.split(r" [>|]", command)[0])[1:]
    group: Any = get_command(app)
    while words and words[0] in getattr(group, "commands", {}):
        group = group.commands[words.pop(0)]
    files = ["policy.toml"] if command.endswith("policy check") else []
    group.make_context(command, [*words, *files])


@pytest.mark.parametrize("command", [*commands(WORKFLOW), *commands(HOOKS)])
def test_commands_exist(command: str) -> None:
    check_parses(command)


def test_a_command_that_does_not_exist_is_noticed() -> None:
    with pytest.raises(Exception, match="No such option: --formats"):
        check_parses("mmhealth gate runs/today --formats github")


def test_the_workflow_gates_and_uploads_what_it_wrote() -> None:
    assert WORKFLOW["permissions"]["security-events"] == "write"
    steps = WORKFLOW["jobs"]["gate"]["steps"]
    assert all(("run" in step) != ("uses" in step) for step in steps)
    written = [step["run"] for step in steps if "sarif >" in step.get("run", "")]
    (upload,) = (step for step in steps if "upload-sarif" in step.get("uses", ""))
    assert f"> {upload['with']['sarif_file']} " in written[0]
    assert len(commands(WORKFLOW)) == 2


def test_the_hooks_have_what_a_local_hook_needs() -> None:
    (repository,) = HOOKS["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert {"id", "name", "entry", "language"} <= hook.keys()
        re.compile(hook["files"])
    assert re.search(repository["hooks"][0]["files"], "configs/policy.toml")
    assert re.search(repository["hooks"][1]["files"], "runs/reference/run.json")


def test_the_policy_is_valid() -> None:
    (example,) = re.findall(r"    \[gate\]\n(?:    .*\n)+", DOC)
    lines = "\n".join(line.removeprefix("    ") for line in example.splitlines())
    text = re.sub(r"\[gate\].*?\n\n", f"{lines}\n\n", default_policy_text(), flags=re.DOTALL)
    assert parse_policy(text, "doc").gate == GateScope(50, 200, (), ("entropy_collapse",))


def test_every_format_and_key_is_described() -> None:
    named = set(re.findall(r"`([a-z_]+)`", DOC))
    assert {format.value for format in GateFormat} <= named
    assert {"rules", "ignore", "from_step", "to_step", "fail_on"} <= named
