"""Import of a large NeMo-RL dump: peak memory, and throughput against reading it with `json`.

    python benchmarks/bench_import.py --gigabytes 2

Writes a synthetic dump as `Logger.log_batched_dict_as_jsonl` does, of `--gigabytes` in steps of
`--rows` trajectories padded to `--tokens`, imports it in a process of its own, with orjson and
without, and reads the same lines with `json.loads` in another; `--repeats` times in turn. The same
for a dump of a quarter of the size: memory that is constant is the same for both.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tables import machine, markdown_table, write_table

HEADER = [
    "GB",
    "steps",
    "peak MB",
    "MB of the package",
    "json MB/s",
    "import MB/s",
    "time ratio",
    "import MB/s, no orjson",
    "time ratio, no orjson",
]
GIGABYTE = 10**9

IMPORT = """
import sys
from mmhealth.integrations.dumps import import_dump
done = import_dump(sys.argv[1], sys.argv[2])
assert not done.problems.count
"""
WITHOUT_ORJSON = f"import sys\nsys.modules['orjson'] = None\n{IMPORT}"
READ = """
import json, sys
from pathlib import Path
for path in sorted(Path(sys.argv[1]).iterdir()):
    with path.open("rb") as file:
        for line in file:
            json.loads(line)
"""


def write_dump(folder: Path, size: float, rows: int, tokens: int) -> int:
    """Write steps until the dump has ``size`` bytes; return its bytes."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    written = step = 0
    while written < size:
        step += 1
        with (folder / f"train_data_step{step}.jsonl").open("w") as file:
            for row in range(rows):
                written += file.write(line(rng, row, tokens))
    return written


def line(rng: np.random.Generator, row: int, tokens: int) -> str:
    """One trajectory of up to ``tokens`` tokens, padded to that."""
    length = int(rng.integers(tokens // 4, tokens))
    places = np.arange(tokens)
    mask = (places >= length // 8) & (places < length)
    generation = np.where(mask, -rng.exponential(0.5, tokens).astype(np.float32), 0.0)
    prev = np.where(mask, generation + rng.normal(0, 0.02, tokens).astype(np.float32), 0.0)
    record = {
        "content": ["text " * length],
        "rewards": [float(row % 2)],
        "input_lengths": [length],
        "token_ids": [np.where(places < length, rng.integers(0, 150_000, tokens), 0).tolist()],
        "token_loss_mask": [mask.astype(int).tolist()],
        "sample_loss_mask": [1.0],
        "advantages": [np.where(mask, row % 2 - 0.5, 0.0).tolist()],
        "generation_logprobs": [generation.tolist()],
        "prev_logprobs": [prev.tolist()],
        "idx": row,
    }
    return json.dumps(record) + "\n"


def timed(code: str, *arguments: Path) -> float:
    """Seconds that a process takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)
    return time.perf_counter() - start


def peak_megabytes(code: str, *arguments: Path) -> float:
    """Peak resident memory of a process."""
    report = f"{code}\nimport resource\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    command = [sys.executable, "-c", report, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    unit = 1 if sys.platform == "darwin" else 1024
    return int(done.stdout.split()[-1]) * unit / 1e6


def measure(work: Path, size: float, rows: int, tokens: int, repeats: int) -> list[str]:
    """One row of the table."""
    dump = work / "dump"
    bytes_ = write_dump(dump, size, rows, tokens)
    theirs, ours, plainly = [], [], []
    for number in range(repeats):
        theirs.append(timed(READ, dump))
        ours.append(timed(IMPORT, dump, work / f"run-{number}"))
        plainly.append(timed(WITHOUT_ORJSON, dump, work / f"plain-{number}"))
    peak = peak_megabytes(IMPORT, dump, work / "peak")
    plain = peak_megabytes("import mmhealth.integrations.dumps", dump)
    steps = len(list(dump.iterdir()))
    shutil.rmtree(work)
    return [
        f"{bytes_ / GIGABYTE:.2f}",
        str(steps),
        f"{peak:.0f}",
        f"{plain:.0f}",
        f"{bytes_ / min(theirs) / 1e6:.0f}",
        f"{bytes_ / min(ours) / 1e6:.0f}",
        of_pairs(ours, theirs),
        f"{bytes_ / min(plainly) / 1e6:.0f}",
        of_pairs(plainly, theirs),
    ]


def of_pairs(ours: list[float], theirs: list[float]) -> str:
    """Median of the ratios of runs side by side, with the least and the largest."""
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    return f"{np.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=None)
    given = parser.parse_args()
    table = []
    for share in (0.25, 1.0):
        with tempfile.TemporaryDirectory(dir=given.dir) as place:
            size = share * given.gigabytes * GIGABYTE
            work = Path(place) / "bench"
            table.append(measure(work, size, given.rows, given.tokens, given.repeats))
    if given.gigabytes < 2:
        print(markdown_table(HEADER, table))
        return
    write_table(
        "import",
        "Import of a NeMo-RL dump",
        f"Synthetic dumps of {given.rows} trajectories a step, padded to {given.tokens:,} tokens. "
        "Peak resident memory is that of the importing process, beside that of one that has only "
        "imported the package. Throughputs are of whole processes, the best of "
        f"{given.repeats}; ratios are the median of as many pairs run side by side, with the least "
        f"and the largest; `json` reads the same lines and keeps nothing. {machine()}",
        HEADER,
        table,
    )


if __name__ == "__main__":
    main()
