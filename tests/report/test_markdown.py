"""The Markdown page: order, content, and user strings that must not become markup."""

import re
from pathlib import Path
from typing import Any

from mmhealth import Recorder
from mmhealth.health import Monitor
from mmhealth.report import audit_runs, render_markdown
from mmhealth.report.html import render_html


def page(*paths: Path) -> str:
    return render_markdown(audit_runs([Monitor(path) for path in paths]))


def test_verdict_and_sentences_come_first_then_the_evidence(
    healthy_run: Path, collapsing_run: Path
) -> None:
    text = page(healthy_run, collapsing_run)
    heads = re.findall(r"^#{1,3} (.+)$", text, re.MULTILINE)
    assert heads[:3] == ["mmhealth audit: critical", "healthy: healthy", "collapsing: critical"]
    own = heads[heads.index("collapsing in detail") :]
    assert own == [
        "collapsing in detail", "Courses", "Diagnosis", "Alerts", "Failure modes and fixes",
        "Who is to blame",
        "What would have helped", "Held-out success", "Data quality", "Metrics",
        "Thresholds used, and why",
    ]  # fmt: skip
    assert text.index("**Finding.**") < text.index("**Why.**") < text.index("**What to do.**")
    assert "`from mmhealth.interventions import EssAdaptive, NearMissReserve`" in text
    assert "| `ess_signal` | ▇" in text or "| `ess_signal` | █" in text


def test_it_has_the_sections_of_the_html_page_in_their_order(collapsing_run: Path) -> None:
    audit = audit_runs([Monitor(collapsing_run)])
    of_html = re.findall(r"<h[23]>([^<]+)</h[23]>", render_html(audit))
    of_markdown = re.findall(r"^#{2,3} (.+)$", render_markdown(audit), re.MULTILINE)
    assert of_html == [head for head in of_markdown[1:] if head != "Courses"]


def test_every_row_of_a_table_has_the_cells_of_its_head(
    healthy_run: Path, collapsing_run: Path
) -> None:
    cells = 0
    for line in page(healthy_run, collapsing_run).splitlines():
        found = len(re.findall(r"(?<!\\)\|", line))
        if line.startswith("|"):
            assert found == (cells or found)
            cells = found
        else:
            cells = 0


def hostile_run(path: Path) -> Path:
    """Few rows of a source with a hostile name make the update."""
    with Recorder(path, strict=True) as recorder:
        for step in range(6):
            source = ["<script>x</script>|\n`two` # *bold* @all [x](y)"] * 6 + ["b"] * 58
            recorder.log_step(step, {"advantage": [30.0] * 6 + [1.0] * 58, "source": source})
    return path


def test_user_strings_are_no_markup(tmp_path: Path) -> None:
    text = page(hostile_run(tmp_path / "a_b*c*|<img src=x>#1"))
    assert "<script" not in text
    assert "<img" not in text
    tags = set(re.findall(r"<(/?\w+)", text))
    assert tags <= {"details", "/details", "summary", "/summary"}
    assert r"a_b\*c\*\|&#60;img src=x&#62;&#35;1" in text
    name = r"source = &#60;script&#62;x&#60;/script&#62;\| \`two\` &#35; \*bold\* &#64;all \[x\](y)"
    assert text.count(name) >= 2, "in the sentence and in the table"


def test_a_page_of_an_empty_run(tmp_path: Path, record: Any) -> None:
    text = page(record(tmp_path / "run", []))
    assert "no step is complete yet" in text
    assert "Who is to blame" not in text


def test_the_same_run_gives_the_same_page(collapsing_run: Path) -> None:
    assert page(collapsing_run) == page(collapsing_run)
