"""Writes what a reproduction found: Markdown, JSON, a page, and images."""

import json

from mmhealth.reference.experiments.drawings import drawings
from mmhealth.reference.experiments.images import write_images
from mmhealth.reference.experiments.page import render_page
from mmhealth.reference.experiments.reproduce import Reproduction
from mmhealth.reference.experiments.results import write_atomically
from mmhealth.reference.experiments.tables import arm_rows, as_json
from mmhealth.reference.experiments.words import markdown


def write_report(found: Reproduction, *, images: bool = True) -> str | None:
    """Write ``results.md``, ``results.json``, ``results.html`` and ``figures/*.png``.

    Returns why there are no images, if they are wanted and there are none.
    """
    out, seeds = found.plan.out, found.plan.seed_numbers()
    rows = arm_rows(found.arms, found.results)
    drawn = drawings(found.plan.figures, found.arms, found.results)
    content = as_json(rows, found.verdicts, seeds)
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    write_atomically(out / "results.json", text + "\n")
    write_atomically(out / "results.md", markdown(rows, found.verdicts, seeds))
    write_atomically(out / "results.html", render_page(rows, found.verdicts, drawn, seeds))
    return write_images(out / "figures", drawn) if images else None
