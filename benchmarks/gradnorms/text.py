"""The words around the tables of docs/benchmarks/gradnorm.md."""

from collections.abc import Sequence

from gradnorms import curves, page
from gradnorms.compare import PEERS_EVERY, Row
from gradnorms.curves import Point
from gradnorms.sketch_error import Errors
from gradnorms.workload import Workload

WHAT = f"""\
Plain is forward and backward pass of the same model, batch and loss, without norms. Every method
does the same training in the same process, has a copy of the model to itself and leaves the
gradients in `.grad`; it is timed until the norms of all trajectories are known. In each round every
method runs once (updates under 20 ms several times, those under 200 ms after one that is not
timed), in an order drawn anew; peers take part in every {PEERS_EVERY}rd round. A ratio is to plain
of the same round; given are the median and its 95 % bootstrap interval. *Plain again* is plain
training with another copy: what its ratio differs from 1 by is the noise of the machine.

- **Time** is CPU time of the process (on a GPU between CUDA events); wall time is beside it. It is
  *met* when the whole interval is at or under the bar, *missed* when all of it is above, and
  otherwise *not resolved*.
- **FLOPs** are of matrix products and attention alone, as `torch.utils.flop_counter` counts them
  (attention on the CPU, which it leaves out, by its formula for other devices). The same in every
  run.
- **Memory** is the largest number of bytes of tensors alive at a time during the two passes, with
  parameters and batch, as the allocator reports it. The same in every run.
"""

PEERS = """\
The loop gives every trajectory a forward and backward pass of its own, trimmed to its length, and
reads the norm from hooks on the parameters. Errors are relative to its norms, there summed in
float64: in float32 the sum alone is good to some 1e-5, the loop's own among them. Opacus and fastDP
are told that the loss is a sum and clip nothing; fastDP draws no noise and lets autograd compute no
weight gradient beside its own. Opacus measures a GRU only as its own DPGRU. BackPACK is asked for
linear layers (it has no rule for LayerNorm), so its error is the part of the norm that is missing.
`vmap` has no rule for the fused attention of the CPU and calls it once a trajectory.

*Ahead* is of time: *yes* and *no* where the intervals of the two ratios are disjoint. *Other norm*,
*other gradient*: what it measures, or leaves in `.grad`, differs by more than 0.1 % (with bfloat16
1 %): parameters are left out, or the Gram form cancels.
"""

SKETCH = """\
Relative to exact norms, root mean square over trajectories and {seeds} seeds of the projection; of
Gini and contribution ESS over the seeds. The errors of a model's layers are independent, and the
gradients of untrained models on random tokens have a high rank, so (a) to (c) are easy. *Rank 1*, a
single linear map of one token a trajectory, is the worst case: 1 / sqrt(2k) for the norm; the bars
are for (a) to (c).
"""

PREFER = """\
## When to prefer another way

- **A loop over trimmed trajectories** where trajectories are long enough to keep the machine busy
  alone and the batch is otherwise padded: it does no work on padding at all, and needs the memory
  of one trajectory. Packing them in one row is the other way to get rid of the padding. With one
  trajectory a micro-batch anyway, hooks on the parameters give exact norms at no memory.
- **`torch.func`** where gradients of single trajectories are wanted, not their norms alone, or an
  operation has no rule here.
- **Opacus, fastDP** for what they are made for: clipped, noised gradients with a privacy account.
- **Sketch** only where the weight's gradient cannot be owned; on the CPU it saves nothing.
"""


def whole(
    rows: Sequence[Row],
    points: Sequence[Point],
    errors: Sequence[Errors],
    *,
    about: str,
    notes: Sequence[str],
    left_out: Sequence[str],
    seeds: int,
    device: str,
    quick: bool,
) -> str:
    """The page in Markdown."""
    behind = page.behind(rows)
    parts = [
        "# Cost of per-trajectory gradient norms",
        *(["**Rough: made with `--quick`, on small sizes.**"] if quick else []),
        about,
        f"Written by `benchmarks/gradnorm.py`{'' if device == 'cpu' else ' --device cuda'}.",
        "## What is compared with what",
        WHAT,
        workloads([row.workload for row in rows]),
        f"Left out: {', '.join(left_out)}." if left_out else "",
        "## mmhealth, and what was promised",
        page.ours_table(rows),
        "## Other libraries",
        PEERS,
        page.peers_table(rows),
        "Where a peer took less time than mmhealth:" if behind else "",
        "\n".join(behind),
        PREFER,
        "## Cost as sizes grow",
        f"Around a decoder of {curves.BASE['depth']} blocks x {curves.BASE['width']}, "
        f"{curves.BASE['rows']} x {curves.BASE['time']} tokens, one size growing at a time.",
        page.curves_table(points),
        *notes,
        "## Error of sketched norms",
        SKETCH.format(seeds=seeds) if errors else "Not measured: mmhealth has no sketch yet.",
        page.sketch_table(errors) if errors else "",
        gpu(device),
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def workloads(all_of_them: Sequence[Workload]) -> str:
    """What the names mean."""
    about = {w.name: w.about for w in all_of_them}
    return "\n".join(f"- **{name}**: {words}" for name, words in about.items())


def gpu(device: str) -> str:
    """What there is of GPU figures."""
    if device == "cuda":
        return ""
    return (
        "## On a GPU\n\nUnmeasured. `python benchmarks/gradnorm.py --device cuda` writes the same "
        "tables for bfloat16 autocast, timed by CUDA events, to `gradnorm_cuda.md`. Ratios of the "
        "CPU do not carry over: where products are fast, the two passes over each weight for each "
        "trajectory weigh more."
    )
