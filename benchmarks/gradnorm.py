"""What exact per-trajectory gradient norms cost, beside plain training and other libraries.

    pip install -e '.[torch,bench]' -c constraints.txt
    python benchmarks/gradnorm.py        # everything: writes docs/benchmarks/gradnorm.md
    python benchmarks/gradnorm.py --quick --only a --only gru     # prints, writes nothing

Peers that are not installed are left out, and the table says so. Two are not in the extra:

- BackPACK asks for torchvision, of which PyPI has no build for the CPU build of torch; the one that
  it has does not load there, and then transformers does not either. It does not need it:
  `pip install --no-deps backpack-for-pytorch unfoldNd einops`.
- fastDP is not on PyPI: put github.com/awslabs/fast-differential-privacy on PYTHONPATH.

Run it on a quiet machine: all methods take turns in one process, but only enough pairs resolve a
difference of some per cent.
"""

import argparse
import gc
import logging
import os
import warnings

os.environ |= {"HF_HUB_OFFLINE": "1", "KINETO_LOG_LEVEL": "5"}

import torch
from gradnorms import curves, page, policies, sketch_error, text, workloads
from gradnorms.arm import UnableError
from gradnorms.compare import Row, compare
from gradnorms.curves import Point
from gradnorms.sketch_error import Errors
from gradnorms.workload import Workload
from tables import DOCS

PAIRS, SEEDS = 30, 12
CURVES, SKETCHED = "curves", "sketch"
CHART = DOCS.parent / "images" / "gradnorm_cost.png"


def main() -> None:
    """Measure, print, write."""
    made = {**workloads.core(False), **policies.all_policies()}
    names = [*made, CURVES, SKETCHED]
    arguments = _arguments(names)
    chosen = arguments.only or names
    torch.set_num_threads(arguments.threads)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    pairs = arguments.pairs or (3 if arguments.quick else PAIRS)
    seeds = 2 if arguments.quick else SEEDS
    made = {**made, **workloads.core(arguments.quick)}
    rows: list[Row] = []
    left_out = []
    for name in (n for n in made if n in chosen):
        print(f"== {name}", flush=True)
        try:
            rows += _measured(made[name]().to(arguments.device), pairs)
        except ModuleNotFoundError as error:
            left_out.append(f"{name} (not installed: {error.name})")
    points = _curves(chosen, pairs, arguments)
    errors = _sketch_errors(chosen, made, seeds, arguments.device)
    cuda = arguments.device == "cuda"
    notes = []
    writes = not (arguments.no_write or arguments.only or arguments.quick)
    if writes and not cuda:
        missing = curves.chart(points, CHART)
        notes = [missing or f"![CPU time over plain as sizes grow](../images/{CHART.name})"]
    whole = text.whole(
        rows,
        points,
        errors,
        about=page.measured_on(arguments.device, arguments.threads),
        notes=notes,
        left_out=left_out,
        seeds=seeds,
        device=arguments.device,
        quick=arguments.quick,
    )
    print(whole)
    if writes:
        (DOCS / f"gradnorm{'_cuda' if cuda else ''}.md").write_text(whole, encoding="utf-8")


def _measured(workload: Workload, pairs: int) -> list[Row]:
    found = compare(workload, pairs)
    for row in found:
        print(f"  {row.method}: {row.cpu or row.reason}", flush=True)
    gc.collect()
    return found


def _curves(chosen: list[str], pairs: int, arguments: argparse.Namespace) -> list[Point]:
    if CURVES not in chosen:
        return []
    print("== curves", flush=True)
    return curves.measure(max(3, pairs // 3), arguments.device, arguments.quick)


def _sketch_errors(
    chosen: list[str], made: dict[str, workloads.Make], seeds: int, device: str
) -> list[Errors]:
    if SKETCHED not in chosen:
        return []
    print("== sketch errors", flush=True)
    measured_on = [*(made[name] for name in "abc"), lambda: workloads.rank_one(64)]
    try:
        measured = [sketch_error.measure(make().to(device), seeds) for make in measured_on]
    except UnableError as reason:
        print(f"left out: {reason}", flush=True)
        return []
    return [error for errors in measured for error in errors]


def _arguments(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, 3 pairs; writes nothing")
    parser.add_argument("--only", action="append", choices=names, help="some; writes nothing")
    parser.add_argument("--pairs", type=int, help=f"rounds (default {PAIRS})")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default 1)")
    parser.add_argument("--no-write", action="store_true", help="print alone")
    return parser.parse_args()


if __name__ == "__main__":
    main()
