"""A fleet of 2,000 small runs: how long judging takes, and how its pages respond in a browser.

    python benchmarks/bench_fleet.py [--runs 2000] [--folder FOLDER] [--screenshot FILE]

Makes the runs (`small_runs.py`) where FOLDER has none. Judging with one worker and with two is
timed in turns on a sample; the whole fleet once with two (kept in FOLDER). Then a real Chromium
opens the page, and the dashboard that holds the same runs. Writes docs/benchmarks/fleet.md.
"""

import argparse
import os
import pickle
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import Page, sync_playwright
from small_runs import make, small_runs
from tables import bootstrap_interval, machine, write_table

from mmhealth.dashboards import serve_fleet
from mmhealth.engines import Engine, LocalEngine, SerialEngine
from mmhealth.fleet import (
    Fleet,
    RunSummary,
    find_runs,
    judge_runs,
    render_fleet_page,
    select_runs,
)
from mmhealth.health import Monitor
from mmhealth.health.diagnosis import diagnose
from mmhealth.runlog.fingerprint import fingerprint

SAMPLE, TURNS, TIMES = 40, 3, 15
PAINTED = "() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
TIMED = """(code) => new Promise((done) => {
  const began = performance.now();
  (0, eval)(code);
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
})"""
ACTIONS = {
    "sort by name": "document.querySelector('th[data-key=name] button').click()",
    "sort by headroom": "document.querySelector('th[data-key=headroom] button').click()",
    "filter: verdict=critical": "search.value = 'verdict=critical'; show()",
    "filter: headroom<1 optimizer.lr=1e-5": "search.value = 'headroom<1 optimizer.lr=1e-5'; show()",
    "no filter again": "search.value = ''; show()",
    "open the details of a run": "document.querySelector('.more').click()",
}
GRID_ROW = "#fleet .ag-center-cols-container .ag-row"


class KnownEngine(SerialEngine):
    """Has judged the runs before: for the dashboard, whose page is what is timed."""

    def __init__(self, fleet: Fleet) -> None:
        self._known = {run.path: run for run in fleet.runs}

    def map(self, _function: Any, tasks: Iterable[Any], told: Any = None) -> Iterator[Any]:
        """What was found, for each path."""
        return super().map(self._find, tasks, told)

    def _find(self, path: Path) -> RunSummary:
        return self._known[str(path)]


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def judge(paths: list[Path], workers: int) -> tuple[float, Fleet]:
    """Seconds of judging, with the workers already there, and what came of it."""
    with LocalEngine(workers) as engine:
        list(engine.map(_begin, range(2 * workers)))
        began = time.perf_counter()
        fleet = judge_runs(paths, engine=engine)
        return time.perf_counter() - began, fleet


def judge_once(folder: Path, paths: list[Path]) -> tuple[float, Fleet]:
    """The whole fleet with two workers; kept in FOLDER, as it takes minutes."""
    kept = folder / "judged.pickle"
    if not kept.exists():
        kept.write_bytes(pickle.dumps(judge(paths, 2)))
    whole, fleet = pickle.loads(kept.read_bytes())
    return whole, fleet


def _begin(_task: int) -> str:
    """Imports what judging needs."""
    return judge_runs.__module__


def measure_workers(paths: list[Path]) -> list[list[str]]:
    """A sample of runs, with one and two workers in turns."""
    sample = paths[:: max(len(paths) // SAMPLE, 1)][:SAMPLE]
    pairs = [(judge(sample, 1)[0], judge(sample, 2)[0]) for _ in range(TURNS)]
    alone = [first / len(sample) for first, _ in pairs]
    ratios = [first / second for first, second in pairs]
    low, high = bootstrap_interval(ratios)
    return [
        ["judge a run, one worker", f"{1000 * median(alone):.0f} ms"],
        [
            "two workers against one, the same runs",
            f"{median(ratios):.2f} times as fast ({low:.2f} to {high:.2f})",
        ],
        ["diagnosis of a run, left out, against judging it", f"{measure_diagnosis(sample):.0%}"],
    ]


def measure_diagnosis(paths: list[Path]) -> float:
    judged = diagnosed = 0.0
    for path in paths:
        if judge_runs([path]).runs[0].verdict == "unreadable":
            continue
        monitor = Monitor(path)
        judged += seconds(monitor.poll)
        diagnosed += seconds(partial(diagnose, monitor))
    return diagnosed / judged


def browse_page(page: Page, file: Path) -> list[list[str]]:
    """The file: opening it and what a reader does with it."""
    loads = []
    for _ in range(5):
        began = time.perf_counter()
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]")
        page.evaluate(PAINTED)
        loads.append(time.perf_counter() - began)
    rows = [["page: open, until it is painted", f"{1000 * median(loads):.0f} ms"]]
    for name, code in ACTIONS.items():
        times = [page.evaluate(TIMED, code) for _ in range(TIMES)]
        rows.append([f"page: {name}, until it is painted", f"{median(times):.0f} ms"])
    return rows


def browse_dashboard(page: Page, folder: Path, fleet: Fleet) -> list[list[str]]:
    """The dashboard with all runs judged: opening it, and a filter that the server answers."""
    address: list[str] = []
    there = threading.Event()

    def ready(url: str) -> None:
        address.append(url)
        there.set()

    engine: Engine = KnownEngine(fleet)
    threading.Thread(
        target=lambda: serve_fleet([str(folder)], engine=engine, port=0, ready=ready), daemon=True
    ).start()
    there.wait()
    opened, filtered, sorts = [], [], []
    for _ in range(5):
        began = time.perf_counter()
        page.goto(address[0])
        page.wait_for_selector(GRID_ROW)
        page.wait_for_function(
            f"document.getElementById('counts').textContent.startsWith('{len(fleet.runs):,} ')"
        )
        opened.append(time.perf_counter() - began)
        began = time.perf_counter()
        page.fill("#filter", "verdict=critical")
        page.wait_for_function("document.getElementById('counts').textContent.includes('shown')")
        page.evaluate(PAINTED)
        filtered.append(time.perf_counter() - began)
        page.fill("#filter", "")
        page.wait_for_function("!document.getElementById('counts').textContent.includes('shown')")
        code = (
            "document.querySelector('.ag-header-cell[col-id=name] .ag-header-cell-label').click()"
        )
        sorts.append(page.evaluate(TIMED, code))
    return [
        ["dashboard: open, until the runs are listed", f"{1000 * median(opened):.0f} ms"],
        [
            "dashboard: filter: verdict=critical (300 ms of it: waits for the typist)",
            f"{1000 * median(filtered):.0f} ms",
        ],
        ["dashboard: sort by name", f"{median(sorts):.0f} ms"],
    ]


def main(folder: Path, count: int, screenshot: Path | None) -> None:
    make(small_runs(folder, count))
    found = seconds(lambda: find_runs([folder]))
    paths = find_runs([folder])
    rows = measure_workers(paths)
    whole, fleet = judge_once(folder, paths)
    shown = select_runs(fleet.runs, ())
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "fleet.html"
        began = time.perf_counter()
        text = render_fleet_page(fleet, shown)
        drawn = time.perf_counter() - began
        file.write_text(text, encoding="utf-8")
        rows += [
            [f"judge all {len(paths):,}, two workers", f"{whole:.0f} s"],
            [f"find {len(paths):,} runs in folders", f"{1000 * found:.0f} ms"],
            [
                "look whether any of them has changed",
                f"{1000 * seconds(lambda: [*map(fingerprint, paths)]):.0f} ms",
            ],
            [
                "filter and sort them in Python",
                f"{1000 * seconds(lambda: select_runs(fleet.runs, ['headroom<1'], 'lead')):.1f} ms",
            ],
            [
                "write the page",
                f"{drawn:.2f} s, {len(text.encode()) / 1e6:.1f} MB",
            ],
        ]
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport={"width": 1400, "height": 800})
            rows += browse_page(page, file)
            if screenshot is not None:
                page.goto(f"{file.as_uri()}#q=headroom%3E0.78+headroom%3C1.1+code")
                page.wait_for_selector("html[data-ready]")
                page.screenshot(path=screenshot)
            rows += browse_dashboard(page, folder, fleet)
            browser.close()
    steps = [run.steps for run in fleet.runs if run.steps]
    verdicts = ", ".join(f"{number:,} {name}" for name, number in fleet.verdicts.items())
    write_table(
        "fleet",
        "A fleet of small runs",
        f"{len(paths):,} runs of {min(steps)} to {max(steps)} steps (median {median(steps):.0f}) "
        f"of 32 trajectories (`benchmarks/small_runs.py`): {verdicts}. One worker and two took "
        f"turns, {TURNS} times, on {SAMPLE} of the runs, with workers that were there already; the "
        "pages were opened by Chromium without a GPU, on the same machine, medians of 5 (opening) "
        f"or {TIMES}. {machine()} Load average at the end, of all that ran there: "
        f"{os.getloadavg()[1]:.1f}.",
        ["what", "time"],
        rows,
    )


if __name__ == "__main__":
    os.environ.update({"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"})
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--screenshot", type=Path)
    asked = parser.parse_args()
    if asked.folder is not None:
        main(asked.folder, asked.runs, asked.screenshot)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary), asked.runs, asked.screenshot)
