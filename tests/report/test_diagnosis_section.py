"""What reports say of the diagnosis: in the sentences, as a section, in JSON, on a terminal."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mmhealth.health import Monitor
from mmhealth.health.diagnosis import Diagnosis
from mmhealth.health.policy import parse_policy
from mmhealth.report import audit_as_dict, audit_runs, print_audit, render_markdown
from mmhealth.report.audit import Audit
from mmhealth.report.diagnosis_section import describe_outcome
from mmhealth.report.html import render_html
from mmhealth.report.summary import summarise

SAMPLE = Path(__file__).parents[2] / "sample_logs" / "collapsing"


@pytest.fixture(scope="module")
def audit() -> Audit:
    return audit_runs([Monitor(SAMPLE)])


def test_the_sentences_give_the_first_guess_and_its_strongest_evidence(audit: Audit) -> None:
    (run,) = audit.runs
    first = run.diagnosis.first
    assert first is not None
    why, sure = summarise(run).why, round(100 * first.confidence)
    assert why.startswith(f"{first.mode.capitalize()} (confidence {sure} %")
    assert f": {first.evidence[0]}." in why


def test_every_renderer_has_it(audit: Audit) -> None:
    first = audit.runs[0].diagnosis.first
    assert first is not None
    out = StringIO()
    print_audit(audit, Console(file=out, width=500))
    assert first.evidence[0] in out.getvalue().partition("Diagnosis\n")[2]
    for text in (render_markdown(audit), render_html(audit)):
        assert first.import_line in text
    [run] = audit_as_dict(audit)["runs"]
    assert run["diagnosis"]["findings"][0]["mode"] == first.mode


def test_what_no_rule_minds_is_still_told_and_not_left_alone() -> None:
    quiet = parse_policy("version = 1\n[rules.low]\nmetric = 'reward'\nbelow = -9.0\n", "test")
    (run,) = audit_runs([Monitor(SAMPLE, quiet)]).runs
    assert run.verdict.name == "healthy"
    summary, first = summarise(run), run.diagnosis.first
    assert first is not None
    assert summary.why.startswith(f"{first.mode.capitalize()} (confidence")
    assert summary.action == (
        f"No rule asks for anything; the diagnosis does: {first.todo} ({first.import_line})."
    )


def test_where_nothing_is_found_no_mode_is_named(healthy_run: Path) -> None:
    (run,) = audit_runs([Monitor(healthy_run)]).runs
    assert run.diagnosis.outcome == "insufficient data"
    assert describe_outcome(run.diagnosis).startswith("Insufficient data: ")
    assert "confidence" not in summarise(run).why


@pytest.mark.parametrize(
    ("outcome", "words"),
    [("healthy", "All is well."), ("undetermined", "Undetermined: all is well.")],
)
def test_an_outcome_without_a_first_guess_is_a_sentence(outcome: str, words: str) -> None:
    found = Diagnosis(outcome, "all is well")  # type: ignore[arg-type]
    assert describe_outcome(found) == words
