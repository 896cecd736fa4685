"""A run shows itself in a notebook."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mmhealth import Recorder, open_run
from mmhealth.errors import RunNotFoundError
from mmhealth.health import Monitor, judge_run
from mmhealth.health.policy import parse_policy


class Text:
    """What IPython's printer does with text."""

    def __init__(self) -> None:
        self.said = ""

    def text(self, text: str) -> None:
        self.said += text


def shown(run: Any) -> ET.Element:
    """The HTML that a notebook shows, which has to be well formed."""
    return ET.fromstring(run._repr_html_())


def words(element: ET.Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def as_text(run: Any) -> str:
    printer = Text()
    run._repr_pretty_(printer, False)
    return printer.said


def test_a_run_shows_verdict_reason_and_courses(collapsing_run: Path) -> None:
    run = open_run(collapsing_run)
    monitor = Monitor(collapsing_run)
    monitor.poll()
    verdict = judge_run(monitor)
    page, text = shown(run), as_text(run)
    for said in (words(page), text):
        assert said.startswith("critical")
        assert verdict.why[1:] in said
        assert "steps 0 to 13" in said
    rows = page.findall(".//tr")
    drawn = {row.find("td").get("title"): row for row in rows}  # type: ignore[union-attr]
    assert {"ess_signal", "dead_group_share", "reward", "success_rate"} <= drawn.keys()
    marks = drawn["ess_signal"].findall(".//path[@stroke-dasharray]")
    assert len(marks) == sum(alert.metric == "ess_signal" for alert in monitor.alerts) > 0
    assert "fired at step" in words(drawn["ess_signal"].find(".//svg"))  # type: ignore[arg-type]
    assert text.count("\n") == len(rows) + 2


def test_it_takes_on_the_colours_of_the_page_and_needs_no_script(collapsing_run: Path) -> None:
    page = shown(open_run(collapsing_run))
    assert not page.findall(".//script")
    assert not page.findall(".//style")
    lines = [path for path in page.findall(".//path") if path.get("stroke-dasharray") is None]
    assert {line.get("stroke") for line in lines} == {"currentColor"}


def test_what_is_not_known_is_named_and_drawn_as_a_gap(tmp_path: Path, batch: Any) -> None:
    with Recorder(tmp_path / "run", nominal_batch=64) as recorder:
        for step in range(6):
            columns = batch(step)
            if step in (2, 3):
                del columns["entropy"]
            recorder.log_step(step, columns)
        columns = batch(6)
        del columns["grad_norm"]
        recorder.log_step(6, columns)
    run = open_run(tmp_path / "run")
    page = shown(run)
    rows = {row.find("td").get("title"): row for row in page.findall(".//tr")}  # type: ignore[union-attr]
    assert len(rows["entropy"].findall(".//path")) == 2
    assert words(rows["gini_grad_norm"]).endswith("insufficient data")
    for said in (words(page), as_text(run)):
        assert "Insufficient data: " in said
        assert "retreat_share" in said
    assert "retreat_share" not in rows


def test_a_run_without_steps_says_so(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run") as recorder:
        run = open_run(recorder.run_dir)
        assert words(shown(run)) == "insufficient run No step is complete yet."
        assert as_text(run) == "insufficient: run\nNo step is complete yet."


def test_long_runs_stay_small_and_keep_their_spikes(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run") as recorder:
        for step in range(1500):
            recorder.log_step(step, {"reward": [9.0 if step == 777 else 1.0]})
    page = open_run(tmp_path / "run")._repr_html_()
    assert len(page) < 30_000
    assert "highest 9;" in page or "highest 9<" in page


def test_names_are_escaped(tmp_path: Path, record: Any) -> None:
    run = record(tmp_path / "<b>&'\"", [1.0])
    assert "<b>&'\"" in words(shown(open_run(run)))


def test_displays_follow_a_growing_run_and_take_nothing_from_its_reader(
    tmp_path: Path, batch: Any
) -> None:
    with Recorder(tmp_path / "run") as recorder:
        recorder.log_step(0, batch(0))
        run = open_run(recorder.run_dir)
        assert "step 0" in as_text(run)
        recorder.log_step(1, batch(1))
        assert "steps 0 to 1" in as_text(run)
        assert [data.step for data in run.tail().steps] == [0, 1]


def test_the_report_is_the_audit_and_can_be_saved(collapsing_run: Path, tmp_path: Path) -> None:
    report = open_run(collapsing_run).report()
    saved = report.save(tmp_path / "audit.html")
    assert saved.read_text(encoding="utf-8") == report.html
    assert "mmhealth audit" in report.html
    frames: list[dict[str, str | None]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: frames.append({"tag": tag, **dict(attrs)})  # type: ignore[method-assign]
    parser.feed(report._repr_html_())
    [frame] = frames
    assert (frame["tag"], frame["sandbox"]) == ("iframe", "allow-scripts")
    assert frame["srcdoc"] == report.html
    assert repr(report) == "Page(title='collapsing: critical')"


def test_the_report_is_judged_by_the_policy_given(collapsing_run: Path) -> None:
    policy = parse_policy("version = 1\n[rules.r]\nmetric = 'reward'\nbelow = -1\n", "mine")
    assert open_run(collapsing_run).report(policy).title == "collapsing: healthy"


def test_opening_a_run_imports_neither_reports_nor_figures(collapsing_run: Path) -> None:
    program = (
        "import sys, mmhealth\n"
        f"run = mmhealth.open_run({str(collapsing_run)!r})\n"
        "assert isinstance(run, mmhealth.Run)\n"
        f'assert repr(run) == "Run({str(collapsing_run)!r})"\n'
        "assert not {'plotly', 'mmhealth.health', 'mmhealth.report'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_path_that_is_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError, match="is not a run directory"):
        open_run(tmp_path)
