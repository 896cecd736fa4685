"""The fleet's dashboard in a browser: it lists, filters, follows, and opens a run's own."""

import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

SAMPLES = Path(__file__).parents[2] / "sample_logs"
SERVE = """
import sys
from mmhealth.dashboards import serve_fleet
from mmhealth.engines import SerialEngine
serve_fleet(sys.argv[1:], port=0, engine=SerialEngine(), ready=lambda url: print(url, flush=True))
"""
ROWS = "#fleet .ag-pinned-left-cols-container .ag-row"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    for name in ("collapsing", "fixed"):
        shutil.copytree(SAMPLES / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def address(start, folder):
    return start(SERVE, folder / "*").stdout.readline().strip()


@pytest.fixture
def opened(browser, address):
    """Opens the page; an error in its console or a request to elsewhere fails the test."""
    wrong, contexts = [], []

    def at(**options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url))
        page.goto(address)
        page.wait_for_selector(ROWS)
        return page

    yield at
    for context in contexts:
        context.close()
    assert [text for text in wrong if not text.startswith((address, "data:", "blob:"))] == []


def says(page, text):
    page.wait_for_function(
        "text => document.getElementById('counts').textContent.startsWith(text)", arg=text
    )


def test_a_run_opens_from_the_list_and_leads_back(opened):
    page = opened(viewport={"width": 1400, "height": 800})
    says(page, "2 runs")
    link = page.locator(f"{ROWS} a", has_text="collapsing")
    assert page.locator("#fleet .curve").count() == 2
    link.click()
    page.wait_for_selector("#ess .js-plotly-plot .main-svg")
    assert "/run/" in page.url
    page.locator("#home").click()
    page.wait_for_selector(ROWS)


@pytest.mark.parametrize(("scheme", "width"), [("dark", 1400), ("light", 380)])
def test_the_filter_is_that_of_the_command_and_nothing_is_too_wide(opened, scheme, width):
    page = opened(color_scheme=scheme, viewport={"width": width, "height": 800})
    page.locator("#filter").fill("name=coll*")
    page.wait_for_function(
        "() => document.getElementById('counts').textContent.includes('1 shown')"
    )
    assert page.locator(ROWS).count() == 1
    page.locator("#filter").fill("flavour=1")
    page.wait_for_function(
        "() => document.getElementById('problem').textContent.includes('flavour')"
    )
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_a_run_that_comes_later_appears_by_itself(opened, folder):
    page = opened(viewport={"width": 1400, "height": 800})
    says(page, "2 runs")
    shutil.copytree(SAMPLES / "fixed", folder / "another")
    says(page, "3 runs")
    assert page.locator(f"{ROWS} a", has_text="another").count() == 1
