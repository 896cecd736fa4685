"""The audit's page in a browser without a network: it draws, prints, and asks for nothing."""

from pathlib import Path

import pytest

from mmhealth.health import Monitor
from mmhealth.report import audit_runs
from mmhealth.report.html import render_html

pytestmark = pytest.mark.browser

SAMPLES = Path(__file__).parents[2] / "sample_logs"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "audit.html"
    audit = audit_runs([Monitor(SAMPLES / name) for name in ("collapsing", "fixed")])
    path.write_text(render_html(audit), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser, page_file):
    """Opens the page; a message in its console or a request to elsewhere fails the test."""
    wrong, contexts = [], []

    def at(**options):
        contexts.append(browser.new_context(offline=True, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url))
        page.goto(page_file.as_uri())
        page.wait_for_selector("html[data-paper=drawn]")
        return page

    yield at
    for context in contexts:
        context.close()
    elsewhere = [text for text in wrong if not text.startswith(("file:", "data:", "blob:"))]
    assert elsewhere == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 400)])
def test_every_figure_is_drawn_and_nothing_is_wider_than_the_page(opened, scheme, width):
    page = opened(color_scheme=scheme, viewport={"width": width, "height": 900})
    drawn = page.evaluate("() => document.querySelectorAll('.plot .main-svg').length")
    assert drawn >= 8
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_paper_is_light_unfolded_and_shows_whole_figures(opened):
    page = opened(color_scheme="dark", viewport={"width": 400, "height": 900})
    assert page.evaluate("() => document.querySelectorAll('details[open]').length") == 0
    page.evaluate(
        """() => addEventListener('beforeprint', () => {
            window.seen = document.querySelectorAll('details[open]').length;
        })"""
    )
    assert page.pdf(format="A4")[:5] == b"%PDF-"
    assert page.evaluate("() => window.seen") > 5
    assert page.evaluate("() => document.querySelectorAll('details[open]').length") == 0
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 690, "height": 1000})
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    for image in page.locator("img.print").all():
        box = image.bounding_box()
        assert box["width"] > 300
        assert box["x"] + box["width"] <= 690
    assert page.locator("img.print").count() == page.locator(".plot").count() == 8
    assert not page.locator("#ess").is_visible()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 690
