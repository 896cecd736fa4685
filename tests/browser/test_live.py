"""The page beside a run that is being written by another process."""

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

WITHIN_MS = 3000
"""From the row being committed to the page showing it."""

LAST_X = "() => document.querySelector('#ess .js-plotly-plot')._fullData[0]?.x?.at(-1)"
RANGE = "() => document.querySelector('#ess .js-plotly-plot')._fullLayout.xaxis.range"


def drag(page, left, right):
    """Zoom the ESS figure to a part of its width."""
    box = page.locator("#ess .nsewdrag").first.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + left * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + right * box["width"], y, steps=6)
    page.mouse.up()


def test_points_and_alert_arrive_and_zoom_survives(watch, write, open_page, tmp_path):
    address = watch(tmp_path / "run")
    page = open_page(address, viewport={"width": 1400, "height": 1000})
    expect(page.locator(".card")).to_contain_text("waiting for the run")

    writer = write(tmp_path / "run")
    for step in range(20):
        writer.log(step)
    page.wait_for_function(f"({LAST_X})() === 19", timeout=15_000)
    expect(page.locator(".card .verdict")).to_have_text("healthy")
    expect(page.locator("#alerts")).to_contain_text("No alert has fired")

    drag(page, 0.2, 0.6)
    page.wait_for_function(f"({RANGE})()[1] < 18")
    zoomed = page.evaluate(RANGE)

    writer.log(20)
    page.wait_for_function(f"({LAST_X})() === 20", timeout=WITHIN_MS)
    for step in (21, 22, 23):
        writer.log(step, live=3)
    expect(page.locator("#alerts .critical.firing .rule").first).to_contain_text(
        "collapse", timeout=WITHIN_MS
    )
    expect(page.locator(".card .verdict")).to_have_text("critical")
    expect(page.locator("#announce")).to_contain_text("critical alert")
    page.wait_for_function(f"({LAST_X})() === 23", timeout=WITHIN_MS)
    assert page.evaluate(RANGE) == zoomed

    box = page.locator("#ess .nsewdrag").first.bounding_box()
    page.mouse.dblclick(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_function(f"({RANGE})()[1] === 23")
    page.wait_for_timeout(1500)
    assert page.evaluate(RANGE) == [0, 23]
    expect(page.locator("#table-caption")).to_contain_text("Step 23 of run: 64 trajectories")
