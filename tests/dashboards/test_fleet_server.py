import io
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from mmhealth.dashboards.fleet_rows import column_defs, grid_rows
from mmhealth.dashboards.fleet_server import RunViews
from mmhealth.engines import SerialEngine
from mmhealth.fleet.select import gravity
from mmhealth.fleet.watch import FleetWatcher
from mmhealth.health import default_policy

SAMPLES = Path(__file__).parents[2] / "sample_logs"


@pytest.fixture(scope="module")
def watcher(tmp_path_factory: pytest.TempPathFactory) -> FleetWatcher:
    folder = tmp_path_factory.mktemp("fleet")
    broken = folder / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("{", encoding="utf-8")
    given = [str(SAMPLES / "collapsing"), str(SAMPLES / "fixed"), str(broken)]
    watcher = FleetWatcher(given, default_policy(), SerialEngine())
    watcher.look()
    return watcher


@pytest.fixture
def views(watcher: FleetWatcher) -> Iterator[RunViews]:
    views = RunViews(watcher, default_policy())
    yield views
    views.close()


def number_of(watcher: FleetWatcher, name: str) -> int:
    return next(row.number for row in watcher.snapshot.rows if row.summary.name == name)


def test_the_fleet_is_at_the_root_and_each_run_below_it(
    views: RunViews, watcher: FleetWatcher
) -> None:
    client = Client(views)
    assert "fleet" in client.get("/_dash-layout").text
    number = number_of(watcher, "collapsing")
    redirected = client.get(f"/run/{number}")
    assert (redirected.status_code, redirected.headers["Location"]) == (308, f"/run/{number}/")
    page = client.get(f"/run/{number}/")
    assert page.status_code == 200
    assert f"/run/{number}/assets/mmhealth.css" in page.text
    layout = client.get(f"/run/{number}/_dash-layout").text
    assert "collapsing" in layout
    assert "all runs" in layout
    assert client.get("/run/999/").status_code == 404
    assert client.get("/run/x/").status_code == 200, "Dash answers unknown pages with its own"


def test_only_so_many_runs_are_followed_at_a_time(
    watcher: FleetWatcher,
) -> None:
    views = RunViews(watcher, default_policy(), most_open=1)
    client = Client(views)
    for name in ("collapsing", "fixed", "collapsing"):
        assert client.get(f"/run/{number_of(watcher, name)}/").status_code == 200
        following = [t.name for t in threading.enumerate() if t.name.startswith("mmhealth-watch-")]
        assert following == [f"mmhealth-watch-{name}"]
    views.close()


def test_a_run_that_is_gone_is_followed_no_more(tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / "fixed", tmp_path / "run")
    watcher = FleetWatcher([str(tmp_path / "*")], default_policy(), SerialEngine())
    watcher.look()
    views = RunViews(watcher, default_policy())
    client = Client(views)
    address = f"/run/{number_of(watcher, 'fixed')}/"
    assert client.get(address).status_code == 200
    shutil.rmtree(tmp_path / "run")
    watcher.look()
    assert client.get(address).status_code == 404
    assert not [t for t in threading.enumerate() if t.name.startswith("mmhealth-watch-")]
    views.close()


def test_rows_sort_as_the_command_does_and_hold_what_json_can(watcher: FleetWatcher) -> None:
    rows = grid_rows(watcher.snapshot.rows, [])
    by_grid = [row["name"] for row in sorted(rows, key=lambda row: row["gravity"])]
    summaries = [row.summary for row in watcher.snapshot.rows]
    assert by_grid == [run.name for run in sorted(summaries, key=gravity)]
    json.dump(rows, io.StringIO(), allow_nan=False)
    broken = next(row for row in rows if row["name"] == "broken")
    assert (broken["verdict"], broken["href"]) == ("unreadable", None)


def test_settings_that_vary_have_a_column(watcher: FleetWatcher) -> None:
    summaries = [row.summary for row in watcher.snapshot.rows]
    fields = [definition["field"] for definition in column_defs(summaries)]
    settings = [field for field in fields if field.startswith("setting:")]
    assert settings
    [first, *_] = grid_rows(watcher.snapshot.rows, fields)
    assert set(settings) <= set(first)


def answer(views: RunViews, watcher: FleetWatcher, wanted: str) -> dict[str, Any]:
    """What the page's tick is told."""
    client = Client(views)
    [dependency] = [
        found
        for found in client.get("/_dash-dependencies").json
        if found["output"].startswith("..fleet.rowData")
    ]
    names = [part.split(".") for part in dependency["output"].strip(".").split("...")]
    values = {"tick": 1, "filter": wanted, "seen": None, "fleet": []}
    sent = client.post(
        "/_dash-update-component",
        json={
            "output": dependency["output"],
            "outputs": [{"id": name, "property": prop} for name, prop in names],
            "inputs": [item | {"value": values[item["id"]]} for item in dependency["inputs"]],
            "state": [item | {"value": values[item["id"]]} for item in dependency["state"]],
            "changedPropIds": ["tick.n_intervals"],
        },
    )
    assert sent.status_code == 200
    return dict(sent.json["response"])


def test_the_filter_is_that_of_the_command(views: RunViews, watcher: FleetWatcher) -> None:
    all_of_them = answer(views, watcher, "")
    assert len(all_of_them["fleet"]["rowData"]) == 3
    assert all_of_them["counts"]["children"].startswith("3 runs: ")
    some = answer(views, watcher, "verdict=unreadable")
    assert [row["name"] for row in some["fleet"]["rowData"]] == ["broken"]
    wrong = answer(views, watcher, "flavour=1")
    assert "no run has 'flavour'" in wrong["problem"]["children"]
    assert "fleet" not in wrong
