"""Ray and processes of this machine beside plain serial work: overhead, and the same bytes.

Three kinds of work (import of a dump, reading runs for a calibration, the timeline of one run) on
each engine, taking turns `--rounds` times; what comes out is compared byte by byte with what serial
work gives. Empty tasks tell the overhead of each. Writes docs/benchmarks/engines.md.

    pip install 'mmhealth[ray]'    # for the rows of Ray, which are left out otherwise
"""

import argparse
import hashlib
import importlib
import importlib.util
import json
import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from big_runs import write_run
from tables import machine, write_table

from mmhealth import open_run
from mmhealth.engines import Engine, parse_engine
from mmhealth.health import build_timeline, windows
from mmhealth.health.calibration import read_courses
from mmhealth.integrations.dumps import import_dump

ENGINES = ["serial", "local:1", "local:2", "ray:1", "ray:2", "ray:4"]
EMPTY = 2_000
Work = Callable[[Engine], bytes]


def nothing(task: int) -> int:
    return task


def awake(task: int) -> int:
    """Have a worker import what it needs."""
    for module in ("polars", "mmhealth.health.metrics", "mmhealth.integrations.dumps"):
        importlib.import_module(module)
    return task


def write_dump(folder: Path, steps: int, rows: int = 64, tokens: int = 256) -> Path:
    """A dump as NeMo-RL writes it: a file a step, a line a trajectory, with token arrays."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    logs = -rng.random((rows, tokens))
    for step in range(1, steps + 1):
        lines = []
        for row in range(rows):
            own = np.round(logs[row] + 0.01 * step, 6).tolist()
            fields = {
                "rewards": float(row % 2),
                "input_lengths": tokens,
                "token_loss_mask": [0] * 16 + [1] * (tokens - 16),
                "token_ids": [row // 8] * 16 + list(range(tokens - 16)),
                "advantages": [float(row % 2) - 0.5] * tokens,
                "generation_logprobs": own,
                "prev_logprobs": own,
                "sample_loss_mask": 1.0,
                "content": "",
            }
            lines.append(json.dumps({name: [value] for name, value in fields.items()}))
        (folder / f"train_data_step{step}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def digest(run_dir: Path) -> bytes:
    """All bytes of trajectories and updates, with the names of their files."""
    found = hashlib.sha256()
    for table in ("trajectories", "updates"):
        for path in sorted((run_dir / table).iterdir()):
            found.update(path.name.encode() + path.read_bytes())
    return found.digest()


def importing(dump: Path) -> Work:
    def work(engine: Engine) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            done = import_dump(dump, Path(folder) / "run", engine=engine)
            assert done.steps
            assert not done.problems.count
            return digest(done.run_dir)

    return work


def calibrating(runs: list[Path]) -> Work:
    def work(engine: Engine) -> bytes:
        courses = read_courses(runs, engine=engine)
        return b"".join(pickle.dumps([s.values for s in course.steps]) for course in courses)

    return work


def timelining(run: Path) -> Work:
    return lambda engine: build_timeline(open_run(run), engine=engine).frame.write_csv().encode()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=float, default=1.0, help="Of all work, 1 for some minutes.")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    size = arguments.size
    names = [n for n in ENGINES if "ray" not in n or importlib.util.find_spec("ray")]
    windows.WINDOW_ROWS = 1 << 16
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        runs = [write_run(home / f"run{n}", int(20 * size) + 1) for n in range(8)]
        work: dict[str, Work] = {
            "import": importing(write_dump(home / "dump", int(60 * size))),
            "calibrate": calibrating(runs),
            "timeline": timelining(write_run(home / "long", int(200 * size))),
        }
        seconds: dict[tuple[str, str], list[float]] = {}
        expected: dict[str, bytes] = {}
        for _ in range(arguments.rounds):
            for name in names:
                begun = time.perf_counter()
                with parse_engine(name) as engine:
                    assert list(engine.map(awake, range(8))) == list(range(8))
                    seconds.setdefault((name, "start"), []).append(time.perf_counter() - begun)
                    begun = time.perf_counter()
                    assert sum(1 for _ in engine.map(nothing, range(EMPTY))) == EMPTY
                    each = (time.perf_counter() - begun) / EMPTY
                    seconds.setdefault((name, "task"), []).append(each)
                    for what, do in work.items():
                        begun = time.perf_counter()
                        found = do(engine)
                        seconds.setdefault((name, what), []).append(time.perf_counter() - begun)
                        assert expected.setdefault(what, found) == found, (name, what)
                print(name, {w: round(min(t), 5) for (n, w), t in seconds.items() if n == name})
    write(names, list(work), {key: min(times) for key, times in seconds.items()}, arguments)


def write(
    names: list[str],
    kinds: list[str],
    took: dict[tuple[str, str], float],
    arguments: argparse.Namespace,
) -> None:
    rows = []
    for name in names:
        speedups = {kind: took["serial", kind] / took[name, kind] for kind in kinds}
        gained = 1 - 1 / speedups["timeline"]
        pays = f"{took[name, 'start'] / gained:.0f} s" if gained > 0.05 else "never"
        rows.append(
            [
                name,
                f"{took[name, 'start']:.2f} s" if name != "serial" else "",
                f"{1e6 * took[name, 'task']:,.0f} µs" if name != "serial" else "",
                *(f"{took[name, kind]:.2f} s ({speedups[kind]:.2f}x)" for kind in kinds),
                pays if name != "serial" else "",
            ]
        )
    scale = arguments.size
    about = (
        f"Import of {int(60 * scale)} files of 64 trajectories with 256 tokens each; eight runs of "
        f"{(int(20 * scale) + 1) * 10_000:,} trajectories read for a calibration; the timeline of "
        f"{int(200 * scale) * 10_000:,} trajectories, in windows of 65,536. The fastest of "
        f"{arguments.rounds} rounds in which all engines take turns; in brackets how many times as "
        "fast as serial work, without the start. *start*: until its workers have imported what "
        f"they need; *a task*: each of {EMPTY:,} empty ones. *pays from*: seconds of serial work "
        "on a timeline from which the engine is faster, its start included. What came out of "
        "every engine was the same, byte for byte (segments of trajectories and updates; courses; "
        f"the timeline as CSV). Others used the machine at the time. {machine()}"
    )
    header = ["engine", "start", "a task", *kinds, "pays from"]
    write_table("engines", "Engines beside serial work", about, header, rows)


if __name__ == "__main__":
    main()
