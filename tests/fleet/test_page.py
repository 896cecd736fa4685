import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mmhealth.fleet import Fleet, judge_fleet, render_fleet_page, select_runs
from mmhealth.fleet.pages import PLOTLY, page_name, write_pages


class Rows(HTMLParser):
    """Takes tags and their attributes, and checks that they nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.rows = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "input", "path"):
            self.open.append(tag)
        self.rows += tag == "tr"
        self.links += [value for name, value in attrs if name == "href" and tag == "a" and value]

    def handle_endtag(self, tag: str) -> None:
        if tag != "path":
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def fleet(fleet_folder: Path) -> Fleet:
    return judge_fleet([fleet_folder])


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script id="fleet" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def test_the_page_is_whole_and_lists_every_run_in_order(fleet: Fleet) -> None:
    shown = select_runs(fleet.runs, ())
    text = render_fleet_page(fleet, shown)
    parsed = Rows()
    parsed.feed(text)
    assert parsed.open == []
    assert parsed.rows == 1 + len(shown)
    data = data_of(text)
    assert [run["verdict"] for run in data["runs"]] == [run.verdict for run in shown]
    assert {"model", "optimizer.lr"} <= set(data["settings"])
    assert "://" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


def test_numbers_that_json_lacks_are_sorted_by(tmp_path: Path, record: Any) -> None:
    for name, value in (("a", float("nan")), ("b", float("inf")), ("c", 1e-5)):
        record(tmp_path / name, [1.0] * 3, config={"lr": value})
    fleet = judge_fleet([tmp_path])
    data = data_of(render_fleet_page(fleet, fleet.runs))
    place = data["settings"].index("lr")
    assert [run["settings"][place] for run in data["runs"]] == [None, 1e308, 1e-5]


def test_what_comes_from_a_run_is_text_and_never_markup(tmp_path: Path, record: Any) -> None:
    evil = "<img src=x onerror=alert(1)>"
    path = record(tmp_path / "a&b", [1.0] * 3, config={"note": evil, "</script>": evil})
    other = record(tmp_path / "c", [1.0] * 3)
    fleet = judge_fleet([path, other])
    text = render_fleet_page(fleet, fleet.runs, {str(path): 'p"x.html'})
    assert evil not in text
    assert text.count("</script>") == 3
    parsed = Rows()
    parsed.feed(text)
    assert parsed.links == ['p"x.html']


def test_pages_share_the_library_and_have_names_of_their_own(tmp_path: Path, fleet: Fleet) -> None:
    names = write_pages(fleet.runs, tmp_path / "pages", fleet.policy)
    readable = [run.path for run in fleet.runs if run.verdict != "unreadable"]
    assert list(names) == readable
    assert len(set(names.values())) == len(readable)
    for name in names.values():
        size = (tmp_path / "pages" / name).stat().st_size
        assert size < (tmp_path / "pages" / PLOTLY).stat().st_size / 4
    assert page_name("a/run") != page_name("b/run")
    assert re.fullmatch(r"run-[0-9a-f]{8}\.html", page_name("somewhere/run"))
