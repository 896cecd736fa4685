"""The exposition, parsed by Prometheus's own parser, and its server and Grafana dashboard."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmhealth import Recorder, open_run
from mmhealth.errors import PortInUseError
from mmhealth.health import Monitor, build_timeline, default_policy, judge_run
from mmhealth.integrations.trackers.catalogue import CATALOGUE
from mmhealth.integrations.trackers.endpoint import Endpoint
from mmhealth.integrations.trackers.openmetrics import (
    CONTENT_TYPE,
    metric_name,
    render_openmetrics,
)
from mmhealth.integrations.trackers.steps import SENT

parser = pytest.importorskip("prometheus_client.openmetrics.parser")
GRAFANA = Path(__file__).parents[2] / "docs" / "grafana.json"


def parse(text: str) -> dict[str, Any]:
    """Metric families by name."""
    return {family.name: family for family in parser.text_string_to_metric_families(text)}


def value(families: dict[str, Any], name: str) -> float:
    [sample] = families[name].samples
    return float(sample.value)


@pytest.fixture
def monitor(collapsing_run: Path) -> Monitor:
    monitor = Monitor(collapsing_run)
    monitor.poll()
    return monitor


Serve = Callable[[Path], str]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Serves a run directory until the end of the test; gives the address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = []

    def start(run_dir: Path) -> str:
        endpoint = Endpoint(run_dir, default_policy())
        thread = threading.Thread(target=endpoint.serve)
        thread.start()
        made.append((endpoint, thread))
        scrape(endpoint.url)
        return endpoint.url

    yield start
    for endpoint, thread in made:
        endpoint.stop()
        thread.join()


def scrape(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.headers["Content-Type"] == CONTENT_TYPE
        return parse(answer.read().decode())


def test_every_number_of_the_last_step_is_there_with_type_unit_and_help(monitor: Monitor) -> None:
    row = build_timeline(open_run(monitor.run.path)).frame.row(-1, named=True)
    families = parse(render_openmetrics(monitor, "r", row["time"] + 90))
    for name, (unit, meaning) in CATALOGUE.items():
        if name in row and row[name] is not None:
            family = families[metric_name(name)]
            assert (family.type, family.unit) == ("gauge", unit)
            assert meaning[1:] in family.documentation
            [sample] = family.samples
            assert sample.labels == {"run": "r"}
            assert sample.value == row[name]
        elif name in row:
            assert metric_name(name) not in families
    assert value(families, "mmhealth_step") == 13
    assert value(families, "mmhealth_last_step_timestamp_seconds") == row["time"]
    assert value(families, "mmhealth_last_step_age_seconds") == pytest.approx(90)


def test_verdict_and_rules_stand_as_the_monitor_says(monitor: Monitor) -> None:
    families = parse(render_openmetrics(monitor, "r", time.time()))
    verdict = {s.labels["mmhealth_verdict"]: s.value for s in families["mmhealth_verdict"].samples}
    assert families["mmhealth_verdict"].type == "stateset"
    assert [name for name, on in verdict.items() if on] == [judge_run(monitor).name] == ["critical"]
    firing = {s.labels["rule"]: s.value for s in families["mmhealth_rule_firing"].samples}
    states = monitor.rule_engine.states()
    assert {rule for rule, on in firing.items() if on} == {
        rule for rule, state in states.items() if state == "firing"
    }
    assert firing.keys() == {rule for rule, state in states.items() if state != "no data"}
    fired = {s.labels["severity"]: s.value for s in families["mmhealth_alerts"].samples}
    assert fired["critical"] == sum(a.severity == "critical" for a in monitor.alerts) > 0


def test_the_catalogue_knows_every_number_that_is_sent() -> None:
    assert CATALOGUE.keys() == set(SENT) - {"verdict"}


@pytest.mark.parametrize("name", ['a "b"', "back\\slash", "two\nlines", "ü {x=1} # EOF"])
def test_labels_are_escaped(monitor: Monitor, name: str) -> None:
    families = parse(render_openmetrics(monitor, name, 0.0))
    assert families["mmhealth_step"].samples[0].labels == {"run": name}
    assert value(families, "mmhealth_last_step_age_seconds") == 0


def test_a_run_without_steps_has_no_numbers(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run") as recorder:
        monitor = Monitor(recorder)
        monitor.poll()
    families = parse(render_openmetrics(monitor, "r", 0.0))
    assert value(families, "mmhealth_run_readable") == 1
    on = [s.labels["mmhealth_verdict"] for s in families["mmhealth_verdict"].samples if s.value]
    assert on == ["insufficient"]
    assert "mmhealth_step" not in families


def test_scrapes_see_a_run_begin_grow_and_be_replaced(
    tmp_path: Path, batch: Any, serve: Serve
) -> None:
    url = serve(tmp_path / "run")
    families = scrape(url)
    assert list(families) == ["mmhealth_run_readable"]
    assert families["mmhealth_run_readable"].samples[0].labels == {"run": "run"}
    assert value(families, "mmhealth_run_readable") == 0
    with Recorder(tmp_path / "run") as recorder:
        for step in range(2):
            recorder.log_step(step, batch(step))
            assert value(scrape(url), "mmhealth_step") == step
    (tmp_path / "run").rename(tmp_path / "old")
    assert value(scrape(url), "mmhealth_run_readable") == 0
    with Recorder(tmp_path / "run") as recorder:
        recorder.log_step(0, batch(0))
        assert value(scrape(url), "mmhealth_step") == 0


def test_there_is_one_page_and_it_is_on_this_machine_only(
    collapsing_run: Path, serve: Serve
) -> None:
    url = serve(collapsing_run)
    assert url.startswith("http://127.0.0.1:")
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(url.replace("/metrics", "/else"), timeout=20)
    assert error.value.code == 404
    error.value.close()
    port = int(url.split(":")[2].split("/")[0])
    with pytest.raises(PortInUseError, match=f"port {port} of 127.0.0.1 is taken"):
        Endpoint(collapsing_run, default_policy(), port=port)


def test_the_command_serves_until_interrupted(collapsing_run: Path, unused_port: int) -> None:
    command = [sys.executable, "-m", "mmhealth", "export", str(collapsing_run)]
    env = os.environ | {"PYTHONUNBUFFERED": "1", "no_proxy": "127.0.0.1"}
    with subprocess.Popen(
        [*command, "--serve", f":{unused_port}"], stdout=subprocess.PIPE, text=True, env=env
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == f"serving at http://127.0.0.1:{unused_port}/metrics (Ctrl-C ends)\n"
        assert value(scrape(line.split()[2]), "mmhealth_step") == 13
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def served_names(monitor: Monitor) -> set[str]:
    """Every name that may be served: those of the catalogue, and what is served anyway."""
    fixed = parse(render_openmetrics(monitor, "r", 0.0)).keys()
    return {metric_name(name) for name in CATALOGUE if not name.startswith("alerts_")} | fixed


def test_grafana_asks_for_what_is_served(monitor: Monitor) -> None:
    dashboard = json.loads(GRAFANA.read_text())
    asked = [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]
    variables = {v["name"]: v for v in dashboard["templating"]["list"]}
    asked.append(variables["run"]["query"]["query"])
    label = "mmhealth_verdict"
    for expression in asked:
        names = set(re.findall(r"\bmmhealth_\w+", expression))
        assert names
        assert names <= served_names(monitor), expression
        assert "$run" in expression or expression.startswith("label_values(")
    labels = {
        name
        for t in dashboard["panels"]
        for q in t["targets"]
        for name in re.findall(r"\{\{(\w+)\}\}", q["legendFormat"])
    }
    assert labels == {"run", "rule", "severity", label}


def test_grafana_panels_stand_side_by_side(monitor: Monitor) -> None:
    taken = set()
    for panel in json.loads(GRAFANA.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
