"""The panels of gradient noise: there as soon as a run has what they show."""

import pytest
from playwright.sync_api import expect

from mmhealth import Recorder

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1400, "light")])
def test_they_stand_beside_the_others_and_fit(noisy_run, watch, open_page, width, scheme):
    viewport = {"width": width, "height": 1000}
    page = open_page(watch(noisy_run), viewport=viewport, color_scheme=scheme)
    noise = page.get_by_role("region", name="Signal in the gradient")
    sources = page.get_by_role("region", name="Gradient by source")
    expect(noise.locator(".legendtext")).to_have_text(["noisy"])
    expect(sources.locator(".legendtext")).to_have_text(["judge", "verifier"])
    for panel in (noise, sources):
        plot = panel.locator(".main-svg").first.bounding_box()
        box = panel.bounding_box()
        assert plot["width"] > 0.8 * box["width"], "drawn at the size of the panel"
        assert box["x"] + box["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_they_appear_when_the_first_cosine_does(noisy_batch, batch, watch, open_page, tmp_path):
    with Recorder(tmp_path / "run", strict=True) as recorder:
        recorder.log_step(0, batch(0))
        page = open_page(watch(tmp_path / "run"), viewport={"width": 1400, "height": 1000})
        expect(page.locator(".card.waiting")).to_have_count(0)
        expect(page.locator("#noise-panel")).to_be_hidden()
        expect(page.locator("#sources-panel")).to_be_hidden()
        recorder.log_step(1, noisy_batch(1))
        expect(page.locator("#noise-panel")).to_be_visible(timeout=15_000)
        expect(page.locator("#sources-panel .legendtext")).to_have_text(["judge", "verifier"])
