"""The fleet's page in a browser without a network: it sorts, filters, and opens what it lists."""

from dataclasses import replace
from pathlib import Path

import pytest

from mmhealth.fleet import Fleet, judge_runs, render_fleet_page, select_runs, write_pages

pytestmark = pytest.mark.browser

SAMPLES = Path(__file__).parents[2] / "sample_logs"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    broken = folder / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("{", encoding="utf-8")
    fleet = judge_runs([SAMPLES / "collapsing", SAMPLES / "fixed", broken])
    shown = select_runs(fleet.runs, (), reverse=False)
    names = write_pages(shown[:1], folder / "pages", fleet.policy)
    links = {path: f"pages/{name}" for path, name in names.items()}
    file = folder / "fleet.html"
    file.write_text(render_fleet_page(fleet, shown, links), encoding="utf-8")
    return file


@pytest.fixture
def opened(browser, page_file):
    """Opens the page; a message in its console or a request to elsewhere fails the test."""
    wrong, contexts = [], []

    def at(query="", *, ready=True, **options):
        contexts.append(browser.new_context(offline=True, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url))
        page.goto(page_file.as_uri() + query)
        if ready:
            page.wait_for_selector("html[data-ready]")
        return page

    yield at
    for context in contexts:
        context.close()
    assert [text for text in wrong if not text.startswith(("file:", "data:", "blob:"))] == []


def names(page):
    return page.locator(".fleet tbody .run").all_inner_texts()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1600), ("dark", 700), ("light", 360)])
def test_nothing_is_wider_than_the_page_and_details_open_by_key(opened, scheme, width):
    page = opened(color_scheme=scheme, viewport={"width": width, "height": 800})
    button = page.locator(".more").first
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    assert "mmhealth audit" in page.locator(".opened").inner_text()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    page.keyboard.press("Escape")
    assert page.locator(".opened").count() == 0


def test_sorting_by_a_heading_is_told_and_turns_round(opened):
    page = opened()
    assert names(page)[-1] == "fixed"
    heading = page.locator("th[data-key=name]")
    heading.locator("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert names(page) == ["broken", "collapsing", "fixed"]
    heading.locator("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert names(page) == ["fixed", "collapsing", "broken"]
    page.locator("th[data-key=headroom] button").click()
    assert names(page)[-1] == "broken"


def test_filters_speak_the_language_of_the_command_and_the_address_keeps_them(opened):
    page = opened()
    page.keyboard.press("/")
    page.keyboard.type("verdict=unreadable,critical name=b*")
    page.wait_for_function("() => document.querySelectorAll('.fleet tbody tr').length === 1")
    assert names(page) == ["broken"]
    assert page.locator("#count").inner_text() == "1 of 3 runs"
    address = page.url
    again = opened(address[address.index("#") :])
    assert names(again) == ["broken"]
    assert again.locator("#search").input_value() == "verdict=unreadable,critical name=b*"
    page.locator("#search").fill("flavour=1")
    page.wait_for_function("() => document.getElementById('problem').textContent")
    assert page.locator("#problem").inner_text() == "no run has flavour"
    page.locator("#search").fill("headroom<0.00001")
    page.wait_for_function("() => !document.querySelector('.fleet tbody tr')")
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.querySelectorAll('.fleet tbody tr').length === 3")
    page.locator(".chip input[value=unreadable]").uncheck()
    assert "broken" not in names(page)


def test_numbers_are_sorted_as_numbers_beside_words(opened, tmp_path):
    fleet = judge_runs([SAMPLES / "collapsing"])
    [one] = fleet.runs
    values = (3e-6, "adaptive", 1e-5, float("nan"), float("inf"))
    many = tuple(
        replace(one, name=str(value), label=str(value), path=f"runs/{n}", config={"lr": value})
        for n, value in enumerate(values)
    )
    file = tmp_path / "mixed.html"
    file.write_text(render_fleet_page(Fleet(fleet.policy, many), many), encoding="utf-8")
    page = opened()
    page.goto(file.as_uri())
    page.locator("th[data-key=name] button").click()
    assert names(page) == ["3e-06", "1e-05", "adaptive", "inf", "nan"]
    page.locator("#search").fill("lr==1e-5")
    page.wait_for_function("() => document.querySelectorAll('.fleet tbody tr').length === 1")
    assert names(page) == ["1e-05"]
    page.locator("#search").fill("lr=>1")
    page.wait_for_function("() => document.getElementById('problem').textContent")


def test_without_scripts_every_run_is_there_and_nothing_that_does_nothing(opened):
    page = opened(java_script_enabled=False, ready=False)
    assert len(names(page)) == 3
    assert not page.locator("#search").is_visible()
    assert not page.locator(".more").first.is_visible()
    assert page.get_by_text("details need JavaScript").is_visible()


def test_of_many_runs_those_far_below_come_when_the_reader_does(opened, tmp_path):
    fleet = judge_runs([SAMPLES / "collapsing"])
    [one] = fleet.runs
    many = tuple(replace(one, label=f"run-{n:04d}", path=f"runs/{n}", step=n) for n in range(700))
    file = tmp_path / "many.html"
    file.write_text(render_fleet_page(Fleet(fleet.policy, many), many), encoding="utf-8")
    page = opened()
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]")
    assert page.locator(".fleet tbody tr:visible").count() < 700
    for _ in range(6):
        page.evaluate("() => scrollTo(0, document.body.scrollHeight)")
        page.wait_for_timeout(60)
    page.wait_for_function("() => document.querySelectorAll('.fleet tbody tr').length === 700")
    assert names(page)[-1] == "run-0699"
    page.locator("th[data-key=step] button").click()
    assert names(page)[0] == "run-0699"
    page.locator("#search").fill("step<3")
    page.wait_for_function("() => document.querySelectorAll('.fleet tbody tr').length === 3")
    assert names(page) == ["run-0002", "run-0001", "run-0000"]


def test_a_run_links_to_its_audit_which_draws_with_the_shared_library(opened):
    page = opened()
    page.locator(".fleet a").first.click()
    page.wait_for_selector(".plot .main-svg")
    assert Path(page.url).parent.name == "pages"
    assert page.locator("h1").inner_text().endswith("mmhealth audit")
