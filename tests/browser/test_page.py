"""The page of finished runs: choices, address, themes, widths, keyboard."""

import re

import pytest
from playwright.sync_api import expect

from mmhealth import Recorder

pytestmark = pytest.mark.browser

NAMES = "() => document.querySelector('#ess .js-plotly-plot').data.map(trace => trace.name)"


@pytest.fixture(scope="module")
def address(watch, healthy_run, collapsing_run):
    return watch(collapsing_run, healthy_run)


def test_choices_go_into_the_address_and_come_back(address, open_page):
    page = open_page(address)
    expect(page.locator(".card.critical h3")).to_have_text("collapsing")
    expect(page.locator(".card.healthy h3")).to_have_text("healthy")
    expect(page.locator("#step")).to_have_value("13")
    page.get_by_role("radio").and_(page.locator("[name=basis][value=contribution]")).check(
        force=True
    )
    page.locator("#runs input[value=healthy]").uncheck()
    page.locator("#step").fill("7")
    page.locator("#step").press("Enter")
    expect(page).to_have_url(re.compile(r"runs=collapsing.*step=7.*basis=contribution"))
    expect(page.locator("#latest input")).not_to_be_checked()

    again = open_page(page.url.split("?")[0], "?" + page.url.split("?")[1])
    expect(again.locator("#step")).to_have_value("7")
    expect(again.locator("#table-caption")).to_contain_text("Step 7 of collapsing")
    expect(again.locator("#runs input[value=healthy]")).not_to_be_checked()
    again.wait_for_function(f"({NAMES})().includes('collapsing')")
    assert "healthy" not in again.evaluate(NAMES)


def test_the_table_is_sorted_by_contribution(address, open_page):
    page = open_page(address)
    shares = page.locator("#table .ag-center-cols-container [col-id=contribution_share]")
    expect(page.locator("#table-caption")).to_contain_text("largest contribution first")
    expect(shares.first).to_contain_text("%")
    values = [float(text.removesuffix("%")) for text in shares.all_text_contents()]
    assert len(values) > 5
    assert values == sorted(values, reverse=True)


def test_a_click_into_a_chart_chooses_its_step(address, open_page):
    page = open_page(address, viewport={"width": 1400, "height": 1000})
    page.wait_for_function(f"({NAMES})().includes('collapsing')")
    box = page.locator("#entropy .nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 10)
    page.locator("#entropy").scroll_into_view_if_needed()
    box = page.locator("#entropy .nsewdrag").first.bounding_box()
    point = page.evaluate(
        """() => {
            const plot = document.querySelector('#entropy .js-plotly-plot');
            const {xaxis, yaxis} = plot._fullLayout, trace = plot._fullData[0];
            return [xaxis.d2p(trace.x[5]), yaxis.d2p(trace.y[5])];
        }"""
    )
    page.mouse.move(box["x"] + point[0] - 3, box["y"] + point[1])
    page.mouse.move(box["x"] + point[0], box["y"] + point[1])
    page.mouse.click(box["x"] + point[0], box["y"] + point[1])
    expect(page.locator("#step")).to_have_value("5")
    expect(page.locator("#latest input")).not_to_be_checked()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_follows_the_system_until_it_is_chosen(address, open_page, scheme):
    page = open_page(address, color_scheme=scheme)
    other = "dark" if scheme == "light" else "light"
    expect(page.locator("html")).to_have_attribute("data-theme", scheme)
    page.emulate_media(color_scheme=other)
    expect(page.locator("html")).to_have_attribute("data-theme", other)
    page.locator(f"#theme-choice input[value={scheme}]").check(force=True)
    expect(page.locator("html")).to_have_attribute("data-theme", scheme)
    expect(page).to_have_url(re.compile(f"theme={scheme}"))
    paper = {"light": "rgb(255, 255, 255)", "dark": "rgb(23, 28, 36)"}[scheme]
    expect(page.locator("#ess .main-svg").first).to_have_css("background-color", paper)


@pytest.mark.parametrize("width", [390, 1600])
def test_nothing_is_wider_than_the_page(address, open_page, width):
    page = open_page(address, "?basis=all", viewport={"width": width, "height": 900})
    page.wait_for_function(f"({NAMES})().includes('collapsing')")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("ess", "heldout", "gini", "lorenz", "table"):
        box = page.locator(f"#{name}").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


GAPS = """() => [...document.querySelectorAll('.panel:has(.legend)')].map(panel => {
    const edge = query => panel.querySelector(query).getBoundingClientRect();
    const plot = panel.querySelector('.js-plotly-plot');
    const top = plot.getBoundingClientRect().top + plot._fullLayout._size.t;
    return [edge('.legend').top - edge('.caption').bottom, top - edge('.legend').bottom];
})"""


@pytest.mark.parametrize("width", [390, 800, 1280, 1600])
def test_caption_legend_and_plot_follow_each_other_closely(address, open_page, width):
    page = open_page(address, viewport={"width": width, "height": 900})
    page.wait_for_function(f"({NAMES})().includes('collapsing')")
    page.wait_for_function("document.querySelectorAll('.panel .legend').length >= 5")
    for above, below in page.evaluate(GAPS):
        assert -1 <= above <= 10
        assert -1 <= below <= 12


def test_held_out_success_and_its_stall_stand_below_the_ess(batch, watch, open_page, tmp_path):
    with Recorder(tmp_path / "run", strict=True) as recorder:
        for step in range(80):
            recorder.log_step(step, batch(step, mixed=0.1 if step >= 10 else 1.0))
            recorder.log_evaluation(step, episodes=100, successes=min(3 * step, 60))
    page = open_page(watch(tmp_path / "run"), viewport={"width": 1400, "height": 1200})
    panel = page.get_by_role("region", name="Held-out success")
    expect(panel.locator(".legendtext")).to_have_text(["run", "ESS alert fires", "learning stalls"])
    expect(panel.locator(".annotation-text", has_text="learning stalls, step")).to_be_visible()
    boxes = page.evaluate(
        "() => ['ess', 'heldout'].map(name => {"
        " const plot = document.querySelector(`#${name} .js-plotly-plot`);"
        " const box = plot.getBoundingClientRect(), {l, r} = plot._fullLayout._size;"
        " return [box.left + l, box.right - r, box.top]; })"
    )
    assert boxes[0][:2] == pytest.approx(boxes[1][:2], abs=1), "one step stands over the other"
    assert boxes[0][2] < boxes[1][2]


def test_it_can_be_used_by_keyboard_and_read_aloud(address, open_page):
    page = open_page(address)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the charts")).to_be_focused()
    page.locator("[name=basis][value=signal]").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("[name=basis][value=contribution]")).to_be_checked()
    expect(page).to_have_url(re.compile("basis=contribution"))
    for name in ("Effective sample size", "Policy entropy", "Alerts", "Trajectories"):
        expect(page.get_by_role("region", name=name, exact=True)).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text("mmhealth")
    expect(page.get_by_role("article", name="collapsing")).to_be_visible()
    expect(page.get_by_label("Step", exact=True)).to_be_visible()
    expect(page.locator("#announce")).to_have_attribute("aria-live", "polite")
