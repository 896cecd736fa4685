import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mmhealth import Recorder
from mmhealth.health import Monitor
from mmhealth.report import audit_runs
from mmhealth.report.html import render_html


class Page(HTMLParser):
    """Texts, attributes and scripts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.scripts: list[str] = []
        self.texts: list[str] = []
        self._script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        self._script = tag == "script"

    def handle_endtag(self, _tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        (self.scripts if self._script else self.texts).append(data)


def page(*paths: Path) -> Page:
    return Page(render_html(audit_runs([Monitor(path) for path in paths])))


def figures(page: Page) -> Any:
    return next(json.loads(text) for text in page.scripts if text.startswith('{"themes"'))


@pytest.fixture(scope="module")
def both(healthy_run: Path, collapsing_run: Path) -> Page:
    return page(healthy_run, collapsing_run)


def test_nothing_is_loaded_from_outside(both: Page) -> None:
    assert both.links == ["data:,"]


def test_plotly_is_there_once(both: Page) -> None:
    assert sum(len(text) > 1_000_000 for text in both.scripts) == 1


def test_every_figure_comes_in_light_and_dark(both: Page) -> None:
    drawn = figures(both)
    assert set(drawn["themes"]) == {
        "ess", "heldout", "reward_ess", "gini", "lorenz", "entropy", "groups", "horizon",
    }  # fmt: skip
    for themes in drawn["themes"].values():
        assert themes["light"]["layout"] != themes["dark"]["layout"]
    assert "sendChartToCloud" in drawn["config"]["modeBarButtonsToRemove"]


def test_gradient_noise_is_drawn_where_it_was_measured(noisy_run: Path, both: Page) -> None:
    optional = {"noise", "sources"}
    assert optional <= set(figures(page(noisy_run))["themes"])
    assert not optional & set(figures(both)["themes"])


def test_the_words_are_on_the_page(both: Page) -> None:
    text = " ".join(both.texts)
    assert re.search(r"critical\s+collapsing", text)
    assert "Restore outcome contrast" in text
    assert "No alert fired." in text
    assert "kl_ref: kl_ref is not logged" in text


def test_names_cannot_become_markup(tmp_path: Path, batch: Any) -> None:
    name = "<script>alert(1)<"
    with Recorder(tmp_path / name, strict=True) as recorder:
        for step in range(3):
            recorder.log_step(step, batch(step))
    shown = page(tmp_path / name)
    assert any(name in text for text in shown.texts)
    assert not any(text.startswith("alert") for text in shown.scripts)
    assert figures(shown)


SAMPLES = Path(__file__).parents[2] / "sample_logs"


@pytest.fixture(scope="module")
def samples() -> str:
    runs = [SAMPLES / "collapsing", SAMPLES / "fixed"]
    return render_html(audit_runs([Monitor(path) for path in runs]))


def test_both_sample_logs_fit_in_6_mb(samples: str) -> None:
    assert len(samples.encode()) < 6_000_000


def test_verdict_and_sentences_stand_before_the_figures_and_evidence(samples: str) -> None:
    heads = ("Finding</dt>", "What to do</dt>", 'id="ess"', "Who is to blame", "Thresholds used")
    places = [samples.index(head) for head in heads]
    assert places == sorted(places)
    text = " ".join(Page(samples).texts)
    for words in ("with reward = 0.0 hold", "dead groups sampled anew", "of 160 steps"):
        assert words in text


def test_no_address_is_loaded_by_style_script_or_policy(samples: str) -> None:
    own = re.sub(r"<script>/\*\*.*?</script>", "", samples, count=1, flags=re.DOTALL)
    assert "default-src 'none'" in own
    assert not re.findall(r"(?:src|href|url\(|@import)\W*(?:https?:)?//", own)


def test_a_slice_cannot_become_markup(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run", strict=True) as recorder:
        for step in range(6):
            source = ["<script>alert(1)</script>"] * 4 + ["b"] * 60
            recorder.log_step(step, {"advantage": [30.0] * 4 + [1.0] * 60, "source": source})
    shown = page(tmp_path / "run")
    assert any("source = <script>alert(1)</script>" in text for text in shown.texts)
    assert not any(text.startswith("alert") for text in shown.scripts)


def test_an_empty_run_makes_a_page(tmp_path: Path, record: Any) -> None:
    assert "no step is complete yet" in " ".join(page(record(tmp_path / "run", [])).texts)
